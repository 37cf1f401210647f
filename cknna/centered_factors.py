"""Writes the cosines of rows as a product of two float32 factors, with a bound on its error.

The rows of a trained network point in much the same direction (cosines above 0.99). In float32,
the part that they share would hide their ranking. With the mean row μ, d_i = a_i - μ and
c_i = μ·d_i,

    a_i·a_j - |μ|² = d_i·d_j + c_i + c_j = [d_i, c_i, 1]·[d_j, 1, c_j]

This product ranks alike, and it is as small as the rows differ. d and c are computed in float64 and
rounded then. Rounding a_i first would lose the differences of rows that are parallel to 1e-4. A
float32 product differs from the true one by less than

    ε_i = λ sqrt(dim) [u (|d_i| max|d_j| + 2 max|c_j|) + 4 v],   u = 2^-24, v = 2^-53

Here 4 v covers c_i, c_j and the float64 cosines that decide in the end. With λ = 8 an entry is
further off once in 1e13 (Higham & Mary 2019, "A new approach to probabilistic rounding error
analysis").
"""

from math import prod, sqrt

import numpy as np
from jaxtyping import Float32, Float64

from cknna.features import KEPT_BYTES, NormalizedFeatures, Rows

_ROUNDING = 8.0
_FLOAT32_UNIT = 2.0**-24
_FLOAT64_UNIT = 2.0**-53
# Rows are centred if |μ|² is above this. Below it there is little to lose, and the unit rows are
# used as both factors.
_NARROW = 0.9


class CenteredFactors:
    """The two factors. The right one is kept if it fits into memory.

    Attributes:
        row_mean: (n,) mean cosine of each row to all rows, itself included: a_i·μ.
        error: (n,) ε.
    """

    def __init__(self, rows: NormalizedFeatures) -> None:
        self.n = rows.n
        self.dim = rows.dim
        self._rows = rows
        self.row_mean = np.empty(rows.n)
        for block in rows.blocks():
            self.row_mean[block] = rows.compute_row_means(block)
        self._kept: Float32[np.ndarray, "n width"] | None = None
        mean_squared = rows.mean @ rows.mean
        self._is_centred = bool(mean_squared > _NARROW)
        if self._is_centred:
            self._offset = (self.row_mean - mean_squared).astype(np.float32)
            length = self._centre()
            scale = length * length.max() + 2 * np.abs(self._offset).max()
        else:
            scale = np.ones(rows.n)
        n_units = _ROUNDING * sqrt(rows.dim + 2) + 4
        self.error = (n_units * (_FLOAT32_UNIT * scale + 4 * _FLOAT64_UNIT)).astype(np.float32)

    def left(self, which: Rows) -> Float32[np.ndarray, "rows width"]:
        """Return these rows of the left factor."""
        right = self.right(which)
        if not self._is_centred:
            return right
        left = right.copy()
        left[:, -2:] = right[:, [-1, -2]]
        return left

    def right(self, which: Rows) -> Float32[np.ndarray, "rows width"]:
        """Return these rows of the right factor."""
        if not self._is_centred:
            return self._rows.take(which)
        if self._kept is not None:
            return self._kept[which]
        rows = self._rows.take_exact(which)
        rows -= self._rows.mean
        ones = np.ones(len(rows))
        return np.column_stack([rows, ones, self._offset[which]]).astype(np.float32)

    def _centre(self) -> Float64[np.ndarray, " n"]:
        """Keep the right factor if it fits, and return the lengths |d_i|."""
        length = np.empty(self.n)
        shape = (self.n, self.dim + 2)
        kept = np.empty(shape, np.float32) if 4 * prod(shape) <= KEPT_BYTES else None
        for block in self._rows.blocks():
            factor = self.right(block)
            difference = factor[:, :-2]
            length[block] = np.sqrt(np.vecdot(difference, difference))
            if kept is not None:
                kept[block] = factor
        self._kept = kept
        return length
