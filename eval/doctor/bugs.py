"""Known bugs of harnesses and checkpoints, each with functions that undo it.

If undoing a bug brings the plans back to the expert's, the bug was made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from eval.doctor.action_columns import body_columns
from eval.doctor.check_context import CheckContext, ObservationChange
from eval.doctor.finding import Finding, Level

type PlanChange = Callable[[np.ndarray, np.ndarray], np.ndarray]

_SHIFTS = (-8, -4, -2, 2, 4, 8)
_SPEEDS = ((2.0, "half as fast"), (0.5, "twice as fast"))


@dataclass(frozen=True)
class Bug:
    """Describes a mistake, and how to undo it.

    Attributes:
        undo_in_observation: returns the observation without the mistake.
        undo_in_plan: returns the plan `(horizon, action_dim)` without the mistake, given the state
            `(state_dim,)` in which it was planned; NaN where the plan does not say.
        level: a warning marks a subtle bug, which has to explain the whole disagreement.
        nearby: returns variants of the bug whose size differs by a step (1 at first), so that its
            size can be estimated.
    """

    check: str
    finding: str
    hint: str
    undo_in_observation: ObservationChange | None = None
    undo_in_plan: PlanChange | None = None
    level: Level = Level.ERROR
    nearby: Callable[[float], list["Bug"]] | None = None

    def as_finding(self, evidence: str) -> Finding:
        return Finding(
            self.check,
            self.level,
            self.finding,
            evidence,
            self.hint,
        )


def advise_on_order(names: Sequence[str]) -> str:
    """Return the hint to bring numbers into the environment's order."""
    return f"The environment's order is {', '.join(names)}: bring the checkpoint's data into it."


def action_bugs(context: CheckContext) -> list[Bug]:
    """Return the bugs of whole plans. Undoing these takes no prediction."""
    return [
        *_time_bugs(context.n_compared),
        *_action_mode_bugs(context),
        *_unit_bugs(context),
        *_normalisation_bugs(context),
    ]


def instruction_bugs(context: CheckContext) -> list[Bug]:
    """Return the bugs by which the policy gets another instruction of the environment."""
    if not context.policy.reads_instruction or context.adapters.wrong_instruction:
        return []
    told = context.first_memory.present.instruction
    hint = (
        "Look at what reaches the tokenizer: the instruction of another episode, "
        "or words that are exchanged."
    )
    return [
        Bug(
            "instruction",
            f"the policy was told {told!r} and does what {other!r} says",
            hint,
            undo_in_observation=partial(replace, instruction=other),
        )
        for other in context.env.instructions
        if other != told
    ]


def _action_mode_bugs(context: CheckContext) -> list[Bug]:
    """Return the bugs of differences taken for targets, and of targets taken for differences."""
    spec = context.action
    if context.statistics.relative.output is not None:
        return []  # the processors' steps say which of the two the actions are
    if spec.mode != "absolute" or context.env.state_names != spec.names:
        return []
    is_body = body_columns(spec)
    return [
        Bug(
            "delta or absolute",
            "the actions are differences, and are taken for targets",
            "Give --policy-actions delta",
            undo_in_plan=lambda plan, state: plan + is_body * state,
        ),
        Bug(
            "delta or absolute",
            "the actions are targets, and are taken for differences",
            "Leave --policy-actions delta out",
            undo_in_plan=lambda plan, state: plan - is_body * state,
        ),
    ]


def _unit_bugs(context: CheckContext) -> list[Bug]:
    units = context.action.units
    if "deg" not in units:
        return []
    is_angle = np.array([unit == "deg" for unit in units])
    return [
        Bug(
            "action units",
            "the planned angles are radians, where degrees are expected",
            "Convert them to degrees once, in the training's data or in the processors.",
            undo_in_plan=lambda plan, state: np.where(is_angle, np.rad2deg(plan), plan),
        )
    ]


def _normalisation_bugs(context: CheckContext) -> list[Bug]:
    trained = context.statistics.trained_action
    if not trained or trained.typical is None:
        return []
    middle, width = (part[: context.action.dim] for part in trained.typical)
    return [
        Bug(
            "postprocessor",
            "the actions are left normalised",
            "The postprocessor is missing or does nothing: save it with the training's statistics.",
            undo_in_plan=lambda plan, state: plan * width + middle,
        )
    ]


def _time_bugs(n_compared: int) -> list[Bug]:
    """Return the bugs of plans that run backwards, are shifted in time, or run at another speed."""
    bugs = [
        Bug(
            "plan order",
            "the plans run backwards",
            "Reverse them once.",
            undo_in_plan=lambda plan, state: plan[::-1],
        )
    ]
    for n_steps in _SHIFTS:
        if 2 * abs(n_steps) <= n_compared:
            side = "late" if n_steps > 0 else "early"
            finding = f"the plans come {abs(n_steps)} steps too {side}"
            bugs.append(_timing_bug(finding, partial(_shift, n_steps)))
    for speed, words in _SPEEDS:
        finding = f"the plans are {words} as the expert"
        bugs.append(_timing_bug(finding, partial(_resample, speed)))
    return bugs


def _timing_bug(finding: str, undo: PlanChange) -> Bug:
    return Bug(
        "timing",
        finding,
        "Compare the control rate and the chunk's first step with the training's.",
        undo_in_plan=undo,
        level=Level.WARNING,
    )


def _shift(n_steps: int, plan: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return `plan[t + n_steps]` for each step t; NaN beyond the ends."""
    moved = np.full_like(plan, np.nan)
    if n_steps > 0:
        moved[:-n_steps] = plan[n_steps:]
    else:
        moved[-n_steps:] = plan[:n_steps]
    return moved


def _resample(speed: float, plan: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return `plan[t * speed]` for each step t, interpolated; NaN beyond the end."""
    steps = np.arange(len(plan))
    columns = [np.interp(steps * speed, steps, column, right=np.nan) for column in plan.T]
    return np.stack(columns, axis=-1)
