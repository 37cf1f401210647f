"""Adapters between an environment and a checkpoint that was trained with other conventions."""

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
    Generators,
    HookablePolicy,
    Memories,
    NetworkPolicy,
    Policy,
    PolicySpec,
    WeightsAudit,
)
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import ActionSpec, EnvSpec

# Plausible heights and widths of an image, in pixels.
_IMAGE_SIDE_PX = range(16, 2049)


@dataclass(frozen=True)
class Adapters:
    """Conversions that the user asked for by name; none is ever guessed.

    Attributes:
        camera_map: the environment's camera → the policy's name for it.
        image_size: (height_px, width_px) at which every camera is rendered. None: the size that
            the checkpoint declares.
        allow_missing_camera: replace a camera that the environment lacks by a masked view where
            the policy type supports that, and by a black image otherwise.
        allow_padding: fill up a state that is too narrow with zeros, and cut off the last numbers
            of an action that is too wide.
        policy_actions: "delta": the policy's actions are differences from the state in which the
            chunk was predicted, except for the gripper. "absolute": they are targets. None: they
            are what the environment takes.
        calibration: the calibration of the policy's joints, in its state and its actions. None:
            the environment's.
        gripper_range: the policy's own values for closed and open. None: the environment's.
        gripper_offset: added to the gripper's target, in the environment's units.
        gripper_min: lower limit of the gripper's target, in the environment's units.
        wrong_instruction: give the policy `EnvSpec.opposite_instruction` in place of the episode's
            own instruction.
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
        """Return the environment's name for a camera of the policy."""
        for env_name, policy_name in self.camera_map.items():
            if policy_name == policy_camera:
                return env_name
        return policy_camera


