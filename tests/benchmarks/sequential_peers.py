"""Compares the test of `eval --against --until-decided` with published sequential tests.

    uv run python -m tests.benchmarks.sequential_peers
    uv run python -m tests.benchmarks.sequential_peers --sequences <folder>

D. Snyder et al., "Is Your Imitation Learning Policy Better than Mine? Policy Comparison with
Near-Optimal Stopping", RSS 2025, arXiv 2503.10966, publish the episode at which each of four tests
decides on their recorded evaluations of two policies. The figures are those of the table on their
page, https://tri-ml.github.io/step: SAVI (Turner and Grünwald, arXiv 2302.11401), Lai (Annals of
Statistics 16 (1988), 856-886), STEP, which is theirs, and Wald's test with both rates known.

- simulated: 10,000 studies with the same two rates, in which the two policies are independent.
- on their recordings: with `--sequences`, the folder `tests/eval_data` of a checkout of
  https://github.com/TRI-ML/sequentialized_barnard_tests. That package and its data are for
  non-commercial use, and Whisker contains neither.

Their tests allow an error of alpha in each direction. Ours allows alpha in both together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console

from eval.paired_statistics import PairedCounts
from eval.sequential_test import compute_e_value
from tests.benchmarks.comparison_coverage import make_shares
from tests.benchmarks.measuring import make_table
from tests.benchmarks.sequential_test import find_ends, simulate

N_MOST = 500
PAIRED = 0.3


class Published(NamedTuple):
    """A row of their table.

    Attributes:
        file: name of the recorded evaluation.
        alpha: allowed error.
        rates: success rates of the two policies.
        savi, lai, step, oracle: episode at which each test decides.
    """

    task: str
    file: str
    alpha: float
    rates: tuple[float, float]
    savi: int
    lai: int
    step: int
    oracle: int


# Of the rows with two values of N_max, these have N_max = 200. The others have 500.
PUBLISHED = (
    Published("FoldRedTowel", "TRI_FOLD_RED_TOWEL", 0.05, (0.56, 0.92), 20, 20, 21, 17),
    Published("CleanUpSpill", "TRI_CLEAN_SPILL_v2", 0.05, (0.30, 0.76), 22, 24, 22, 17),
    Published("SpoonOnTowel", "TRI_SIM_SPOON_ON_TOWEL", 0.01, (0.084, 0.386), 33, 35, 33, 26),
    Published(
        "EggplantInBasket", "TRI_SIM_EGGPLANT_IN_BASKET", 0.01, (0.4, 0.564), 192, 123, 119, 128
    ),
    Published("StackCube", "TRI_SIM_STACK_CUBE", 0.01, (0.0, 0.03), 329, 403, 199, 135),
)


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark.

    Attributes:
        sequences: folder with the recorded evaluations. Default: they are left out.
    """

    sequences: Path | None = None


@cache
def make_test(alpha: float) -> Callable[[PairedCounts], bool]:
    """Return the test with an error of at most alpha. It is `is_decisive` at 5 %."""
    return lambda counts: compute_e_value(counts) >= 1 / alpha


def find_decision(file: Path, alpha: float) -> str:
    """Return the episode at which our test decides on a recorded evaluation of two policies."""
    first, second = np.load(file).astype(bool).T
    only_first = np.cumsum(first & ~second)
    only_second = np.cumsum(second & ~first)
    ends = find_ends(N_MOST, make_test(alpha))[only_first, only_second]
    return str(ends.argmax() + 1) if ends.any() else "-"


def describe_studies(published: Published, correlation: float) -> str:
    """Return the mean number of episodes, and how many studies decide.

    A policy that always or never succeeds has no correlation with another one: "-".
    """
    shares = make_shares(*published.rates, correlation)
    if correlation and not all(0 < rate < 1 for rate in published.rates):
        return "-"
    studies = simulate(shares, N_MOST, make_test(published.alpha))
    return f"{studies.n_mean:.0f} ({studies.decided:.1%} decide)"


def main(options: Benchmark) -> None:
    columns = (
        "task",
        "rates",
        "alpha",
        "SAVI",
        "Lai",
        "STEP",
        "rates known",
        "ours, same recording",
        "ours, simulated",
        f"ours, simulated at correlation {PAIRED}",
    )
    table = make_table("episode of the decision", *columns)
    for each in PUBLISHED:
        recorded = "-"
        if options.sequences is not None:
            recorded = find_decision(options.sequences / f"{each.file}.npy", each.alpha)
        table.add_row(
            each.task,
            "{:.1%}, {:.1%}".format(*each.rates),
            f"{each.alpha}",
            f"{each.savi}",
            f"{each.lai}",
            f"{each.step}",
            f"{each.oracle}",
            recorded,
            describe_studies(each, 0.0),
            describe_studies(each, PAIRED),
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
