"""Wraps robosuite: exact arm control, clock and cameras without redundant work, for any task."""
