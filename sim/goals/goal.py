"""A goal of a task, and the kind that it is of.

A kind says which stages lead to its goals, which measures tell how far one is, and which thresholds
its verdict needs. An environment declares its goals by name, each of a kind and with thresholds of
its own, in `EnvSpec.goals`:

    REACH = GoalKind(
        name="reach", stages={"near": "the tip is within 2 cm of the target"},
        measures={"target_distance_m": "distance from the tip to the target"},
        nears="target_distance_m", thresholds={"stalled": "coming nearer by less [m] is no
        progress", "stalled_steps": "... for so many steps"},
    ) GOAL = REACH.goal("reach target", {"stalled": Threshold(0.005, "..."), "stalled_steps":
    Threshold(30, "...")})

How an episode that rests on a goal is judged is in `eval.judge`, a table from the name of the kind
to its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.errors import WhiskerError


@dataclass(frozen=True)
class Threshold:
    """A number that a verdict depends on, and where it comes from.

    Attributes:
        source: a measurement, a paper, or the reason for a choice, for people.
    """

    value: int | float
    source: str


@dataclass(frozen=True)
class Goal:
    """One thing that has to hold for success, as data: part of `EnvSpec`, and of `run.json`.

    Attributes:
        name: in words, the predicate first, e.g. "in block bowl".
        kind: name of its `GoalKind`.
        stages: names of the kind's stages, in order.
        measures: names of the kind's measures, each with its unit as a suffix.
        nears: as in `GoalKind`.
        thresholds: name → value.
    """

    name: str
    kind: str
    stages: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    nears: str = ""
    thresholds: Mapping[str, int | float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class GoalKind:
    """Describes what goals of one kind have in common.

    Attributes:
        stages: name → meaning, in the order in which an episode comes through them. May be empty.
        measures: name, with its unit as a suffix → meaning. May be empty.
        nears: name of the measure that falls as an episode comes nearer to the goal. Rules that
            know nothing else of a kind say by it where a failed episode got no further, for which
            they need the thresholds `stalled` (coming nearer by less is no progress) and
            `stalled_steps` (control steps without progress). "": there is none.
        thresholds: name → meaning, of all that the verdict needs.
    """

    name: str
    stages: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)
    nears: str = ""
    thresholds: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.nears:
            return
        for what, needed, there in (
            ("measures", {self.nears}, self.measures),
            ("thresholds", {"stalled", "stalled_steps"}, self.thresholds),
        ):
            if missing := sorted(needed - there.keys()):
                raise WhiskerError(
                    f"goal kind {self.name!r}, which nears {self.nears!r}",
                    expected=f"{' and '.join(missing)} among its {what}",
                    got=", ".join(there) or "none",
                )

    def goal(
        self,
        name: str,
        thresholds: Mapping[str, Threshold] | None = None,
    ) -> Goal:
        """Return a goal of this kind.

        Args:
            thresholds: name → value and source, exactly those of the kind.

        Raises:
            WhiskerError: a threshold is missing, or means nothing to this kind.
        """
        stated = thresholds or {}
        if stated.keys() != self.thresholds.keys():
            raise WhiskerError(
                f"thresholds of the goal {name!r}",
                expected=f"those of the kind {self.name!r}: {', '.join(self.thresholds) or 'none'}",
                got=", ".join(stated) or "none",
            )
        values = {threshold: stated[threshold].value for threshold in self.thresholds}
        return Goal(
            name,
            self.name,
            tuple(self.stages),
            tuple(self.measures),
            self.nears,
            values,
        )


# A goal of which nothing is known but whether it holds. Its episodes succeed or run out of time.
SUCCESS_ONLY = GoalKind("success_only")
