"""The sequential test of two policies on the same episodes: one may look after each episode.

The evidence is an e-value. It is the gain of a bet against "neither policy is better", in which
each episode that only one policy solves is as likely to be solved by either. Such a bet is fair, so
the probability that its gain ever reaches 20 is at most 1/20, however often one looks.

Source: R. Turner, A. Ly and P. Grünwald, "Generic e-variables for exact sequential k-sample tests
that allow for optional stopping", arXiv 2106.02693; strata: R. Turner and P. Grünwald, "Exact
anytime-valid confidence intervals for contingency tables and beyond", arXiv 2302.11401.
"""

from fractions import Fraction
from math import comb

from eval.paired_statistics import PairedCounts

# The e-value that decides: an error of at most 5 %.
DECISIVE_E_VALUE = 20


def compute_e_value(counts: PairedCounts) -> float:
    """Return the evidence against "neither policy is better"; 1 is none.

        E = ∫ θ^b (1 - θ)^c dθ / (1/2)^m = 2^m / ((m + 1) C(m, b))

    b of the m = b + c episodes that only one policy solves are solved by the first. The bet is on
    every chance θ that it is the first, with equal weights. Under the null hypothesis θ is 1/2
    whatever the task, so the counts of several tasks are added up, as for McNemar's test.
    """
    m = counts.n_discordant
    return float(
        Fraction(
            2**m,
            (m + 1) * comb(m, counts.only_first),
        )
    )


def is_decisive(counts: PairedCounts) -> bool:
    """Return whether the test decides that one policy is better."""
    return compute_e_value(counts) >= DECISIVE_E_VALUE
