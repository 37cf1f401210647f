"""Kinds of goals: the stages, measures and thresholds that each has."""
