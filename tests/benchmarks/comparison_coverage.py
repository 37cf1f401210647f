"""Measures how often the intervals of `eval-compare` cover the true difference.

    uv run python -m tests.benchmarks.comparison_coverage

- one task: the sum over every possible table, at success rates from 10 % to 98 % and three
  correlations, compared with Newcombe's method 10 (R. G. Newcombe, Statistics in Medicine 17
  (1998), 2635-2650).
- several tasks of different difficulty: a simulation.
"""

from functools import cache
from itertools import product

import numpy as np
from rich.console import Console
from scipy.stats import multinomial

from eval.paired_statistics import PairedCounts, compute_correlation, compute_difference_interval
from eval.proportions import compute_wilson_interval
from tests.benchmarks.measuring import make_table

RATES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
CORRELATIONS = (0.0, 0.3, 0.6)
N_STUDIES = 1000


def compute_newcombe_interval(counts):
    """Return Newcombe's interval, which `eval-compare` is compared with.

    It combines the Wilson intervals of both rates by a correlation with a correction for
    continuity.
    """
    n = counts.n
    first = counts.n_first / n
    second = counts.n_second / n
    l1, u1 = compute_wilson_interval(counts.n_first, n)
    l2, u2 = compute_wilson_interval(counts.n_second, n)
    product_ = counts.both * counts.neither - counts.only_first * counts.only_second
    corrected = max(product_ - n / 2, 0) if product_ > 0 else product_
    phi = compute_correlation(counts)
    phi = 0.0 if np.isnan(phi) or product_ == 0 else phi * corrected / product_
    below = (first - l1) ** 2 - 2 * phi * (first - l1) * (u2 - second) + (u2 - second) ** 2
    above = (u1 - first) ** 2 - 2 * phi * (u1 - first) * (second - l2) + (second - l2) ** 2
    difference = first - second
    return difference - np.sqrt(max(below, 0)), difference + np.sqrt(max(above, 0))


def make_shares(first, second, correlation):
    """Return the probabilities of success: of both, only the first, only the second, neither."""
    both = first * second + correlation * np.sqrt(first * (1 - first) * second * (1 - second))
    return np.array([both, first - both, second - both, 1 - first - second + both])


def sum_over_tables(n):
    """Return method → its coverage at each possible combination of rates and correlation."""
    tables = []
    ends = {
        "Tango": [],
        "Newcombe": [],
    }
    compute_tango_interval = cache(
        lambda b, c: compute_difference_interval(
            [
                PairedCounts(
                    0,
                    b,
                    c,
                    n - b - c,
                )
            ]
        )
    )
    for rest in product(range(n + 1), repeat=3):
        if sum(rest) <= n:
            counts = PairedCounts(n - sum(rest), *rest)
            tables.append((n - sum(rest), *rest))
            ends["Tango"].append(compute_tango_interval(*rest[:2]))
            ends["Newcombe"].append(compute_newcombe_interval(counts))
    covered = {name: [] for name in ends}
    for first, second, correlation in product(RATES, RATES, CORRELATIONS):
        shares = make_shares(first, second, correlation)
        if first > second or shares.min() < 0:
            continue
        chances = multinomial.pmf(tables, n, shares)
        for name, intervals in ends.items():
            low, high = np.transpose(intervals)
            inside = (low <= first - second + 1e-9) & (first - second - 1e-9 <= high)
            covered[name].append(float(chances[inside].sum()))
    return covered


def simulate_tasks(n_tasks, n, base, spread, gain, unlike):
    """Return the coverage for tasks that differ in their rates and in their differences."""
    rng = np.random.default_rng(0)
    differences = gain + unlike * np.cos(2.4 * np.arange(n_tasks))
    first = np.clip(
        base + np.linspace(-spread, spread, n_tasks),
        0.005,
        0.995,
    )
    second = np.clip(first + differences, 0.005, 0.995)
    shares = make_shares(first, second, 0.0).clip(0).T
    n_covered = 0
    for _ in range(N_STUDIES):
        studied = [PairedCounts(*rng.multinomial(n, each).tolist()) for each in shares]
        low, high = compute_difference_interval(studied)
        n_covered += low <= (first - second).mean() <= high
    return n_covered / N_STUDIES


def main():
    title = "one task: coverage of 95 % intervals over every table"
    table = make_table(
        title,
        "episodes",
        "method",
        "mean",
        "least",
    )
    for n in (10, 20, 50):
        for name, covered in sum_over_tables(n).items():
            table.add_row(
                str(n),
                name,
                f"{np.mean(covered):.1%}",
                f"{min(covered):.1%}",
            )
    Console().print(table)
    title = f"several tasks: coverage in {N_STUDIES} studies each"
    heads = ("tasks", "episodes a task", "first rates", "differences", "coverage")
    table = make_table(title, *heads)
    worlds = (
        (0.5, 0.3, 0.1, 0.0),
        (0.5, 0.45, 0.0, 0.3),
        (0.9, 0.09, 0.02, 0.05),
        (0.3, 0.25, 0.2, 0.2),
    )
    for (n_tasks, n), world in product(((2, 20), (10, 5), (10, 50), (40, 5)), worlds):
        base, spread, gain, unlike = world
        covered = simulate_tasks(n_tasks, n, *world)
        table.add_row(
            str(n_tasks),
            str(n),
            f"{base} ± {spread}",
            f"{gain} ± {unlike}",
            f"{covered:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
