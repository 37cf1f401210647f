"""Planned actions, and the queue of those still to run."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64


@dataclass(frozen=True)
class ActionChunk:
    """Holds the plans of one forward pass, for a batch of observations.

    Attributes:
        actions: one plan per row, in the environment's units, `horizon` control steps long.
        intermediate_plans: the stages that each plan was made from, in the same units, oldest
            first; see `PolicySpec.intermediate_plans`. The plan itself is not among them. None
            unless the policy records them.
        features: name → the condition embedding, one vector per row. None unless features are
            collected.
        signals: name → one number per row that the policy returns with its plan, such as an
            entropy. Those declared as series are recorded (`eval.declared_series`).
        alternatives: further plans for each row's observation (`Policy.sample`). None unless they
            are asked for.
    """

    actions: Float32[np.ndarray, "batch horizon action_dim"]
    intermediate_plans: Float32[np.ndarray, "batch stage horizon action_dim"] | None = None
    features: Mapping[str, Float32[np.ndarray, "batch _dim"]] | None = None
    signals: Mapping[str, Float64[np.ndarray, " batch"]] = field(default_factory=dict)
    alternatives: Float32[np.ndarray, "batch sample horizon action_dim"] | None = None

    def __getitem__(self, row: int) -> Float32[np.ndarray, "horizon action_dim"]:
        return self.actions[row]

    def row(self, index: int) -> "ActionChunk":
        """Return the chunk of one row alone, which does not keep the others in memory."""

        def take(rows: np.ndarray) -> np.ndarray:
            return rows[index : index + 1].copy()

        stages = self.intermediate_plans
        alternatives = self.alternatives
        features = self.features
        return ActionChunk(
            actions=take(self.actions),
            intermediate_plans=None if stages is None else take(stages),
            features=features and {name: take(rows) for name, rows in features.items()},
            signals={name: take(rows) for name, rows in self.signals.items()},
            alternatives=None if alternatives is None else take(alternatives),
        )


class ChunkQueue:
    """The actions of one episode that are predicted and not yet executed.

    The queue belongs to the episode and not to the policy: with a shared queue, one episode would
    execute the plan of another.
    """

    def __init__(self, n_action_steps: int) -> None:
        """Make an empty queue.

        Args:
            n_action_steps: number of actions of a chunk to execute before the next prediction.
        """
        self._n_action_steps = n_action_steps
        self._actions: deque[Float32[np.ndarray, " action_dim"]] = deque()

    def __len__(self) -> int:
        return len(self._actions)

    def fill(self, plan: Float32[np.ndarray, "horizon action_dim"]) -> None:
        """Replace the remaining actions by the first `n_action_steps` of a new plan."""
        self._actions = deque(plan[: self._n_action_steps])

    def pop(self) -> Float32[np.ndarray, " action_dim"]:
        """Remove and return the next action."""
        return self._actions.popleft()
