"""Measures the error of `eval --against --until-decided`, and the episodes that it takes.

    uv run python -m tests.benchmarks.sequential_test

Each of 10,000 simulated studies looks after every episode and ends when the test decides, or at
`--most`. Its number of episodes is compared with that of McNemar's exact test, which may look only
once, for 80 % power at a level of 5 %.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from eval.compared_runs import SIGNIFICANT
from eval.paired_statistics import PairedCounts, compute_mcnemar_p
from eval.power import find_exact_paired_size
from eval.sequential_test import is_decisive
from tests.benchmarks.comparison_coverage import make_shares

N_STUDIES = 10_000
EQUAL_RATES = (0.05, 0.2, 0.5, 0.8, 0.95)
DIFFERENT_RATES = ((0.9, 0.8), (0.9, 0.7), (0.8, 0.4), (0.6, 0.5), (0.6, 0.4), (0.98, 0.9))
CORRELATIONS = (0.0, 0.3, 0.6)
MOST_IF_EQUAL = 500


class Studies(NamedTuple):
    """The results of simulated studies.

    Attributes:
        decided: share of studies that decided.
        wrong: share of studies that decided for the policy that is not better.
        n_mean: mean number of episodes at the end.
    """

    decided: float
    wrong: float
    n_mean: float


def simulate(
    shares: np.ndarray, most: int, decides_at: Callable[[PairedCounts], bool] = is_decisive
) -> Studies:
    """Run studies of two policies.

    Args:
        shares: probabilities of success, from `make_shares`.
        most: episodes after which a study ends undecided.
        decides_at: the test, which is looked at after each episode.
    """
    ends_at = find_ends(most, decides_at)
    rng = np.random.default_rng(0)
    kinds = rng.choice(
        4,
        size=(N_STUDIES, most),
        p=shares,
    )
    only_first = np.cumsum(kinds == 1, axis=1)
    only_second = np.cumsum(kinds == 2, axis=1)
    decides = ends_at[only_first, only_second]
    decided = decides.any(axis=1)
    last = np.where(decided, decides.argmax(axis=1), most - 1)
    study = np.arange(N_STUDIES)
    is_wrong = decided & (only_first[study, last] < only_second[study, last])
    return Studies(decided.mean(), is_wrong.mean(), (last + 1).mean())


def is_significant(counts: PairedCounts) -> bool:
    """Return whether McNemar's test finds a difference: the test that may be looked at once."""
    return compute_mcnemar_p(counts) < SIGNIFICANT


@cache
def find_ends(most: int, decides_at: Callable[[PairedCounts], bool]) -> np.ndarray:
    """Return whether the test decides, by the episodes that only the first and the second solve."""
    ends = np.zeros((most + 1, most + 1), bool)
    for b, c in product(range(most + 1), repeat=2):
        if b + c <= most and max(b, c) > 4:
            ends[b, c] = decides_at(
                PairedCounts(
                    0,
                    b,
                    c,
                    0,
                )
            )
    return ends


def make_all_shares(
    rates: tuple[tuple[float, float], ...],
) -> Iterator[tuple[float, float, float, np.ndarray]]:
    """Yield both rates, the correlation, and the probabilities, where these exist."""
    for (first, second), correlation in product(rates, CORRELATIONS):
        shares = make_shares(first, second, correlation)
        if (shares >= 0).all():
            yield first, second, correlation, shares


def main() -> None:
    """Print a table of errors and one of episodes."""
    errors = Table(
        "both succeed",
        "correlation",
        f"decided by {MOST_IF_EQUAL} episodes",
        "McNemar's test, looked at as often",
    )
    for rate, _, correlation, shares in make_all_shares(tuple((r, r) for r in EQUAL_RATES)):
        studies = simulate(shares, MOST_IF_EQUAL)
        peeking = simulate(shares, MOST_IF_EQUAL, is_significant)
        errors.add_row(
            f"{rate:.0%}",
            f"{correlation}",
            f"{studies.decided:.2%}",
            f"{peeking.decided:.0%}",
        )
    Console().print(errors)
    columns = (
        "rates",
        "correlation",
        "McNemar, 80 % power",
        "decided by as many",
        "decided by twice as many",
        "mean episodes",
        "wrong",
    )
    episodes = Table(*columns)
    for first, second, correlation, shares in make_all_shares(DIFFERENT_RATES):
        fixed = find_exact_paired_size(float(shares[1]), float(shares[2]))
        studies = simulate(shares, 2 * fixed)
        episodes.add_row(
            f"{first:.0%}, {second:.0%}",
            f"{correlation}",
            f"{fixed}",
            f"{simulate(shares, fixed).decided:.0%}",
            f"{studies.decided:.0%}",
            f"{studies.n_mean:.0f}",
            f"{studies.wrong:.2%}",
        )
    Console().print(episodes)


if __name__ == "__main__":
    main()
