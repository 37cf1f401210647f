"""Measures which inputs a policy uses, by replacing each with that of another moment."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from eval.doctor.check_context import CheckContext, Reference, change_observations
from sim.observation import Observation

STATE = "state"
# In standard deviations of the expert's actions. The plans of the shipped ACT move by 0.1 and 0.2
# with another moment's image, and by 1.3 with another state. Those of an ACT whose vision backbone
# was shuffled move by 0.01 and 1.6.
_UNUSED = 0.03


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


def _mix(name: str, other: Observation, observation: Observation) -> Observation:
    """Return an observation with the input of that name from another one."""
    if name == STATE:
        return replace(observation, state=other.state)
    return replace(observation, images={**observation.images, name: other.images[name]})
