"""Divides the starts of episodes into cells that hold enough episodes to be judged.

If all n episodes of a cell succeed, the lower end of the Wilson 95 % interval is n / (n + z²). It
is above one half if n > z² = 3.84. A cell with fewer than `LEAST_IN_CELL` = 4 episodes therefore
cannot be distinguished from a coin toss, even if all succeed, and it gets no colour.

The number of cells is the largest K for which at most one cell in ten is expected to hold fewer
episodes than that, if the starts are spread evenly: P(B < 4) ≤ 0.1 for a binomial B of n episodes
and probability 1 / K. Two cells take 12 episodes, and six take 40.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.stats import binom

from viz.report.start_scalars import StartScalar

LEAST_IN_CELL = 4
_SHARE_OF_THIN_CELLS = 0.1
_MOST_CELLS = 64

Starts = Float[np.ndarray, "episode axis"]


@dataclass(frozen=True)
class Axis:
    """One axis of a map.

    Attributes:
        edges: edges of the bins, ascending; the last bin includes its upper edge.
    """

    name: str
    unit: str
    edges: Float64[np.ndarray, " edge"]

    @property
    def label(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def make_axes(scalars: Sequence[StartScalar], values: Starts) -> list[Axis]:
    """Return axes that span the values, with bins whose cells are roughly square."""
    low = values.min(axis=0)
    high = values.max(axis=0)
    n_bins = _choose_bins(find_most_cells(len(values)), high - low)
    axes = []
    for i, scalar in enumerate(scalars):
        edges = np.linspace(
            low[i],
            high[i],
            n_bins[i] + 1,
        )
        axes.append(Axis(scalar.name, scalar.unit, edges))
    return axes


def count_cells(axes: Sequence[Axis], values: Starts) -> Int64[np.ndarray, "x_bin y_bin"]:
    """Return the number of episodes in each cell; one column for a single axis."""
    counts, _ = np.histogramdd(values, [axis.edges for axis in axes])
    return counts.reshape(len(counts), -1).astype(np.int64)


@cache
def find_most_cells(n: int) -> int:
    """Return the number of cells for n episodes, as derived in the docstring of this module."""
    cells = np.arange(1, _MOST_CELLS + 1)
    thin_share = binom.cdf(LEAST_IN_CELL - 1, n, 1 / cells)
    allowed = cells[thin_share <= _SHARE_OF_THIN_CELLS]
    return int(allowed.max()) if len(allowed) else 1


@cache
def find_least_episodes() -> int:
    """Return the number of episodes from which there is more than one cell."""
    n = 1
    while find_most_cells(n) < 2:
        n += 1
    return n


def _choose_bins(
    n_cells: int,
    extent: Float[np.ndarray, " axis"],
) -> tuple[int, ...]:
    """Return the bins of each axis, for at most `n_cells` cells that are nearly square."""
    if len(extent) == 1:
        return (n_cells,)

    def cost(bins: tuple[int, int]) -> float:
        width, height = extent / bins
        elongation = abs(float(np.log(width / height)))
        return elongation - float(np.log(bins[0] * bins[1]))

    candidates = product(range(1, n_cells + 1), repeat=2)
    return min(((nx, ny) for nx, ny in candidates if nx * ny <= n_cells), key=cost)
