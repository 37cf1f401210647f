"""A reference implementation of CKNNA and its variants that follows the formulas term by term.

It uses full n x n matrices and is written to be easy to read, not to be fast.
"""

import numpy as np


def kernel(features):
    """Return the matrix of cosines in float64.

    Each cosine is a single dot product, so that equal rows have exactly equal cosines.
    """
    rows = np.ascontiguousarray(features, np.float64)
    lengths = np.sqrt(np.vecdot(rows, rows))
    return [np.vecdot(row, rows) for row in rows] / np.outer(lengths, lengths)


def mask(kernel, k, groups=None, own_first=False, rng=None):
    """Return 1 where j is among the k nearest neighbours of i, and 0 elsewhere.

    A row is not its own neighbour, except with `own_first`, where it counts as the first of the k.
    Rows that tie for the last places get them at random if there is an `rng`, and equal shares
    otherwise.
    """
    n = len(kernel)
    groups = np.arange(n) if groups is None else np.asarray(groups)
    places = k - own_first
    mask = np.diag(np.full(n, float(own_first)))
    for i, row in enumerate(kernel):
        allowed = groups != groups[i]
        last = np.sort(row[allowed])[-places]
        nearer = allowed & (row > last)
        level = np.flatnonzero(allowed & (row == last))
        left = places - nearer.sum()
        mask[i, nearer] = 1
        if rng is None:
            mask[i, level] = left / len(level)
        else:
            mask[i, rng.choice(level, left, replace=False)] = 1
    return mask


def hsic_unbiased(kernel_k, kernel_l):
    """Return the unbiased HSIC (Song et al. 2012, eq. 5); the matrices need not be symmetric."""
    n = len(kernel_k)
    kernel_k = kernel_k - np.diag(np.diag(kernel_k))
    kernel_l = kernel_l - np.diag(np.diag(kernel_l))
    one = np.ones(n)
    trace = np.trace(kernel_k @ kernel_l)
    total = (one @ kernel_k @ one) * (one @ kernel_l @ one) / ((n - 1) * (n - 2))
    return (trace + total - 2 / (n - 2) * (one @ kernel_k @ kernel_l @ one)) / (n * (n - 3))


def hsic_biased(kernel_k, kernel_l):
    n = len(kernel_k)
    centring = np.eye(n) - np.ones((n, n)) / n
    return np.trace(kernel_k @ centring @ kernel_l @ centring)


def cknna(features_a, features_b, k, variant="unbiased", groups=None, rng=None):
    kernel_k = kernel(features_a)
    kernel_l = kernel(features_b)
    own_first = variant == "biased"
    mask_k = mask(
        kernel_k,
        k,
        groups,
        own_first,
        rng,
    )
    mask_l = mask(
        kernel_l,
        k,
        groups,
        own_first,
        rng,
    )

    def align(x, mask_x, y, mask_y):
        # A mask of zeros and ones equals its own square. The expected square thus equals the
        # expected mask.
        both = mask_x if mask_x is mask_y else mask_x * mask_y
        if variant == "unbiased":
            return hsic_unbiased(both * x, both * y)
        if variant == "biased":
            return hsic_biased(both * x, both * y)
        if variant == "row-centred":
            return np.sum(both * (x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True)))
        return both.sum()

    across = align(
        kernel_k,
        mask_k,
        kernel_l,
        mask_l,
    )
    own_k = align(
        kernel_k,
        mask_k,
        kernel_k,
        mask_k,
    )
    own_l = align(
        kernel_l,
        mask_l,
        kernel_l,
        mask_l,
    )
    if own_k <= 0 or own_l <= 0:
        return np.nan
    return across / (np.sqrt(own_k * own_l) + (1e-6 if variant in ("unbiased", "biased") else 0))


def mutual_knn(features_a, features_b, k, groups=None):
    mask_a = mask(kernel(features_a), k, groups)
    mask_b = mask(kernel(features_b), k, groups)
    return (mask_a * mask_b).sum(1).mean() / k


def cka(features_a, features_b, unbiased):
    hsic = hsic_unbiased if unbiased else hsic_biased
    kernel_k = kernel(features_a)
    kernel_l = kernel(features_b)
    return hsic(kernel_k, kernel_l) / np.sqrt(hsic(kernel_k, kernel_k) * hsic(kernel_l, kernel_l))


def walks(rng, lengths, dim):
    """Return one random walk per episode.

    Its rows depend on each other in time and on nothing else.
    """
    steps = [rng.standard_normal((length, dim)) for length in lengths]
    return np.concatenate([np.cumsum(each, axis=0) for each in steps])
