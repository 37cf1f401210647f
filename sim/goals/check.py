"""Compares the progress that an environment reports with the goals that it declares."""

from sim.env import Progress
from sim.errors import WhiskerError
from sim.spec import EnvSpec


def check_progress(spec: EnvSpec, progress: tuple[Progress, ...]) -> None:
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
        for what in ("stages", "measures"):
            declared = getattr(goal, what)
            got = getattr(reported, what)
            if set(declared) != set(got):
                names = ", ".join(declared) or "none"
                raise WhiskerError(
                    f"progress of the goal {goal.name!r} of {spec.name!r}",
                    expected=f"the {what} of its kind {goal.kind!r}: {names}",
                    got=", ".join(got) or "none",
                )
