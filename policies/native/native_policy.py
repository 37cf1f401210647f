"""Defines what all policies have in common whose network runs without lerobot."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from policies.action_chunk import ActionChunk
from policies.policy import (
    EpisodeMemory,
    Generators,
    Memories,
    PolicySpec,
    WeightsAudit,
    make_memory,
)
from policies.weights_audit import audit_weights
from sim.observation import Observation


class NativePolicy:
    """`policies.policy.HookablePolicy` around a network; subclasses write `predict`.

    Attributes:
        network: the loaded module, also for hooks.
        records_intermediate_plans: `predict` returns the intermediate plans too, if the spec
            declares any.
    """

    records_intermediate_plans = False

    def __init__(
        self,
        spec: PolicySpec,
        network: torch.nn.Module,
        tokenizer: Any,
        gripper_range: tuple[float, float],
    ) -> None:
        """Wrap a loaded network.

        Args:
            gripper_range: the environment's values for closed and for open.
        """
        self.spec = spec
        self.network = network
        self._tokenizer = tokenizer
        self._gripper_range = gripper_range

    def reset(self) -> EpisodeMemory:
        return make_memory()

    def predict(self, memories: Memories, rngs: Generators) -> ActionChunk:
        raise NotImplementedError

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        self.spec.check_can_sample()
        return self.predict([replace(memory) for _ in rngs], rngs)

    def pad_instructions(self, is_on: bool = True) -> None:
        """Do nothing: all instructions have one length in the network."""

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        return {}

    def audit(self) -> WeightsAudit:
        return audit_weights(self.network)


def find_device(device: str) -> str:
    """Return the device that a value of `--device` means."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
