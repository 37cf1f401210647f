"""Two policies on the same episodes: the test, the interval of their difference, and corrections for several pairs."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt

from eval.proportions import compute_normal_quantile

# Halvings of the interval in which an end is looked for.
_N_HALVINGS = 60


@dataclass(frozen=True)
class PairedCounts:
    """Counts episodes by which of two policies succeeded in them."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def n_first(self) -> int:
        """Return the successes of the first policy."""
        return self.both + self.only_first

    @property
    def n_second(self) -> int:
        return self.both + self.only_second

    @property
    def n_discordant(self) -> int:
        return self.only_first + self.only_second

    @property
    def difference(self) -> float:
        """Return the first success rate less the second; nan without episodes."""
        return (self.only_first - self.only_second) / self.n if self.n else nan

    def __add__(self, other: "PairedCounts") -> "PairedCounts":
        return PairedCounts(
            self.both + other.both,
            self.only_first + other.only_first,
            self.only_second + other.only_second,
            self.neither + other.neither,
        )


def compute_mcnemar_p(counts: PairedCounts) -> float:
    """Return the two-sided p value of McNemar's exact test, from whole numbers.

    If neither policy is better in any episode, each episode that only one of them solves is as
    likely to be the one's as the other's, whatever its task. So the counts of several tasks may be
    added up.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12 (1947).
    """
    n, fewer = counts.n_discordant, min(counts.only_first, counts.only_second)
    term = n_ways = 1
    for k in range(1, fewer + 1):
        term = term * (n - k + 1) // k
        n_ways += term
    # A quotient of whole numbers is rounded once, however large they are.
    return min(1.0, 2 * n_ways / 2**n)


def compute_macro_difference(strata: Collection[PairedCounts]) -> float:
    """Return the mean of the tasks' differences: each counts alike.

    nan where one has no episode, or there is none.
    """
    return sum(counts.difference for counts in strata) / len(strata) if strata else nan


def compute_difference_interval(
    strata: Sequence[PairedCounts], confidence: float = 0.95
) -> tuple[float, float]:
    """Return the score interval of the mean over tasks of the difference of two success rates on the same episodes.

    It has every δ with |D - δ| ≤ z sqrt(Σ v_t(δ)) / T, where D is the mean over the T tasks of
    their differences, and v_t(δ) the variance of a task's difference at its likeliest rates with
    that difference. For one task this is the interval of Tango, whose test at δ = 0 is McNemar's.
    That a score test of strata adds up their variances at one common δ makes the interval somewhat
    too wide where the tasks' differences differ much; its coverage was 94.7 % to 97.3 % in
    simulations of 2 to 40 tasks (docs/comparison.md).

    Returns:
        (nan, nan) where a task has no episode, or there is none.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17 (1998).
    """
    difference = compute_macro_difference(strata)
    if not strata or any(counts.n == 0 for counts in strata):
        return nan, nan
    scaled = (compute_normal_quantile(confidence) / len(strata)) ** 2
    ends = []
    for end in (-1.0, 1.0):
        inside, outside = difference, end
        for _ in range(_N_HALVINGS):
            middle = 0.5 * (inside + outside)
            variance = sum(_compute_variance(counts, middle) for counts in strata)
            if (difference - middle) ** 2 <= scaled * variance:
                inside = middle
            else:
                outside = middle
        ends.append(inside)
    return ends[0], ends[1]


def _compute_variance(counts: PairedCounts, difference: float) -> float:
    """Return the variance of the observed difference if the true one is `difference`: (2q + δ(1 - δ)) / n.

    q, the likeliest probability that only the second succeeds, is the larger root of 2n q² + (δ(2n
    - b + c) - b - c) q - c δ(1 - δ) = 0 with b and c the episodes that only the first and only the
    second solve.
    """
    n, b, c = counts.n, counts.only_first, counts.only_second
    linear = difference * (2 * n - b + c) - b - c
    constant = -c * difference * (1 - difference)
    q = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    return max(0.0, 2 * q + difference * (1 - difference)) / n


def compute_correlation(counts: PairedCounts) -> float:
    """Return the correlation of the two policies' successes over episodes (φ); nan where one always ends alike."""
    n, first, second = counts.n, counts.n_first, counts.n_second
    spread = first * (n - first) * second * (n - second)
    return (
        (counts.both * counts.neither - counts.only_first * counts.only_second) / sqrt(spread)
        if spread
        else nan
    )


def correct_by_holm[Key: Hashable](p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return the p values as corrected for their number, in the same order.

    The i-th smallest of m is multiplied by m - i + 1, and none may be less than one before it.
    Where those below 0.05 are taken for differences, the chance that any of them is none is at most
    5 %.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics
    6 (1979).
    """
    corrected: dict[Key, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, p_values[key] * (len(p_values) - rank)))
        corrected[key] = largest
    return {key: corrected[key] for key in p_values}


def find_letters(n: int, different: Collection[tuple[int, int]]) -> list[str]:
    """Return the compact letter display: two of `n` things share a letter if and only if they are not told apart.

    Every letter stands for a largest group in which no two differ. They are handed out in the order
    of the things: if these are sorted by success, "a" is of the best.

    Args:
        different: pairs (i, j), i < j, that differ.

    Source: H.-P. Piepho, "An algorithm for a letter-based representation of all-pairwise
    comparisons", J. Comput. Graph. Stat. 13 (2004).
    """
    groups = [frozenset(range(n))]
    for i, j in sorted(different):
        split = [
            part
            for group in groups
            for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))
        ]
        unique = list(dict.fromkeys(split))
        groups = [group for group in unique if not any(group < other for other in unique)]
    groups.sort(key=sorted)
    return [
        "".join(_name_letter(k) for k, group in enumerate(groups) if i in group) for i in range(n)
    ]


def _name_letter(k: int) -> str:
    """Return a, b, ..., z, then a1, b1, ..."""
    return chr(ord("a") + k % 26) + (str(k // 26) if k >= 26 else "")
