"""Checks feature matrices and scales their rows to unit length.

    a_i = x_i / |x_i|        so that the kernel K_ij = a_i · a_j is the cosine of two rows

A feature matrix is (n, dim). Row i is the same moment in both matrices of a pair. A matrix may be
a `np.memmap` larger than memory. It is read block by block, and its unit rows are kept only if
they fit in `KEPT_BYTES`.

Cosines are computed from the features in float64. Unit rows in float32 are used by the search only,
to decide which cosines are worth computing. Rounding to float32 moves a cosine by about 1e-8, and
rows with a large common mean (as in a trained network) may differ by less than that.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int

from sim.errors import WhiskerError

# The unbiased HSIC divides by n - 3.
MIN_ROWS = 4
MIN_K = 2
# Float32 unit rows up to this size stay in memory. Larger ones are read again at each pass.
KEPT_BYTES = 1 << 30
# Float64 blocks of this size stay in the processor's cache.
BLOCK_BYTES = 1 << 19
_NAMED_ROWS = 5
# Unit rows this close in every column have one direction, up to the rounding of float64.
_ONE_DIRECTION = 2.0**-45

type Rows = slice | Int[np.ndarray, " rows"]
type _Exact = Float64[np.ndarray, "rows dim"]


class NormalizedFeatures:
    """The rows of a feature matrix at unit length, in float64 and rounded to float32.

    Attributes:
        mean: (dim,) mean of the unit rows, float64.

    Raises:
        WhiskerError: the input is not a matrix of real numbers, it has fewer than 4 rows, a row is
            not finite or is zero (it has no direction), or all rows have one direction (every
            neighbourhood is a tie). The message names the rows.
    """

    def __init__(
        self,
        features: np.ndarray,
        name: str = "features",
    ) -> None:
        self.name = name
        self._source = _check_matrix(features, name)
        self.n, self.dim = self._source.shape
        self._norms = np.empty(self.n)
        self._kept: Float32[np.ndarray, "n dim"] | None = None
        shape = self._source.shape
        kept = np.empty(shape, np.float32) if 4 * self._source.size <= KEPT_BYTES else None
        total = np.zeros(self.dim)
        first = self._normalise(slice(1))
        is_constant = True
        for block in self.blocks():
            unit = self._normalise(block)
            is_constant &= bool((np.abs(unit - first) <= _ONE_DIRECTION).all())
            total += unit.sum(0)
            if kept is not None:
                kept[block] = unit
        self._check(is_constant)
        self._kept = kept
        self.mean = total / self.n

    def blocks(self) -> Iterator[slice]:
        """Return slices of rows, none larger than `BLOCK_BYTES` in float64 (or than one row)."""
        return cut(self.n, max(1, BLOCK_BYTES // (8 * self.dim)))

    def take(self, which: Rows) -> Float32[np.ndarray, "rows dim"]:
        """Return these unit rows in float32, in that order. Do not write to the result."""
        if self._kept is not None:
            return self._kept[which]
        return self.take_exact(which).astype(np.float32)

    def take_exact(self, which: Rows) -> _Exact:
        """Return these unit rows in float64, in that order."""
        rows = self._read(which)
        # Dividing in place avoids fresh memory, which would cost as much as the division.
        rows /= self._norms[which][:, None]
        return rows

    def compute_cosines(
        self,
        left: Int[np.ndarray, " pair"],
        right: Int[np.ndarray, " pair"],
    ) -> Float64[np.ndarray, " pair"]:
        """Return the cosine of each pair of rows in float64. Copies of a row give equal bits."""
        # A matrix product would sum in an order that depends on the other rows.
        products = np.vecdot(self._read(left), self._read(right))
        return products / (self._norms[left] * self._norms[right])

    def compute_row_means(self, block: slice) -> Float64[np.ndarray, " rows"]:
        """Return the mean cosine of these rows to all rows, themselves included: a_i · mean(A)."""
        return self._read(block) @ self.mean / self._norms[block]

    def _read(self, which: Rows) -> _Exact:
        return np.asarray(self._source[which]).astype(np.float64, order="C")

    def _normalise(self, block: slice) -> _Exact:
        rows = self._read(block)
        norms = np.sqrt(np.vecdot(rows, rows))
        self._norms[block] = norms
        with np.errstate(divide="ignore", invalid="ignore"):
            rows /= norms[:, None]
        return rows

    def _check(self, is_constant: bool) -> None:
        _refuse(
            self.name,
            ~np.isfinite(self._norms),
            expected="finite numbers",
            got="NaN, infinity or an overflow",
        )
        _refuse(
            self.name,
            self._norms == 0,
            expected="rows that can be normalised",
            got="only zeros",
            hint="A row needs a direction.",
        )
        if is_constant:
            raise WhiskerError(
                self.name,
                expected="rows in more than one direction",
                got=f"the same direction in all {self.n} rows",
                hint="A constant feature has no neighbourhoods. Check the hook point and the "
                "pooling.",
            )


def cut(n: int, height: int) -> Iterator[slice]:
    """Yield consecutive slices of 0 .. n - 1 with `height` rows; the last may be shorter."""
    for start in range(0, n, height):
        yield slice(start, min(start + height, n))


def make_pair(
    features_a: np.ndarray,
    features_b: np.ndarray,
) -> tuple[NormalizedFeatures, NormalizedFeatures]:
    """Check and normalise both matrices, which must have the same number of rows."""
    rows_a = NormalizedFeatures(features_a, "features_a")
    rows_b = NormalizedFeatures(features_b, "features_b")
    if rows_a.n != rows_b.n:
        raise WhiskerError(
            "features_a and features_b",
            expected="as many rows in both (row i is one moment)",
            got=f"{rows_a.n} and {rows_b.n}",
            hint="Take both from one bank, or align them before scoring.",
        )
    return rows_a, rows_b


def check_topk(topk: Sequence[int], n: int) -> None:
    """Check that every k is in 2 .. n - 1. With k = n - 1 all other rows are neighbours."""
    for k in topk:
        if not MIN_K <= k < n:
            raise WhiskerError(
                f"k = {k}",
                expected=f"{MIN_K} <= k < n = {n}",
                hint="Choose a smaller k, or collect more rows.",
            )
    if not topk:
        raise WhiskerError(
            "topk",
            expected="at least one k",
            got="none",
        )


def check_groups(
    groups: np.ndarray,
    n: int,
    name: str = "groups",
) -> Int[np.ndarray, " n"]:
    """Return row labels (the episode of each row) as 0 .. n_groups - 1, in sorted order."""
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise WhiskerError(
            name,
            expected=f"one label for each of the {n} rows",
            got=f"shape {groups.shape}",
        )
    _, numbers = np.unique(groups, return_inverse=True)
    return numbers


def _check_matrix(features: np.ndarray, name: str) -> np.ndarray:
    if features.ndim != 2 or features.shape[1] == 0:
        raise WhiskerError(
            name,
            expected="a matrix (n, dim)",
            got=f"shape {features.shape}",
            hint="Pool each moment to one row.",
        )
    if features.dtype.kind not in "fiub":
        raise WhiskerError(
            name,
            expected="real numbers",
            got=f"dtype {features.dtype}",
        )
    if len(features) < MIN_ROWS:
        raise WhiskerError(
            name,
            expected=f"at least {MIN_ROWS} rows",
            got=f"{len(features)}",
            hint="The unbiased HSIC divides by n - 3.",
        )
    return features


def _refuse(
    name: str,
    is_bad: np.ndarray,
    *,
    expected: str,
    got: str,
    hint: str = "",
) -> None:
    """Raise if any row is bad, and name the rows."""
    rows = np.flatnonzero(is_bad).tolist()
    if rows:
        plural = "s" * (len(rows) > 1)
        raise WhiskerError(
            name,
            expected=expected,
            got=f"{got} in row{plural} {name_first(rows, _NAMED_ROWS)}",
            hint=hint,
        )


def name_first(items: Sequence[object], n: int) -> str:
    """Return the first n items and the number of the others, e.g. "2, 3 and 4 more"."""
    n_more = len(items) - n
    more = f" and {n_more} more" if n_more > 0 else ""
    return f"{', '.join(map(str, items[:n]))}{more}"
