"""What all policies have in common whose network runs without lerobot."""

from dataclasses import replace

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
from sim.errors import WhiskerError
from sim.observation import Observation


class NativePolicy:
    """`policies.policy.HookablePolicy` around a network; subclasses write `predict`.

    Attributes:
        network: the loaded module, also for hooks.
        records_intermediate_plans: `predict` returns the intermediate plans too, if the spec
            declares any.
    """

    records_intermediate_plans = False

    def __init__(self, spec: PolicySpec, network: torch.nn.Module) -> None:
        self.spec = spec
        self.network = network

    def reset(self) -> EpisodeMemory:
        return make_memory()

    def predict(self, memories: Memories, rngs: Generators) -> ActionChunk:
        raise NotImplementedError

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        if not self.spec.can_sample:
            raise WhiskerError(
                f"alternative plans of policy {self.spec.type!r} ({self.spec.checkpoint})",
                expected="a policy that can plan in more than one way",
                got="a deterministic one",
            )
        return self.predict([replace(memory) for _ in rngs], rngs)

    def pad_instructions(self) -> None:
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
