"""A goal of a task, and the kind of goal that it is.

A kind defines the stages that lead to its goals, the measures that say how far a goal is, and the
thresholds that its verdict needs. An environment declares its goals in `EnvSpec.goals`. Each has a
name, a kind and its own thresholds:

    REACH = GoalKind(
        name="reach",
        stages={"near": "the tip is within 2 cm of the target"},
        measures={"target_distance_m": "distance from the tip to the target"},
        nears="target_distance_m",
        thresholds={
            "stalled": "an approach by less than this [m] is no progress",
            "stalled_steps": "... for this many steps",
        },
    )
    GOAL = REACH.goal(
        "reach target",
        {"stalled": Threshold(0.005, "..."), "stalled_steps": Threshold(30, "...")},
    )

`eval.judge` judges episodes. It has a table from the name of a kind to its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.errors import WhiskerError


@dataclass(frozen=True)
class Threshold:
    """A number that a verdict depends on, and its source.

    Attributes:
        source: a measurement, a paper, or the reason for a choice, for people.
    """

    value: int | float
    source: str


@dataclass(frozen=True)
class Goal:
    """One condition for success, as data. It is part of `EnvSpec` and of `run.json`.

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
        stages: name → meaning, in the order in which an episode passes them. May be empty.
        measures: name, with its unit as a suffix → meaning. May be empty.
        nears: name of the measure that falls as an episode approaches the goal; "" if there is
            none. For kinds without rules of their own, it shows where a failed episode stalled.
            That requires the thresholds `stalled` (an approach by less is no progress) and
            `stalled_steps` (control steps without progress).
        thresholds: name → meaning of every threshold that the verdict needs.
    """

    name: str
    stages: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)
    nears: str = ""
    thresholds: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.nears:
            return
        required = {"measures": {self.nears}, "thresholds": {"stalled", "stalled_steps"}}
        for what, names in required.items():
            present = getattr(self, what)
            missing = sorted(names - present.keys())
            if missing:
                raise WhiskerError(
                    f"goal kind {self.name!r}, which nears {self.nears!r}",
                    expected=f"{' and '.join(missing)} among its {what}",
                    got=", ".join(present) or "none",
                )

    def goal(
        self,
        name: str,
        thresholds: Mapping[str, Threshold] | None = None,
    ) -> Goal:
        """Return a goal of this kind.

        Args:
            thresholds: name → value and source, for exactly the thresholds of the kind.

        Raises:
            WhiskerError: a threshold is missing, or is not one of this kind.
        """
        stated = thresholds or {}
        if stated.keys() != self.thresholds.keys():
            raise WhiskerError(
                f"thresholds of the goal {name!r}",
                expected=f"those of the kind {self.name!r}: {', '.join(self.thresholds) or 'none'}",
                got=", ".join(stated) or "none",
            )
        return self.goal_of_values(name, {key: stated[key].value for key in self.thresholds})

    def goal_of_values(
        self,
        name: str,
        values: Mapping[str, int | float],
    ) -> Goal:
        """Return a goal of this kind whose thresholds have these values."""
        return Goal(
            name,
            self.name,
            tuple(self.stages),
            tuple(self.measures),
            self.nears,
            values,
        )


# Nothing is known of such a goal except whether it holds. Its episodes succeed or time out.
SUCCESS_ONLY = GoalKind("success_only")
