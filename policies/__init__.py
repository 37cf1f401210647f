"""Checkpoints behind one contract: load, pre- and post-process, predict action chunks."""
