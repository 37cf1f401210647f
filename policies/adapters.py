"""What stands between an environment and a checkpoint that was trained with other conventions."""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from policies.action_chunk import ActionChunk
from policies.calibration import CalibrationName, make_calibration_map
from policies.policy import (
    EpisodeMemory,
    HookablePolicy,
    NetworkPolicy,
    Policy,
    PolicySpec,
    WeightsAudit,
)
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import ActionSpec, EnvSpec

# Sides of an image in pixels that a camera and a network can have.
_IMAGE_SIDE_PX = range(16, 2049)


@dataclass(frozen=True)
class Adapters:
    """Conversions that a person asked for by name; none is ever guessed.

    Attributes:
        camera_map: the environment's camera → the policy's name of it.
        image_size: (height_px, width_px) at which every camera is shown. None: as the checkpoint
            declares.
        allow_missing_camera: a camera that the environment lacks is masked where the type can do
            that, else black.
        allow_padding: a state that is too narrow is filled up with zeros, an action that is too
            wide is cut.
        policy_actions: "delta": differences from the state in which the chunk was predicted,
            gripper excepted. "absolute": targets. None: what the environment takes.
        calibration: in which the policy's joints are, of its state and its actions; None: the
            environment's.
        gripper_range: the policy's own values for closed and open; None: the environment's.
        gripper_offset: added to the gripper's target, in the environment's units.
        gripper_min: below this the gripper's target is not let, in the environment's units.
        wrong_instruction: the policy is told `EnvSpec.opposite_instruction` in place of the
            episode's own.
    """

    camera_map: Mapping[str, str] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    allow_missing_camera: bool = False
    allow_padding: bool = False
    policy_actions: Literal["absolute", "delta"] | None = None
    calibration: CalibrationName | None = None
    gripper_range: tuple[float, float] | None = None
    gripper_offset: float = 0.0
    gripper_min: float | None = None
    wrong_instruction: bool = False

    def env_camera(self, policy_camera: str) -> str:
        """The environment's name of a policy's camera."""
        return {policy: env for env, policy in self.camera_map.items()}.get(
            policy_camera, policy_camera
        )


