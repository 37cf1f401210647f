"""Seeds numpy's global generator, from which robosuite draws the initial state of an episode."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded_global_generator(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, and restore its state afterwards.

    So nothing else depends on what robosuite draws.
    """
    global_state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(global_state)  # noqa: NPY002
