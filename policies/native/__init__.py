"""Policies that are not of lerobot, written from their equations."""
