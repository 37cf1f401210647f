"""Finds what makes a success rate wrong, in a policy and its environment or in a run folder."""
