"""Policies that run in another process or on another machine, behind a server."""
