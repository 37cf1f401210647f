"""Computes intervals of one proportion, and the beta and t distributions that they need.

Nothing here imports scipy, whose import takes longer than the command's computations. The tests
compare every function with scipy.
"""

from math import exp, lgamma, log, log1p, nan, sqrt
from statistics import NormalDist
from typing import Literal

IntervalMethod = Literal["auto", "wilson", "clopper-pearson"]

# With at most this many successes or failures, the Wilson interval covers too little: down to
# 83.9 % instead of 95 % (n = 50, p = 0.0034). With the exact interval there, coverage is at least
# 92.6 % for every n from 10 to 500.
NEAR_THE_END = 4


def compute_normal_quantile(confidence: float) -> float:
    """Return z with P(|Z| < z) = confidence, e.g. 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + 0.5 * confidence)


def compute_wilson_interval(
    n_success: int,
    n: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion; (nan, nan) for n = 0.

        (p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n)

    Unlike the normal approximation, it does not collapse at 0 % and 100 %, which are common success
    rates.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    if n == 0:
        return nan, nan
    z = compute_normal_quantile(confidence)
    share = n_success / n
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    low = 0.0 if n_success == 0 else centre - half
    high = 1.0 if n_success == n else centre + half
    return low, high


def compute_clopper_pearson_interval(
    n_success: int,
    n: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the exact interval of a proportion; (nan, nan) for n = 0.

    It always covers at least `confidence`. At each end, a tail of the binomial distribution,
    including `n_success`, has the probability (1 - confidence)/2.

    Source: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated
    in the case of the binomial", Biometrika 26 (1934).
    """
    if n == 0:
        return nan, nan
    tail = 0.5 * (1 - confidence)
    n_failure = n - n_success
    low = 0.0
    high = 1.0
    if n_success > 0:
        low = _invert_beta_cdf(tail, float(n_success), float(n_failure + 1))
    if n_failure > 0:
        high = _invert_beta_cdf(1 - tail, float(n_success + 1), float(n_failure))
    return low, high


def compute_interval(
    n_success: int,
    n: int,
    method: IntervalMethod = "auto",
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the Wilson interval or, near 0 % and 100 %, the one of Clopper and Pearson."""
    if uses_clopper_pearson(n_success, n, method):
        return compute_clopper_pearson_interval(n_success, n, confidence)
    return compute_wilson_interval(n_success, n, confidence)


def uses_clopper_pearson(
    n_success: int,
    n: int,
    method: IntervalMethod = "auto",
) -> bool:
    """Return whether `compute_interval` uses the exact interval.

    It does if this is asked for, or if there are few successes or failures.
    """
    if method == "auto":
        return min(n_success, n - n_success) <= NEAR_THE_END
    return method == "clopper-pearson"


def compute_t_quantile(confidence: float, n_freedom: int) -> float:
    """Return t with P(|T| < t) = confidence for Student's T with `n_freedom` degrees of freedom.

    P(|T| > t) is the beta distribution function with parameters (n_freedom/2, 1/2) at
    n_freedom / (n_freedom + t²).
    """
    x = _invert_beta_cdf(1 - confidence, n_freedom / 2, 0.5)
    return sqrt(n_freedom * (1 - x) / x)


def compute_beta_cdf(
    x: float,
    a: float,
    b: float,
) -> float:
    """Return the regularised incomplete beta function I_x(a, b), from its continued fraction.

    Source: NIST Digital Library of Mathematical Functions, 8.17.22, evaluated by Lentz's method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast only on one side.
    if x > (a + 1) / (a + b + 2):
        return 1 - compute_beta_cdf(1 - x, b, a)
    log_binomial = lgamma(a + b) - lgamma(a) - lgamma(b)
    front = exp(log_binomial + a * log(x) + b * log1p(-x)) / a
    upper = 1.0
    lower = 0.0
    value = 1.0
    for step in range(10_000):
        term = _compute_beta_term(step, x, a, b)
        lower = 1 / _off_zero(1 + term * lower)
        upper = _off_zero(1 + term / upper)
        value *= upper * lower
        if step and abs(upper * lower - 1) < 1e-15:
            break
    return front * (value - 1)


def _compute_beta_term(
    step: int,
    x: float,
    a: float,
    b: float,
) -> float:
    """Return the numerator of the continued fraction at a step."""
    if step == 0:
        return 1.0
    half = step // 2
    denominator = (a + step - 1) * (a + step)
    if step % 2 == 0:
        return half * (b - half) * x / denominator
    return -(a + half) * (a + b + half) * x / denominator


def _off_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def _invert_beta_cdf(
    share: float,
    a: float,
    b: float,
) -> float:
    """Return x with I_x(a, b) = share, by bisection."""
    low = 0.0
    high = 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if compute_beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
