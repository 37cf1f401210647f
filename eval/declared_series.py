"""The series that are recorded with every episode.

A further series needs an entry here, and code that computes it.
"""

from eval.plan_change import plan_change_so_far
from eval.series import Series
from sim.errors import WhiskerError

POLICY_LATENCY = "policy_latency_ms"

_DECLARED: dict[str, Series] = {}


def declare(series: Series) -> None:
    """Declare a series, which is recorded from now on.

    It is computed by its `compute`, or taken from the signal of its name in a policy's chunks.

    Raises:
        WhiskerError: a series of that name is declared already.
    """
    if series.name in _DECLARED:
        raise WhiskerError(
            f"series {series.name!r}",
            expected="a name of its own",
            got="one that is declared already",
        )
    _DECLARED[series.name] = series


def declared_series() -> tuple[Series, ...]:
    """Return all declared series, in the order of declaration."""
    return tuple(_DECLARED.values())


declare(
    Series(
        name=POLICY_LATENCY,
        unit="ms",
        axis="prediction",
        meaning="Wall time of the policy's forward pass for the executed plan, with what is "
        "collected from it.",
        is_reproducible=False,
    )
)
declare(
    Series(
        name="plan_change",
        unit="share of range",
        axis="prediction",
        meaning="Root mean square difference of a plan to what was left of the one before, each "
        "action as a share of its range; the mean over the steps that both plan.",
        compute=plan_change_so_far,
    )
)
