"""The contract of every policy."""

from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from policies.action_chunk import ActionChunk
from sim.errors import WhiskerError
from sim.observation import Observation


@dataclass(frozen=True)
class PolicySpec:
    """Declares the policy's conventions, which are compared with `sim.spec.EnvSpec` before a run.

    The conventions from `action_mode` to `seedable` are None if they are not known.

    Attributes:
        type: e.g. "act".
        image_sizes: camera → (height_px, width_px) of its images; empty if the policy reads no
            images.
        state_dim: None if the policy does not read the state.
        action_dim: None if the policy fits any environment.
        chunk_size: number of actions per prediction.
        n_action_steps: number of actions of a chunk that are executed by default.
        max_action_steps: upper limit of `n_action_steps`; 1 if every step needs a new prediction.
        stochastic: two predictions for one observation can differ.
        n_obs_steps: number of control steps in the policy's input, the present one included.
        can_sample: the policy has alternative plans for one observation, see `Policy.sample`.
        intermediate_plans: the stages that its plans are made from, where they can be recorded.
            "flow": the noisy chunk before each denoising step, pure noise first. "ensemble": the
            single chunk predicted now, before it was averaged with past ones.
        reads_instruction: the instruction is an input.
        masks_missing_views: the policy can plan without a camera. Other policies get a black image
            in its place.
        action_mode: "absolute": the postprocessor adds the state to planned differences. "delta":
            the policy was trained on differences from the state, and nothing adds the state. None:
            the processors do not say.
        rotation: format of the rotations in its actions, as in `ActionSpec.rotation`; "none" for
            joints.
        rotation_frame: the frame of these rotations, as in `ActionSpec.rotation_frame`.
        gripper_range: values for closed and for open, in its actions and its state.
        state_names: names of the numbers of its state, in order.
        state_units: units of these numbers.
        camera_roles: camera → where it is mounted: "wrist", on the hand, or "scene".
        seedable: all its random numbers come from the generators that it is given, so that an
            episode can be repeated.
        has_network: its numbers depend on the processor and on torch.
        is_baseline: a lower or upper bound to compare with; the doctor does not check it.
        follows_env: the policy belongs to the one environment that it was made with. It is made
            again for the next task, and cannot go back to an earlier decision.
        checkpoint: where it was loaded from, as shown to the user; "" if there is none.
        device: the device that it runs on.
        files_sha256: file → hash, for every file of the checkpoint that a number depends on.
        server: what is known of the server that plans; {} if this process plans.
    """

    type: str
    image_sizes: Mapping[str, tuple[int, int]]
    state_dim: int | None
    action_dim: int | None
    chunk_size: int
    n_action_steps: int
    max_action_steps: int
    stochastic: bool
    n_obs_steps: int = 1
    can_sample: bool = False
    intermediate_plans: Literal["none", "flow", "ensemble"] = "none"
    reads_instruction: bool = False
    masks_missing_views: bool = False
    action_mode: Literal["absolute", "delta"] | None = None
    rotation: str | None = None
    rotation_frame: str | None = None
    gripper_range: tuple[float, float] | None = None
    state_names: tuple[str, ...] | None = None
    state_units: tuple[str, ...] | None = None
    camera_roles: Mapping[str, Literal["wrist", "scene"]] | None = None
    seedable: bool | None = None
    has_network: bool = False
    is_baseline: bool = False
    follows_env: bool = False
    checkpoint: str = ""
    device: str = "cpu"
    files_sha256: Mapping[str, str] = field(default_factory=dict)
    server: Mapping[str, str] = field(default_factory=dict)

    def check_can_sample(self) -> None:
        """Raise unless the policy can plan in more than one way."""
        if not self.can_sample:
            raise WhiskerError(
                f"alternative plans of policy {self.type!r} ({self.checkpoint})",
                expected="a policy that can plan in more than one way",
                got="a deterministic one",
            )

    @property
    def draws_own_noise(self) -> bool:
        """Return whether no seed decides its plans, so that no episode can be repeated."""
        return self.stochastic and self.seedable is False