class AdaptedPolicy:
    """Wraps a policy so that it uses the environment's names, units and widths.

    `spec` describes the environment's side.
    """

    def __init__(self, policy: Policy, adapters: Adapters, env: EnvSpec) -> None:
        """Wrap a policy.

        Args:
            env: its cameras are those that the policy reads, under the environment's names.
        """
        self.inner = policy
        self._adapters = adapters
        self._env = env
        self._policy_names = {
            adapters.env_camera(camera): camera for camera in policy.spec.image_sizes
        }
        self.spec = self._adapt_spec(policy.spec)

    @property
    def network(self) -> Any:
        """The loaded module, for hooks."""
        assert isinstance(self.inner, HookablePolicy)
        return self.inner.network

    def reset(self) -> EpisodeMemory:
        return self.inner.reset()

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        adapted = [self._adapt_memory(memory) for memory in memories]
        chunk = self.inner.predict(adapted, rngs)
        for memory, inner_memory in zip(memories, adapted, strict=True):
            memory.recurrent_state = inner_memory.recurrent_state
        states = np.stack([memory.present.state for memory in memories])
        return self._adapt_chunk(chunk, states)

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        chunk = self.inner.sample(self._adapt_memory(memory), rngs)
        states = np.stack([memory.present.state] * len(rngs))
        return self._adapt_chunk(chunk, states)

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
        """Return the observation in the checkpoint's names, units and widths."""
        instruction = observation.instruction
        if self._adapters.wrong_instruction:
            instruction = self._env.opposite_instruction(instruction)
        return replace(
            observation,
            images=self._adapt_images(observation.images),
            state=self._adapt_state(observation.state),
            instruction=instruction,
        )

    def _adapt_images(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rename the cameras; add black images for missing ones that the policy cannot mask."""
        adapted = {self._policy_names[camera]: image for camera, image in images.items()}
        if self.inner.spec.masks_missing_views:
            return adapted
        for camera, declared_size in self.inner.spec.image_sizes.items():
            height, width = self._adapters.image_size or declared_size
            adapted.setdefault(camera, np.zeros((height, width, 3), np.uint8))
        return adapted

    def _adapt_state(
        self,
        state: Float32[np.ndarray, " state_dim"],
    ) -> Float32[np.ndarray, " policy_state_dim"]:
        """Convert joints and gripper to the policy's units, and pad to the policy's width."""
        adapters = self._adapters
        state = state.copy()
        if adapters.calibration is not None:
            joints = make_calibration_map(adapters.calibration, self._env.state_names)
            state = joints.to_policy(state)
        gripper = find_gripper_in_state(self._env.state_names, self._env.action)
        if adapters.gripper_range and gripper is not None:
            state[gripper] = convert_gripper(
                state[gripper],
                self._env_gripper_range(),
                adapters.gripper_range,
            )
        n_missing = (self.inner.spec.state_dim or 0) - len(state)
        return np.pad(state, (0, max(0, n_missing)))

    def _adapt_memory(self, memory: EpisodeMemory) -> EpisodeMemory:
        adapted = map(self.adapt_observation, memory.observations)
        observations = deque(adapted, memory.observations.maxlen)
        return EpisodeMemory(observations, memory.recurrent_state)

    def _adapt_chunk(
        self,
        chunk: ActionChunk,
        states: Float32[np.ndarray, "batch state_dim"],
    ) -> ActionChunk:
        actions = self._adapt_actions(chunk.actions, states[:, None])
        intermediate_plans = chunk.intermediate_plans
        if intermediate_plans is not None:
            intermediate_plans = self._adapt_actions(intermediate_plans, states[:, None, None])
        return replace(chunk, actions=actions, intermediate_plans=intermediate_plans)

    def _adapt_actions(
        self,
        actions: Float32[np.ndarray, "*plan policy_dim"],
        states: Float32[np.ndarray, "*rows state_dim"],
    ) -> Float32[np.ndarray, "*plan action_dim"]:
        """Convert the policy's actions to the environment's.

        Args:
            states: the states in which the actions were planned; broadcast against the actions.
        """
        adapters = self._adapters
        spec = self._env.action
        actions = actions[..., : spec.dim].copy()
        if adapters.calibration is not None:
            joints = make_calibration_map(adapters.calibration, spec.names)
            is_difference = "delta" in (adapters.policy_actions, spec.mode)
            convert = joints.convert_differences if is_difference else joints.to_env
            actions = convert(actions)
        planned = actions.copy()
        if adapters.policy_actions == "delta" and spec.mode == "absolute":
            actions += states[..., : spec.dim]
        for index in spec.gripper_indices:
            actions[..., index] = self._adapt_gripper(planned[..., index])
        return actions.astype(np.float32)

    def _adapt_gripper(self, target: Float32[np.ndarray, "*plan"]) -> Float32[np.ndarray, "*plan"]:
        """Convert gripper targets to the environment's range, then apply offset and lower limit."""
        adapters = self._adapters
        if adapters.gripper_range:
            target = convert_gripper(target, adapters.gripper_range, self._env_gripper_range())
        target = target + np.float32(adapters.gripper_offset)
        if adapters.gripper_min is not None:
            target = np.maximum(target, np.float32(adapters.gripper_min))
        return target

    def _adapt_spec(self, spec: PolicySpec) -> PolicySpec:
        image_sizes = {}
        rendered = {camera.name: camera for camera in self._env.cameras}
        for name in self._policy_names:
            if name in rendered:
                camera = rendered[name]
                image_sizes[name] = (camera.height_px, camera.width_px)
        return replace(
            spec,
            image_sizes=image_sizes,
            state_dim=None if spec.state_dim is None else len(self._env.state_names),
            action_dim=self._env.action.dim,
        )

    def _env_gripper_range(self) -> tuple[float, float]:
        return self._env.action.gripper_closed, self._env.action.gripper_open


def find_gripper_in_state(state_names: Sequence[str], action: ActionSpec) -> int | None:
    """Return the index of the action's gripper in the state; None if the state does not have it."""
    if action.gripper_index is None:
        return None
    name = action.names[action.gripper_index]
    return state_names.index(name) if name in state_names else None


def convert_gripper(value, source: tuple[float, float], target: tuple[float, float]):
    """Map values linearly from one (closed, open) pair to another; the direction may reverse."""
    share_open = (value - source[0]) / (source[1] - source[0])
    return np.float32(target[0]) + share_open * np.float32(target[1] - target[0])


def parse_camera_map(text: str | None) -> dict[str, str]:
    """Return environment's name → policy's name, read from text such as "wrist_cam=left,top=base".

    Raises:
        WhiskerError: the text is not of that form, or names a camera twice.
    """
    pairs = [pair.split("=") for pair in (text or "").split(",") if pair]
    env_names = [pair[0].strip() for pair in pairs]
    policy_names = [pair[-1].strip() for pair in pairs]
    are_pairs = all(len(pair) == 2 for pair in pairs)
    are_named = all(env_names) and all(policy_names)
    are_unique = len(set(env_names)) == len(set(policy_names)) == len(pairs)
    if not (are_pairs and are_named and are_unique):
        raise WhiskerError(
            "--camera-map",
            expected="env=policy,env=policy, each camera once",
            got=repr(text),
        )
    return dict(zip(env_names, policy_names, strict=True))


def format_camera_map(camera_map: Mapping[str, str]) -> str:
    """Return the text that `parse_camera_map` reads as this map."""
    return ",".join(f"{env}={policy}" for env, policy in camera_map.items())


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Return (height_px, width_px) of text such as "640x480", the width first; None for None.

    Raises:
        WhiskerError: the text is not a size, or the size is outside the range of real cameras.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
    width, height = map(int, match.groups()) if match else (0, 0)
    if width not in _IMAGE_SIDE_PX or height not in _IMAGE_SIDE_PX:
        limits = f"{_IMAGE_SIDE_PX[0]} to {_IMAGE_SIDE_PX[-1]} pixels"
        expected = f"WIDTHxHEIGHT, each {limits}, e.g. 640x480"
        raise WhiskerError("--image-size", expected=expected, got=repr(text))
    return height, width


def format_image_size(size: tuple[int, int]) -> str:
    """Return (height_px, width_px) as the text that `parse_image_size` reads: the width first."""
    height, width = size
    return f"{width}x{height}"
