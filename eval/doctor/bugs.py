"""Known bugs of harnesses and checkpoints, each as something that can be undone to see whether it was made."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Level
from sim.observation import Observation

type See = Callable[[Observation], Observation]
type Act = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bug:
    """A mistake that can be undone to see whether it was made.

    Attributes:
        see: undoes it in an observation.
        act: undoes it in a plan `(horizon, action_dim)`, given the state `(state_dim,)` in which it
            was made; NaN where the plan does not say.
        level: a warning is subtle, and must explain everything to be named.
        nearby: returns the same mistake made a little differently, given how far to go (1 at
            first): where the size of the mistake is to be estimated.
    """

    check: str
    finding: str
    hint: str
    see: See | None = None
    act: Act | None = None
    level: Level = Level.ERROR
    nearby: Callable[[float], list["Bug"]] | None = None


def action_bugs(context: CheckContext) -> list[Bug]:
    """Return what can be wrong with whole plans. To undo these costs no prediction."""
    spec = context.action
    bugs = _bugs_of_time(context.n_compared)
    says_itself = (
        context.normalisation is not None and context.normalisation.relative.output is not None
    )
    if spec.mode == "absolute" and context.env.state_names == spec.names and not says_itself:
        not_gripper = np.arange(spec.dim) != spec.gripper_index

        def add_state(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return plan + not_gripper * state

        def take_state(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return plan - not_gripper * state

        finding = "the actions are differences, and are taken for targets"
        bugs.append(Bug("delta or absolute", finding, "Give --policy-actions delta", act=add_state))
        finding = "the actions are targets, and are taken for differences"
        bugs.append(
            Bug("delta or absolute", finding, "Leave --policy-actions delta out", act=take_state)
        )
    if "deg" in spec.units:
        angles = np.array([unit == "deg" for unit in spec.units])

        def to_degrees(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return np.where(angles, np.rad2deg(plan), plan)

        hint = "Turn them into degrees once, where the training's data or the processors are made."
        bugs.append(
            Bug(
                "action units",
                "the planned angles are radians, where degrees are taken",
                hint,
                act=to_degrees,
            )
        )
    trained = context.normalisation and context.normalisation.trained_action
    if trained and trained.typical is not None:
        middle, width = (part[: spec.dim] for part in trained.typical)
        hint = (
            "The postprocessor is missing or does nothing: save it with the training's statistics."
        )
        bugs.append(
            Bug(
                "postprocessor",
                "the actions are left normalised",
                hint,
                act=lambda plan, state: plan * width + middle,
            )
        )
    return bugs


def instruction_bugs(context: CheckContext) -> list[Bug]:
    """Return the ways to be told another instruction of the environment's than the episode's."""
    if not context.setup.policy.spec.reads_instruction or context.config.adapters.wrong_instruction:
        return []
    told = context.first_memory.present.instruction
    hint = "Look at what reaches the tokenizer: the instruction of another episode, or words that are exchanged."
    return [
        Bug(
            "instruction",
            f"the policy does what {other!r} says, told {told!r}",
            hint,
            see=_told(other),
        )
        for other in context.env.instructions
        if other != told
    ]


def _told(instruction: str) -> See:
    return lambda o: replace(o, instruction=instruction)


def _bugs_of_time(n_compared: int) -> list[Bug]:
    hint = "Compare the control rate and the chunk's first step with the training's."

    def shift(plan: np.ndarray, k: int) -> np.ndarray:
        """Take `plan[t + k]` for step t."""
        moved = np.full_like(plan, np.nan)
        if k > 0:
            moved[:-k] = plan[k:]
        else:
            moved[-k:] = plan[:k]
        return moved

    def play(plan: np.ndarray, speed: float) -> np.ndarray:
        """Take `plan[t * speed]` for step t."""
        steps = np.arange(len(plan))
        columns = [np.interp(steps * speed, steps, column, right=np.nan) for column in plan.T]
        return np.stack(columns, axis=-1)

    bugs = [
        Bug(
            "plan order",
            "the plans run backwards",
            "Reverse them once.",
            act=lambda plan, state: plan[::-1],
        )
    ]
    for k in (k for k in (-8, -4, -2, 2, 4, 8) if 2 * abs(k) <= n_compared):
        finding = f"the plans come {abs(k)} steps too {'late' if k > 0 else 'early'}"

        def act(plan: np.ndarray, state: np.ndarray, k: int = k) -> np.ndarray:
            return shift(plan, k)

        bugs.append(Bug("timing", finding, hint, act=act, level=Level.WARNING))
    for speed, words in ((2.0, "half as fast"), (0.5, "twice as fast")):

        def replay(plan: np.ndarray, state: np.ndarray, speed: float = speed) -> np.ndarray:
            return play(plan, speed)

        bugs.append(
            Bug(
                "timing",
                f"the plans are {words} as the expert",
                hint,
                act=replay,
                level=Level.WARNING,
            )
        )
    return bugs
