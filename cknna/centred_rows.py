"""Cosines of rows as a product of two factors in float32, and how far it may be from the truth.

Rows of a trained network point much the same way (cosines above 0.99), and float32 would lose their
ranking in what they share. With the mean row μ, d_i = a_i - μ and c_i = μ·d_i,

    a_i·a_j - |μ|² = d_i·d_j + c_i + c_j = [d_i, c_i, 1]·[d_j, 1, c_j]

ranks alike, and is as small as the rows differ. d and c are made in float64 and rounded then:
rounding a_i first would lose the differences of rows that are parallel to 1e-4. A float32 product
differs from the true one by less than

    ε_i = λ sqrt(dim) [u (|d_i| max|d_j| + 2 max|c_j|) + 4 v],   u = 2^-24, v = 2^-53

where 4 v is for c_i, c_j and the cosines in float64 that decide in the end, and with λ = 8 an entry
is further off once in 1e13 (Higham & Mary 2019, "A new approach to probabilistic rounding error
analysis").
"""

from math import sqrt

import numpy as np
from jaxtyping import Float32, Float64

from cknna.features import KEPT_BYTES, Rows, UnitRows

_ROUNDING = 8.0
_FLOAT32_UNIT, _FLOAT64_UNIT = 2.0**-24, 2.0**-53
# |μ|² above which rows are centred; below, there is little to lose, and the unit rows are their own
# factors.
_NARROW = 0.9


class CentredRows:
    """The factors; those on the right are kept if they fit into memory.

    Attributes:
        row_mean: (n,) mean cosine of each row to all, itself included: a_i·μ.
        error: (n,) ε.
    """

    def __init__(self, rows: UnitRows) -> None:
        self.n, self.dim, self._rows = rows.n, rows.dim, rows
        self.row_mean = np.empty(rows.n)
        for block in rows.blocks():
            self.row_mean[block] = rows.compute_row_means(block)
        self._kept: Float32[np.ndarray, "n width"] | None = None
        self._is_centred = bool(rows.mean @ rows.mean > _NARROW)
        if self._is_centred:
            self._offset = (self.row_mean - rows.mean @ rows.mean).astype(np.float32)
            length = self._centre()
            scale = length * length.max() + 2 * np.abs(self._offset).max()
        else:
            scale = np.ones(rows.n)
        n_units = _ROUNDING * sqrt(rows.dim + 2) + 4
        self.error = (n_units * (_FLOAT32_UNIT * scale + 4 * _FLOAT64_UNIT)).astype(np.float32)

    def left(self, which: Rows) -> Float32[np.ndarray, "rows width"]:
        right = self.right(which)
        if not self._is_centred:
            return right
        left = right.copy()
        left[:, -2], left[:, -1] = right[:, -1], right[:, -2]
        return left

    def right(self, which: Rows) -> Float32[np.ndarray, "rows width"]:
        if not self._is_centred:
            return self._rows.take(which)
        if self._kept is not None:
            return self._kept[which]
        rows = self._rows.take_exact(which)
        rows -= self._rows.mean
        factor = np.empty((len(rows), self.dim + 2), np.float32)
        factor[:, :-2] = rows
        factor[:, -2], factor[:, -1] = 1, self._offset[which]
        return factor

    def _centre(self) -> Float64[np.ndarray, " n"]:
        """Keep the right factors, if they fit; returns the lengths |d_i|."""
        length, shape = np.empty(self.n), (self.n, self.dim + 2)
        kept = np.empty(shape, np.float32) if 4 * shape[0] * shape[1] <= KEPT_BYTES else None
        for block in self._rows.blocks():
            factor = self.right(block)
            length[block] = np.sqrt(np.vecdot(factor[:, :-2], factor[:, :-2]))
            if kept is not None:
                kept[block] = factor
        self._kept = kept
        return length
