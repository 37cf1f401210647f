"""Compares the progress that an environment reports with the goals that it declares."""

from sim.env import Progress
from sim.errors import WhiskerError
from sim.spec import EnvSpec


def check_progress(
    spec: EnvSpec,
    progress: tuple[Progress, ...],
) -> None:
    """Raise if progress does not have one entry a goal, with the stages and measures of that goal's kind.

    Raises:
        WhiskerError: it has not.
    """
    if len(progress) != len(spec.goals):
        raise WhiskerError(
            f"progress of {spec.name!r}",
            expected=f"{len(spec.goals)}, one for each of the goals that its spec declares",
            got=str(len(progress)),
        )
    for goal, reported in zip(spec.goals, progress, strict=True):
        for what, declared, got in (
            ("stages", goal.stages, reported.stages),
            ("measures", goal.measures, reported.measures),
        ):
            if set(declared) != set(got):
                raise WhiskerError(
                    f"progress of the goal {goal.name!r} of {spec.name!r}",
                    expected=f"the {what} of its kind {goal.kind!r}: {', '.join(declared) or 'none'}",
                    got=", ".join(got) or "none",
                )
