"""Kinds of goals, each with its stages, measures and thresholds."""
