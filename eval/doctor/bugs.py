"""Known bugs of harnesses and checkpoints, each with functions that undo it.

If undoing a bug brings the plans back to the expert's, the bug was made.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from sim.observation import Observation

type ObservationChange = Callable[[Observation], Observation]
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
        return Finding(self.check, self.level, self.finding, evidence, self.hint)


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
    if not context.setup.policy.spec.reads_instruction or context.config.adapters.wrong_instruction:
        return []
    told = context.first_memory.present.instruction
    hint = (
        "Look at what reaches the tokenizer: the instruction of another episode, "
        "or words that are exchanged."
    )
    bugs = []
    for other in context.env.instructions:
        if other != told:
            change = _instruction_change(other)
            bugs.append(
                Bug(
                    "instruction",
                    f"the policy was told {told!r} and does what {other!r} says",
                    hint,
                    undo_in_observation=change,
                )
            )
    return bugs


def _instruction_change(instruction: str) -> ObservationChange:
    return lambda observation: replace(observation, instruction=instruction)


def _action_mode_bugs(context: CheckContext) -> list[Bug]:
    """Return the bugs of differences taken for targets, and of targets taken for differences."""
    spec = context.action
    normalisation = context.normalisation
    if normalisation is not None and normalisation.relative.output is not None:
        return []  # the processors' steps say which of the two the actions are
    if spec.mode != "absolute" or context.env.state_names != spec.names:
        return []
    not_gripper = np.arange(spec.dim) != spec.gripper_index

    def add_state(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return plan + not_gripper * state

    def subtract_state(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return plan - not_gripper * state

    return [
        Bug(
            "delta or absolute",
            "the actions are differences, and are taken for targets",
            "Give --policy-actions delta",
            undo_in_plan=add_state,
        ),
        Bug(
            "delta or absolute",
            "the actions are targets, and are taken for differences",
            "Leave --policy-actions delta out",
            undo_in_plan=subtract_state,
        ),
    ]


def _unit_bugs(context: CheckContext) -> list[Bug]:
    units = context.action.units
    if "deg" not in units:
        return []
    is_angle = np.array([unit == "deg" for unit in units])

    def to_degrees(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.where(is_angle, np.rad2deg(plan), plan)

    finding = "the planned angles are radians, where degrees are expected"
    hint = "Convert them to degrees once, in the training's data or in the processors."
    return [Bug("action units", finding, hint, undo_in_plan=to_degrees)]


def _normalisation_bugs(context: CheckContext) -> list[Bug]:
    trained = context.normalisation and context.normalisation.trained_action
    if not trained or trained.typical is None:
        return []
    middle, width = (part[: context.action.dim] for part in trained.typical)

    def unnormalise(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return plan * width + middle

    finding = "the actions are left normalised"
    hint = "The postprocessor is missing or does nothing: save it with the training's statistics."
    return [Bug("postprocessor", finding, hint, undo_in_plan=unnormalise)]


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
    hint = "Compare the control rate and the chunk's first step with the training's."
    for n_steps in _SHIFTS:
        if 2 * abs(n_steps) > n_compared:
            continue

        def shift(plan: np.ndarray, state: np.ndarray, n_steps: int = n_steps) -> np.ndarray:
            return _shift(plan, n_steps)

        side = "late" if n_steps > 0 else "early"
        bugs.append(
            Bug(
                "timing",
                f"the plans come {abs(n_steps)} steps too {side}",
                hint,
                undo_in_plan=shift,
                level=Level.WARNING,
            )
        )
    for speed, words in _SPEEDS:

        def resample(plan: np.ndarray, state: np.ndarray, speed: float = speed) -> np.ndarray:
            return _resample(plan, speed)

        bugs.append(
            Bug(
                "timing",
                f"the plans are {words} as the expert",
                hint,
                undo_in_plan=resample,
                level=Level.WARNING,
            )
        )
    return bugs


def _shift(plan: np.ndarray, n_steps: int) -> np.ndarray:
    """Return `plan[t + n_steps]` for each step t; NaN beyond the ends."""
    moved = np.full_like(plan, np.nan)
    if n_steps > 0:
        moved[:-n_steps] = plan[n_steps:]
    else:
        moved[-n_steps:] = plan[:n_steps]
    return moved


def _resample(plan: np.ndarray, speed: float) -> np.ndarray:
    """Return `plan[t * speed]` for each step t, interpolated; NaN beyond the end."""
    steps = np.arange(len(plan))
    columns = [np.interp(steps * speed, steps, column, right=np.nan) for column in plan.T]
    return np.stack(columns, axis=-1)
