"""Measures the time that the scene certificate adds to a reset.

Run it by `uv run python -m tests.benchmarks.scenes [--env libero_spatial/0]`.
"""

from contextlib import closing
from dataclasses import dataclass
from statistics import median
from time import process_time_ns

import tyro

from sim.libero_bench.env import make_libero

_REPEATS = 20


@dataclass(frozen=True)
class Config:
    """Compare the CPU time of a reset with that of the certificate's check."""

    env: str = "libero_spatial/0"
    """Environment of LIBERO."""


def measure(config):
    """Print the medians and their ratio; the two are measured in turn."""
    with closing(make_libero(config.env, image_sizes={})) as env:
        env.reset(0)
        resets = []
        checks = []
        for episode_index in range(_REPEATS):
            start_ns = process_time_ns()
            env.begin_episode(episode_index)
            reset_end_ns = process_time_ns()
            env.check_scene(episode_index)
            checks.append(process_time_ns() - reset_end_ns)
            resets.append(reset_end_ns - start_ns)
    share = median(checks) / median(resets)
    print(
        f"{config.env}: a reset {median(resets) / 1e6:.1f} ms, "
        f"its check {median(checks) / 1e3:.0f} us: {share:.2%}"
    )


if __name__ == "__main__":
    measure(tyro.cli(Config))
