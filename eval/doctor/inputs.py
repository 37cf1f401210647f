"""Measures which of its inputs a policy plans by: each is exchanged for that of another moment of an episode."""

from dataclasses import dataclass, replace

import numpy as np

from eval.doctor.check_context import CheckContext, Reference, changed
from policies.policy import EpisodeMemory
from sim.observation import Observation

STATE = "state"
# In standard deviations of the expert's actions. With another moment's picture the plans of the
# shipped ACT move by 0.1 and 0.2, with another state by 1.3; those of one whose vision was shuffled
# by 0.01 and 1.6.
_UNNOTICED = 0.03


@dataclass(frozen=True)
class InputUse:
    """Describes what becomes of the plans if one input is that of another moment.

    Attributes:
        moved: how far the plans move, in standard deviations of the expert's actions, in the
            median.
        plans: `(moment, horizon, action_dim)`, so made.
    """

    moved: float
    plans: np.ndarray

    @property
    def is_noticed(self) -> bool:
        return self.moved > _UNNOTICED


def measure_inputs(
    context: CheckContext, reference: Reference, plans: np.ndarray
) -> dict[str, InputUse]:
    """Return the use that the policy makes of its state and of each camera, by name.

    Args:
        plans: `(moment, horizon, action_dim)`, as made of the right inputs.
    """
    memories, n = reference.memories, len(reference.memories)
    uses = {}
    for name in [
        *context.setup.policy.spec.image_sizes,
        *([STATE] if context.setup.policy.spec.state_dim else []),
    ]:
        # Half an episode away: where the arm is elsewhere, and so may be the object.
        others = [memories[(i + n // 2) % n].present for i in range(n)]
        mixed = [
            _with_input(memory, other, name) for memory, other in zip(memories, others, strict=True)
        ]
        made = context.predict(*mixed)[:, : plans.shape[1]]
        moved = np.abs(made - plans) / reference.scale
        uses[name] = InputUse(float(np.median(moved.mean(axis=(1, 2)))), made)
    return uses


def _with_input(memory: EpisodeMemory, other: Observation, name: str) -> EpisodeMemory:
    if name == STATE:
        return changed(memory, lambda o: replace(o, state=other.state))
    return changed(memory, lambda o: replace(o, images=dict(o.images) | {name: other.images[name]}))