@dataclass
class EpisodeMemory:
    """A policy's memory of one episode.

    The memory belongs to the episode, like its `ChunkQueue`. The rows of a batch come from
    different episodes, so a memory kept inside the policy would mix their pasts.

    Attributes:
        observations: the last `PolicySpec.n_obs_steps` observations, the present one last. At the
            start of an episode there are fewer.
        recurrent_state: the policy's own state from one prediction to the next.
    """

    observations: deque[Observation]
    recurrent_state: object = None

    @property
    def present(self) -> Observation:
        return self.observations[-1]

    def copy(self) -> "EpisodeMemory":
        """Return an independent copy; it shares only the observations, which are frozen."""
        return EpisodeMemory(self.observations.copy(), deepcopy(self.recurrent_state))


type Memories = Sequence[EpisodeMemory]
# The source of the sampling noise of each row.
type Generators = Sequence[np.random.Generator]


def make_memory(*observations: Observation, n_obs_steps: int = 1) -> EpisodeMemory:
    """Return a memory of these observations, given oldest first."""
    return EpisodeMemory(deque(observations, maxlen=n_obs_steps))


@runtime_checkable
class Policy(Protocol):
    """Plans actions from observations. The rows of a batch do not influence one another."""

    @property
    def spec(self) -> PolicySpec: ...

    def reset(self) -> EpisodeMemory:
        """Return the memory of a new episode, with nothing left of the last one."""

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        """Return one plan per episode, from its present observation, in the environment's units.

        Args:
            rngs: the sources of each row's sampling noise, which never comes from a global
                generator.
        """

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        """Return alternatives to the plan of `predict` for one observation, one per generator.

        The memory is not changed.

        Raises:
            WhiskerError: the policy has only one plan.
        """


# Share of normalisation layers with their initial values from which on a network counts as
# untrained.
_UNTOUCHED_SHARE = 0.9


@dataclass(frozen=True)
class WeightsAudit:
    """Counts that tell trained weights from random ones.

    Attributes:
        n_parameters: of the whole network.
        n_norms: number of normalisation layers with a scale.
        n_untouched_norms: number of those with their initial values: one scale throughout, and
            zero shift.
        non_finite: names of tensors with a NaN or an infinity, running statistics included.
        negative_variances: names of running variances (BatchNorm) that have a number below zero.
    """

    n_parameters: int
    n_norms: int
    n_untouched_norms: int
    non_finite: tuple[str, ...]
    negative_variances: tuple[str, ...] = ()

    @property
    def looks_random(self) -> bool:
        """Hardly any layer has changed: the weights were never trained, or never loaded."""
        return self.n_norms >= 2 and self.n_untouched_norms >= _UNTOUCHED_SHARE * self.n_norms


@runtime_checkable
class NetworkPolicy(Policy, Protocol):
    """A policy with a network whose inputs and weights can be inspected."""

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        """Return the network's inputs for one observation, preprocessed and normalised.

        Each array has the shape `(1, ...)`.
        """

    def audit(self) -> WeightsAudit:
        """Return the counts that tell trained weights from random ones."""

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        """Return inputs of a real observation that lie far outside the training's range.

        Each input is given as key → (lowest, highest) normalised number.
        """


@runtime_checkable
class IntermediatePlanPolicy(Policy, Protocol):
    """A policy that can record its intermediate plans (`PolicySpec.intermediate_plans`).

    Attributes:
        records_intermediate_plans: `predict` returns the intermediate plans too. The plans do not
            change.
    """

    records_intermediate_plans: bool


@runtime_checkable
class BatchablePolicy(Policy, Protocol):
    """A policy that can plan for several episodes in one forward pass."""

    def pad_instructions(self, is_on: bool = True) -> None:
        """Give all instructions one length from now on, so that batches of them have one shape.

        Args:
            is_on: False goes back to the lengths of before.
        """


@runtime_checkable
class HookablePolicy(NetworkPolicy, Protocol):
    """A policy whose network accepts hooks while it plans."""

    @property
    def network(self) -> Any:
        """The loaded `torch.nn.Module`, of a type in `policies.embeddings` (`PolicySpec.type`)."""
