"""The report of a run: one self-contained page, and the parts that it is put together from."""
