"""Small checkpoints that the public originals wrote and ran, beside the repository."""

from pathlib import Path

import pytest

TWINS = Path(__file__).parents[2] / "shared" / "data" / "twins"


def find_twin(name):
    """Return the folder of a twin, or skip the test."""
    folder = TWINS / name
    if not folder.is_dir():
        pytest.skip(f"the outputs of the original are not here: {folder}")
    return folder
