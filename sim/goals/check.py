"""Compares the progress that an environment reports with the goals that it declares."""

from collections.abc import Iterable

from sim.env import Progress
from sim.errors import WhiskerError
from sim.spec import EnvSpec


def check_progress(
    spec: EnvSpec,
    progress: tuple[Progress, ...],
) -> None:
    """Raise unless each goal has one entry, with the stages and measures of its kind.

    Raises:
        WhiskerError: names the goal, and what is missing or superfluous.
    """
    if len(progress) != len(spec.goals):
        raise WhiskerError(
            f"progress of {spec.name!r}",
            expected=f"{len(spec.goals)}, one for each of the goals that its spec declares",
            got=str(len(progress)),
        )
    for goal, reported in zip(spec.goals, progress, strict=True):
        subject = f"progress of the goal {goal.name!r} of {spec.name!r}"
        _check_names(
            subject,
            f"stages of its kind {goal.kind!r}",
            goal.stages,
            reported.stages,
        )
        _check_names(
            subject,
            f"measures of its kind {goal.kind!r}",
            goal.measures,
            reported.measures,
        )


def _check_names(
    subject: str,
    what: str,
    declared: Iterable[str],
    got: Iterable[str],
) -> None:
    if set(declared) != set(got):
        raise WhiskerError(
            subject,
            expected=f"the {what}: {', '.join(declared) or 'none'}",
            got=", ".join(got) or "none",
        )
