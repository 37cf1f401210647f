"""Representations collected during rollouts, and how well they are aligned (CKNNA)."""
