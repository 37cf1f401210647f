"""Keeps the import path of `open_recording` that `cknna.cli` uses."""

from cknna.recordings import open_recording

__all__ = ["open_recording"]
