"""Planned actions, and the queue of those still to run."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64


@dataclass(frozen=True)
class ActionChunk:
    """Holds what one forward pass plans, for a batch of observations.

    Attributes:
        actions: one plan a row, in the environment's units; `horizon` control steps long.
        intermediate plans: what each plan was made from (`PolicySpec.intermediate_plans`), oldest first, in the same units;
            the plan itself is not among them. None unless the policy records them.
        features: name → what the network knew when it planned, a vector a row. None unless they are
            collected.
        signals: name → one number a row that the policy gives with its plan, such as an entropy.
            Those that are declared as series are recorded (`eval.declared_series`).
        alternatives: other plans for each row's observation (`Policy.sample`). None unless they are
            asked for.
    """

    actions: Float32[np.ndarray, "batch horizon action_dim"]
    intermediate_plans: Float32[np.ndarray, "batch draft horizon action_dim"] | None = None
    features: Mapping[str, Float32[np.ndarray, "batch _dim"]] | None = None
    signals: Mapping[str, Float64[np.ndarray, " batch"]] = field(default_factory=dict)
    alternatives: Float32[np.ndarray, "batch sample horizon action_dim"] | None = None

    def __getitem__(self, row: int) -> Float32[np.ndarray, "horizon action_dim"]:
        return self.actions[row]


class ChunkQueue:
    """The actions of one episode that are predicted and not yet executed.

    It belongs to the episode, not to the policy: a queue shared by episodes hands one the plan of
    another.
    """

    def __init__(self, n_action_steps: int) -> None:
        """Args:
        n_action_steps: how many actions of a chunk are executed before the next prediction.
        """
        self._n_action_steps = n_action_steps
        self._actions: deque[Float32[np.ndarray, " action_dim"]] = deque()

    def __len__(self) -> int:
        return len(self._actions)

    def fill(self, plan: Float32[np.ndarray, "horizon action_dim"]) -> None:
        """Replace what is left by the first `n_action_steps` of a new plan."""
        self._actions = deque(plan[: self._n_action_steps])

    def pop(self) -> Float32[np.ndarray, " action_dim"]:
        return self._actions.popleft()
