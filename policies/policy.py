"""The contract of every policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from policies.action_chunk import ActionChunk
from sim.observation import Observation


@dataclass(frozen=True)
class PolicySpec:
    """The policy's side of the contract, compared with `sim.spec.EnvSpec` before anything runs.

    Attributes:
        type: e.g. "act".
        image_sizes: camera → (height_px, width_px) that it looks through; empty if it does not look.
        state_dim: None if it does not read the state.
        action_dim: None if it fits any environment.
        chunk_size: actions a prediction.
        n_action_steps: of which this many are executed, unless told otherwise.
        max_action_steps: more than these cannot be: 1 where every step must be predicted anew.
        stochastic: two predictions of one observation can differ.
        checkpoint: where it was loaded from, for people; "" if there is none.
        device: where it runs.
        files_sha256: file → hash of everything in the checkpoint that a number depends on.
    """

    type: str
    image_sizes: Mapping[str, tuple[int, int]]
    state_dim: int | None
    action_dim: int | None
    chunk_size: int
    n_action_steps: int
    max_action_steps: int
    stochastic: bool
    checkpoint: str = ""
    device: str = "cpu"
    files_sha256: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Policy(Protocol):
    """Plans actions from observations. Rows of a batch do not influence one another."""

    @property
    def spec(self) -> PolicySpec: ...

    def reset(self) -> None:
        """Forget the episode. Called before the first prediction of each."""

    def predict(self, observations: Sequence[Observation], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        """One plan an observation, in the environment's units.

        Args:
            rngs: where each row's sampling noise comes from; never a global generator.
        """
