"""CKNNA and its kin with n x n matrices, written down from the formulas, term by term: slow, and plain to read."""

import numpy as np


def kernel(features):
    """Cosines in float64; each by one dot product, so that equal rows have equal ones."""
    rows = np.ascontiguousarray(features, np.float64)
    lengths = np.sqrt(np.vecdot(rows, rows))
    return np.array(
        [
            np.vecdot(row, rows) / (length * lengths)
            for row, length in zip(rows, lengths, strict=True)
        ]
    )


def mask(kernel, k, groups=None, own_first=False, rng=None):
    """1 where j is among the k nearest of i; itself excluded, or the first.

    Those who tie for the last places get them by lot where there is an rng, and otherwise equal
    shares.
    """
    n = len(kernel)
    mask = np.zeros((n, n))
    for i in range(n):
        allowed = [j for j in range(n) if j != i and (groups is None or groups[i] != groups[j])]
        places = k - own_first
        last = sorted(kernel[i, allowed], reverse=True)[places - 1]
        nearer, level = (
            [j for j in allowed if of(kernel[i, j])] for of in (last.__lt__, last.__eq__)
        )
        left = places - len(nearer)
        mask[i, nearer] = 1
        mask[i, level] = left / len(level)
        if rng is not None:
            mask[i, level] = 0
            mask[i, rng.choice(level, left, replace=False)] = 1
        mask[i, i] = own_first
    return mask


def hsic_unbiased(kernel_k, kernel_l):
    """Song et al. 2012, eq. 5, of matrices that need not be symmetric."""
    n = len(kernel_k)
    kernel_k, kernel_l = (x - np.diag(np.diag(x)) for x in (kernel_k, kernel_l))
    one = np.ones(n)
    trace = np.trace(kernel_k @ kernel_l)
    total = (one @ kernel_k @ one) * (one @ kernel_l @ one) / ((n - 1) * (n - 2))
    return (trace + total - 2 / (n - 2) * (one @ kernel_k @ kernel_l @ one)) / (n * (n - 3))


def hsic_biased(kernel_k, kernel_l):
    n = len(kernel_k)
    centring = np.eye(n) - np.ones((n, n)) / n
    return np.trace(kernel_k @ centring @ kernel_l @ centring)


def cknna(features_a, features_b, k, variant="unbiased", groups=None, rng=None):
    kernel_k, kernel_l = kernel(features_a), kernel(features_b)
    own_first = variant == "biased"
    mask_k, mask_l = (mask(kernel, k, groups, own_first, rng) for kernel in (kernel_k, kernel_l))

    def align(x, mask_x, y, mask_y):
        # A mask of zeros and ones is its own square, and so is its expectation.
        both = mask_x if mask_x is mask_y else mask_x * mask_y
        if variant == "unbiased":
            return hsic_unbiased(both * x, both * y)
        if variant == "biased":
            return hsic_biased(both * x, both * y)
        if variant == "row-centred":
            return np.sum(both * (x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True)))
        return both.sum()

    across = align(kernel_k, mask_k, kernel_l, mask_l)
    own_k, own_l = (
        align(kernel_k, mask_k, kernel_k, mask_k),
        align(kernel_l, mask_l, kernel_l, mask_l),
    )
    if own_k <= 0 or own_l <= 0:
        return np.nan
    return across / (np.sqrt(own_k * own_l) + (1e-6 if variant in ("unbiased", "biased") else 0))


def mutual_knn(features_a, features_b, k, groups=None):
    masks = [mask(kernel(features), k, groups) for features in (features_a, features_b)]
    return (masks[0] * masks[1]).sum(1).mean() / k


def cka(features_a, features_b, unbiased):
    hsic = hsic_unbiased if unbiased else hsic_biased
    kernel_k, kernel_l = kernel(features_a), kernel(features_b)
    return hsic(kernel_k, kernel_l) / np.sqrt(hsic(kernel_k, kernel_k) * hsic(kernel_l, kernel_l))


def walks(rng, lengths, dim):
    """Random walks, one an episode: rows that depend on each other in time and on nothing else."""
    return np.concatenate(
        [np.cumsum(rng.standard_normal((length, dim)), axis=0) for length in lengths]
    )