class AdaptedPolicy:
    """A policy that speaks the environment's names, units and widths.

    `spec` is the environment's side of it.
    """

    def __init__(self, policy: Policy, adapters: Adapters, env: EnvSpec) -> None:
        """Args:
        env: observes the cameras that the policy looks through, under its own names.
        """
        self.inner = policy
        self._adapters = adapters
        self._env = env
        self._renamed = {adapters.env_camera(camera): camera for camera in policy.spec.image_sizes}
        self.spec = self._adapt_spec(policy.spec)

    @property
    def network(self) -> Any:
        """The loaded module, for hooks."""
        assert isinstance(self.inner, HookablePolicy)
        return self.inner.network

    def reset(self) -> EpisodeMemory:
        return self.inner.reset()

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        adapted = [self._adapt_memory(memory) for memory in memories]
        chunk = self.inner.predict(adapted, rngs)
        for memory, own in zip(memories, adapted, strict=True):
            memory.carried = own.carried
        return self._adapt_chunk(chunk, np.stack([memory.present.state for memory in memories]))

    def sample(self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        chunk = self.inner.sample(self._adapt_memory(memory), rngs)
        return self._adapt_chunk(chunk, np.stack([memory.present.state] * len(rngs)))

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        return self._network.network_inputs(self.adapt_observation(observation))

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        return self._network.out_of_range_inputs(self.adapt_observation(observation))

    def audit(self) -> WeightsAudit:
        return self._network.audit()

    @property
    def _network(self) -> NetworkPolicy:
        assert isinstance(self.inner, NetworkPolicy)
        return self.inner

    def adapt_observation(self, observation: Observation) -> Observation:
        """As the checkpoint knows it."""
        images = {
            self._renamed[camera]: observation.images[camera] for camera in observation.images
        }
        if not self.inner.spec.masks_missing_views:
            for camera, size in self.inner.spec.image_sizes.items():
                images.setdefault(
                    camera, np.zeros((*(self._adapters.image_size or size), 3), np.uint8)
                )
        state = observation.state.copy()
        if self._adapters.calibration is not None:
            state = make_calibration_map(
                self._adapters.calibration, self._env.state_names
            ).to_policy(state)
        gripper = self._gripper_in_state()
        if self._adapters.gripper_range and gripper is not None:
            state[gripper] = convert_gripper(
                state[gripper], self._env_range(), self._adapters.gripper_range
            )
        width = self.inner.spec.state_dim or 0
        state = np.pad(state, (0, max(0, width - len(state))))
        instruction = observation.instruction
        if self._adapters.wrong_instruction:
            instruction = self._env.opposite_instruction(instruction)
        return replace(observation, images=images, state=state, instruction=instruction)

    def _adapt_memory(self, memory: EpisodeMemory) -> EpisodeMemory:
        observations = deque(
            map(self.adapt_observation, memory.observations), memory.observations.maxlen
        )
        return EpisodeMemory(observations, memory.carried)

    def _adapt_chunk(
        self, chunk: ActionChunk, states: Float32[np.ndarray, "batch state_dim"]
    ) -> ActionChunk:
        intermediate_plans = (
            None
            if chunk.intermediate_plans is None
            else self._adapt_actions(chunk.intermediate_plans, states[:, None, None])
        )
        return replace(
            chunk,
            actions=self._adapt_actions(chunk.actions, states[:, None]),
            intermediate_plans=intermediate_plans,
        )

    def _adapt_actions(
        self,
        actions: Float32[np.ndarray, "*plan policy_dim"],
        states: Float32[np.ndarray, "*rows state_dim"],
    ) -> Float32[np.ndarray, "*plan action_dim"]:
        """Args:
        states: in which they were planned; broadcast against the actions.
        """
        adapters, spec = self._adapters, self._env.action
        actions = actions[..., : spec.dim].copy()
        if adapters.calibration is not None:
            joints = make_calibration_map(adapters.calibration, spec.names)
            is_difference = "delta" in (adapters.policy_actions, spec.mode)
            actions = joints.turn(actions) if is_difference else joints.to_env(actions)
        gripper = actions[..., spec.gripper_index].copy()
        if adapters.policy_actions == "delta" and spec.mode == "absolute":
            actions += states[..., : spec.dim]
        if adapters.gripper_range:
            gripper = convert_gripper(gripper, adapters.gripper_range, self._env_range())
        gripper = gripper + np.float32(adapters.gripper_offset)
        if adapters.gripper_min is not None:
            gripper = np.maximum(gripper, np.float32(adapters.gripper_min))
        actions[..., spec.gripper_index] = gripper
        return actions.astype(np.float32)

    def _adapt_spec(self, spec: PolicySpec) -> PolicySpec:
        observed = {
            camera.name: (camera.height_px, camera.width_px) for camera in self._env.cameras
        }
        return replace(
            spec,
            image_sizes={env: observed[env] for env in self._renamed if env in observed},
            state_dim=None if spec.state_dim is None else len(self._env.state_names),
            action_dim=self._env.action.dim,
        )

    def _env_range(self) -> tuple[float, float]:
        return self._env.action.gripper_closed, self._env.action.gripper_open

    def _gripper_in_state(self) -> int | None:
        return find_gripper_in_state(self._env.state_names, self._env.action)


def find_gripper_in_state(state_names: Sequence[str], action: ActionSpec) -> int | None:
    """Where the state has the gripper of the action; None if it has it not."""
    name = action.names[action.gripper_index]
    return state_names.index(name) if name in state_names else None


def convert_gripper(value, source: tuple[float, float], target: tuple[float, float]):
    """Linear from one (closed, open) to another; the sign may turn."""
    share_open = (value - source[0]) / (source[1] - source[0])
    return np.float32(target[0]) + share_open * np.float32(target[1] - target[0])


def parse_camera_map(text: str | None) -> dict[str, str]:
    """ "overhead_cam=base_0_rgb,wrist_cam=left_wrist_0_rgb" → the environment's name → the policy's."""
    pairs = [pair.split("=") for pair in (text or "").split(",") if pair]
    names = [name.strip() for pair in pairs for name in pair]
    if (
        any(len(pair) != 2 for pair in pairs)
        or not all(names)
        or len({*names[::2]}) < len(pairs)
        or len({*names[1::2]}) < len(pairs)
    ):
        raise WhiskerError(
            "--camera-map", expected="env=policy,env=policy, each camera once", got=repr(text)
        )
    return dict(zip(names[::2], names[1::2], strict=True))


def format_camera_map(camera_map: Mapping[str, str]) -> str:
    """Return the text that `parse_camera_map` reads as this map."""
    return ",".join(f"{env}={policy}" for env, policy in camera_map.items())


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Return (height_px, width_px) of "640x480", which has the width first; None for None.

    Raises:
        WhiskerError: not a size, or one that no camera has.
    """
    if text is None:
        return None
    sides = (
        [int(side) for side in text.split("x")]
        if re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", text)
        else []
    )
    if not sides or not all(side in _IMAGE_SIDE_PX for side in sides):
        expected = (
            f"WIDTHxHEIGHT, each {_IMAGE_SIDE_PX[0]} to {_IMAGE_SIDE_PX[-1]} pixels, e.g. 640x480"
        )
        raise WhiskerError("--image-size", expected=expected, got=repr(text))
    width, height = sides
    return height, width


def format_image_size(size: tuple[int, int]) -> str:
    """Return (height_px, width_px) as the text that `parse_image_size` reads: the width first."""
    height, width = size
    return f"{width}x{height}"
