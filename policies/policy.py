"""The contract of every policy."""

from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from policies.action_chunk import ActionChunk
from sim.observation import Observation


@dataclass(frozen=True)
class PolicySpec:
    """The policy's side of the contract, compared with `sim.spec.EnvSpec` before anything runs.

    Conventions, from `action_mode` to `seedable`, are None where they are not known.

    Attributes:
        type: e.g. "act".
        image_sizes: camera → (height_px, width_px) that it looks through; empty if it does not
            look.
        state_dim: None if it does not read the state.
        action_dim: None if it fits any environment.
        chunk_size: actions a prediction.
        n_action_steps: of which this many are executed, unless told otherwise.
        max_action_steps: more than these cannot be: 1 where every step must be predicted anew.
        stochastic: two predictions of one observation can differ.
        n_obs_steps: control steps that it looks back, the present one included.
        can_sample: it has alternative plans for one observation, see `Policy.sample`.
        intermediate plans: what its plans are made from, where that can be recorded. "flow": every step of the
            denoising, pure noise first. "ensemble": the one chunk that was predicted now, before it
            was averaged with past ones.
        reads_instruction: the words of the task are an input.
        masks_missing_views: it can plan without a camera; others are shown a black image in its
            place.
        action_mode: "absolute": its postprocessor adds the state to planned differences. "delta":
            it was trained on differences from the state, and nothing adds it. None: its processors
            do not say.
        rotation: how it writes rotations in its actions, as `ActionSpec.rotation` has it: "none"
            for joints.
        rotation_frame: the frame of these rotations, as `ActionSpec.rotation_frame` has it.
        gripper_range: its values for closed and for open, in its actions and its state.
        state_names: of the numbers of the state that it reads, in order.
        state_units: of these numbers.
        camera_roles: camera → where it is: "wrist", on the hand, or "scene".
        seedable: all that it draws comes from the generators that it is handed, so that an episode
            can be repeated.
        has_network: numbers depend on the processor and on torch.
        is_baseline: a floor or a ceiling to compare with, which is not itself examined.
        follows_env: it belongs to the one environment that it was made with. It is made anew for
            the next task, and cannot go back to a decision.
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


@dataclass
class EpisodeMemory:
    """What a policy remembers of one episode.

    It belongs to the episode, like its `ChunkQueue`: the rows of a batch are of different episodes,
    and a memory kept in the policy would hand one the past of another.

    Attributes:
        observations: the last `PolicySpec.n_obs_steps`, the present one last. At an episode's start
            there are fewer.
        carried: what the policy itself takes from one prediction to the next.
    """

    observations: deque[Observation]
    carried: object = None

    @property
    def present(self) -> Observation:
        return self.observations[-1]

    def copy(self) -> "EpisodeMemory":
        """The same past, with a future of its own: observations are frozen, and shared; what is carried is not."""
        return EpisodeMemory(self.observations.copy(), deepcopy(self.carried))


def make_memory(*observations: Observation, n_obs_steps: int = 1) -> EpisodeMemory:
    """A memory that has seen these, oldest first."""
    return EpisodeMemory(deque(observations, maxlen=n_obs_steps))


@runtime_checkable
class Policy(Protocol):
    """Plans actions from observations. Rows of a batch do not influence one another."""

    @property
    def spec(self) -> PolicySpec: ...

    def reset(self) -> EpisodeMemory:
        """Begin an episode, with nothing left of the last one."""

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        """One plan an episode, from its present observation on, in the environment's units.

        Args:
            rngs: where each row's sampling noise comes from; never a global generator.
        """

    def sample(self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        """Return alternatives to what `predict` plans for one observation, one a generator. The memory stays as it is.

        Raises:
            WhiskerError: the policy has one plan only.
        """


# Normalisation layers as they were created: in this share, nothing was trained.
_UNTOUCHED_SHARE = 0.9


@dataclass(frozen=True)
class WeightsAudit:
    """Counts what tells trained weights from random ones.

    Attributes:
        n_parameters: of the whole network.
        n_norms: normalisation layers with a scale.
        n_untouched_norms: of which the scale has one value throughout and the shift is zero, as at
            their creation.
        non_finite: names of tensors with a NaN or an infinity, running statistics included.
        negative_variances: names of the running variances (BatchNorm) that have a number below
            zero.
    """

    n_parameters: int
    n_norms: int
    n_untouched_norms: int
    non_finite: tuple[str, ...]
    negative_variances: tuple[str, ...] = ()

    @property
    def looks_random(self) -> bool:
        """Hardly a layer has moved: the weights were never trained, or never loaded."""
        return self.n_norms >= 2 and self.n_untouched_norms >= _UNTOUCHED_SHARE * self.n_norms


@runtime_checkable
class NetworkPolicy(Policy, Protocol):
    """A policy with a network inside that can be looked at."""

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        """What the network is given for one observation: preprocessed, normalised, `(1, ...)` each."""

    def audit(self) -> WeightsAudit: ...

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        """Inputs of one real observation that lie far outside what was trained on → their lowest and highest number,
        normalised."""


@runtime_checkable
class IntermediatePlanPolicy(Policy, Protocol):
    """A policy that can record its intermediate plans (`PolicySpec.intermediate_plans`).

    Attributes:
        records_drafts: `predict` returns the intermediate plans too. Plans stay the same.
    """

    records_intermediate_plans: bool


@runtime_checkable
class HookablePolicy(NetworkPolicy, Protocol):
    """A policy whose network can be listened to while it plans."""

    @property
    def network(self) -> Any:
        """The loaded `torch.nn.Module`; its type, as `PolicySpec.type` has it, is in `policies.embeddings`."""
