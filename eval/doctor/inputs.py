"""Checks which inputs a policy uses, by replacing each with that of another moment or task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from eval.doctor.check_context import CheckContext, Reference, change_observations
from eval.doctor.finding import Findings, fine, warn
from sim.observation import Observation

STATE = "state"
# In standard deviations of the expert's actions. The plans of the shipped ACT move by 0.1 and 0.2
# with another moment's image, and by 1.3 with another state. Those of an ACT whose vision backbone
# was shuffled move by 0.01 and 1.6.
_UNUSED = 0.03
# Another instruction counts at its decisive moments alone, so this is compared with the largest
# distance over the moments. The plans of the shipped SmolVLA move by 0.67 there, and by 0.09 with
# a tokenizer whose ids are permuted.
_UNHEARD = 0.2


@dataclass(frozen=True)
class InputUse:
    """Holds what the policy plans when one input is that of another moment.

    Attributes:
        moved: median distance to the original plans, in standard deviations of the expert's
            actions.
        plans: the new plans, `(moment, horizon, action_dim)`.
    """

    moved: float
    plans: np.ndarray

    @property
    def is_used(self) -> bool:
        return self.moved > _UNUSED


def measure_inputs(
    context: CheckContext,
    reference: Reference,
    plans: np.ndarray,
) -> dict[str, InputUse]:
    """Return how much the policy uses its state and each camera, by name.

    Args:
        plans: `(moment, horizon, action_dim)`, made from the right inputs.
    """
    names = list(context.policy.image_sizes)
    if context.policy.state_dim:
        names.append(STATE)
    memories = reference.memories
    # Half an episode away the arm is elsewhere, and so may be the object.
    half = len(memories) // 2
    others = memories[half:] + memories[:half]
    uses = {}
    for name in names:
        mixed = [
            change_observations(memory, partial(_mix, name, other.present))
            for memory, other in zip(memories, others, strict=True)
        ]
        new_plans = context.predict(*mixed)[:, : plans.shape[1]]
        distance = np.abs(new_plans - plans) / reference.scale
        moved = float(np.median(distance.mean(axis=(1, 2))))
        uses[name] = InputUse(moved, new_plans)
    return uses


def check_inputs(
    context: CheckContext,
    reference: Reference,
    plans: np.ndarray,
    uses: Mapping[str, InputUse],
    dead_cameras: Mapping[str, str],
) -> Findings:
    """Check whether the plans depend on the images, and on the instruction if it decides.

    Dead cameras have a finding of their own. The state is not required: many policies do without.
    """
    cameras = [use for name, use in uses.items() if name != STATE]
    moved = ", ".join(f"{name} {use.moved:.2f}" for name, use in uses.items())
    evidence = (
        "with the input of another moment, the plans move by this many standard deviations: "
        f"{moved}"
    )
    if any(use.is_used for use in cameras):
        yield fine("inputs", "the plans depend on the images", evidence)
    elif cameras and not dead_cameras:
        yield warn(
            "inputs",
            "the plans hardly depend on the images: the policy cannot know where the object is",
            evidence,
            (
                "Look at the weights of the vision backbone, at the image statistics, "
                "and at what reaches the network."
            ),
        )
    if uses:
        yield from _check_instruction(context, reference, plans)


def _check_instruction(
    context: CheckContext,
    reference: Reference,
    plans: np.ndarray,
) -> Findings:
    """Check whether the plans change with the environment's other instructions."""
    told = context.first_memory.present.instruction
    others = [other for other in context.env.instructions if other != told]
    if not others or not context.policy.reads_instruction:
        return
    moved = []
    for other in others:
        tell = partial(replace, instruction=other)
        memories = [change_observations(memory, tell) for memory in reference.memories]
        new_plans = context.predict(*memories)[:, : plans.shape[1]]
        distance = np.abs(new_plans - plans) / reference.scale
        moved.append(distance.mean(axis=(1, 2)).max())
    evidence = (
        "with another of the environment's instructions, the plans move by at most "
        f"{max(moved):.2f} standard deviations at any moment"
    )
    if max(moved) > _UNHEARD:
        yield fine("instruction", "the plans depend on the instruction", evidence)
    else:
        yield warn(
            "instruction",
            "the plans hardly depend on the instruction: the policy cannot know what is asked",
            evidence,
            (
                "Compare the tokenizer's files with those of the training: another tokenizer gives "
                "the words other ids, without an error. Or the training had one instruction only."
            ),
        )


def _mix(name: str, other: Observation, observation: Observation) -> Observation:
    """Return an observation with the input of that name from another one."""
    if name == STATE:
        return replace(observation, state=other.state)
    return replace(observation, images={**observation.images, name: other.images[name]})
