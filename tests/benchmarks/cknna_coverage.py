"""Measures by simulation how often the intervals of `cknna/jackknife.py` cover the true score.

    uv run python -m tests.benchmarks.cknna_coverage

It takes some minutes. An experiment is E episodes of a hidden random walk in 6 dimensions. The
state is the walk, and the features are 12 noisy linear views of it (more noise, a lower score). It
is repeated with new episodes. The true score is the mean over the repetitions at that number of
rows: CKNNA depends on n, and the 95 % interval describes how the score varies between sets of as
many episodes.

- covers: share of the repetitions whose interval contains the true score, and its Wilson interval.
- too wide: root mean square of the standard errors over the standard deviation of the scores. A
  value of 1 is calibrated.
- paired: how often the paired test finds a difference (p <= 0.05) between two views of the same
  noise. A value of 0.05 is exact.
"""

from dataclasses import dataclass

import numpy as np
import tyro

from cknna.jackknife import compute_interval, compute_paired_test
from cknna.score import search
from eval.proportions import compute_wilson_interval

_HIDDEN = 6
_VIEWED = 12


@dataclass(frozen=True)
class Setting:
    """One kind of experiment; `step_noise` is the views' noise in units of a step of the walk."""

    n_episodes: int
    length: int
    k: int = 5
    step_noise: float = 3.0
    variant: str = "unbiased"
    starts_in_one_pose: bool = False


SETTINGS = (
    Setting(10, 20),
    Setting(30, 7, k=10),
    Setting(
        30,
        7,
        k=10,
        starts_in_one_pose=True,
    ),
    Setting(
        30,
        7,
        k=10,
        variant="row-centred",
    ),
    Setting(
        30,
        20,
        k=10,
        step_noise=1.0,
    ),
    Setting(
        30,
        20,
        k=10,
        step_noise=10.0,
    ),
    Setting(60, 10, k=10),
)


@dataclass(frozen=True)
class Coverage:
    """Results of the repetitions of a setting."""

    score: float
    spread: float
    n_covered: int
    n_repetitions: int
    too_wide: float
    n_significant: int


def measure(setting, n_repetitions):
    intervals = []
    n_significant = 0
    projection = np.random.default_rng(5).standard_normal((_HIDDEN, _VIEWED))
    episode = np.repeat(np.arange(setting.n_episodes), setting.length)
    for repetition in range(n_repetitions):
        rng = np.random.default_rng([repetition, setting.n_episodes, setting.length])
        steps = rng.standard_normal((setting.n_episodes, setting.length, _HIDDEN))
        if setting.starts_in_one_pose:
            # The cosine of a row at the origin is undefined, so the common start lies elsewhere.
            steps[:, 0] = 1
        hidden = np.cumsum(steps, axis=1).reshape(-1, _HIDDEN)
        noise = setting.step_noise * rng.standard_normal((2, len(hidden), _VIEWED))
        first, second = hidden @ projection + noise
        a, b = search(
            first,
            hidden,
            [setting.k],
            depth=2,
        )
        other, _ = search(
            second,
            hidden,
            [setting.k],
            depth=2,
        )
        scored = (b, setting.k, episode, setting.variant)
        intervals.append(compute_interval(a, *scored))
        n_significant += compute_paired_test(a, other, *scored).p_value <= 0.05
    scores = [interval.value for interval in intervals]
    true = float(np.mean(scores))
    spread = float(np.std(scores, ddof=1))
    standard_errors = np.array([interval.standard_error for interval in intervals])
    return Coverage(
        score=true,
        spread=spread,
        n_covered=sum(interval.low <= true <= interval.high for interval in intervals),
        n_repetitions=n_repetitions,
        too_wide=float(np.sqrt(np.mean(standard_errors**2))) / spread,
        n_significant=n_significant,
    )


def main(repetitions: int = 300) -> None:
    """Measure every setting and print the results.

    Args:
        repetitions: number of experiments of each setting.
    """
    print(f"95 % intervals of {repetitions} experiments each")
    for setting in SETTINGS:
        found = measure(setting, repetitions)
        low, high = compute_wilson_interval(found.n_covered, found.n_repetitions)
        print(
            f"{setting}\n    score {found.score:.3f} ± {found.spread:.3f}, "
            f"covers {found.n_covered / repetitions:.3f} "
            f"({low:.3f} to {high:.3f}), {found.too_wide:.2f} times too wide, "
            f"paired {found.n_significant / repetitions:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    tyro.cli(main)
