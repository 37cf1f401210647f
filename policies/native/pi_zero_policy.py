"""open-pi-zero behind the `Policy` contract."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int

from policies.action_chunk import ActionChunk
from policies.native.end_effector import (
    ACTION_DIM,
    camera_of,
    check_action,
    gripper_range_of,
    join_action,
    normalise,
    opens,
    unnormalise,
)
from policies.native.native_checkpoint import NativeCheckpoint, fingerprint
from policies.native.native_policy import NativePolicy, find_device
from policies.native.pi_zero_files import make_network, read_tensors
from policies.native.pi_zero_network import CHUNK_SIZE, N_TEXT_TOKENS, PiZeroNetwork
from policies.native.pi_zero_statistics import STATE_NAMES, PiZeroStatistics, read_statistics
from policies.native.sticky_gripper import StickyGripper
from policies.native.tokenizer_files import load_tokenizer
from policies.normalisation import FeatureStats, Normalisation, find_out_of_range_inputs
from policies.policy import Generators, Memories, PolicySpec
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import EnvSpec

_TOKENIZER = "google/paligemma-3b-pt-224"
_STATE = "observation.state"
# Training set → actions that are executed before the next prediction, as published.
_N_ACTION_STEPS = {"bridge": 4, "fractal": 2}


class OpenPiZeroPolicy(NativePolicy):
    """Plans four actions from one image, the instruction and the state of the end effector.

    The state is that of the training: on Bridge position, roll, pitch, yaw and the gripper's
    opening, on Fractal position, quaternion xyzw and the gripper's closing.
    """

    network: PiZeroNetwork

    def __init__(
        self,
        spec: PolicySpec,
        network: PiZeroNetwork,
        tokenizer: Any,
        gripper_range: tuple[float, float],
        statistics: PiZeroStatistics,
    ) -> None:
        super().__init__(spec, network, tokenizer, gripper_range)
        self._statistics = statistics

    @torch.inference_mode()
    def predict(self, memories: Memories, rngs: Generators) -> ActionChunk:
        observations = [memory.present for memory in memories]
        shape = (CHUNK_SIZE, self.network.config.action_dim)
        noise = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])
        tokens, is_text = self._tokenize(observations)
        device = self.spec.device
        chunks = self.network(
            torch.from_numpy(self._read_images(observations)).to(device),
            torch.from_numpy(tokens).to(device),
            torch.from_numpy(is_text).to(device),
            torch.from_numpy(self._read_states(observations).clip(-1, 1)).to(device),
            torch.from_numpy(noise).to(device),
        )
        stages = [self._to_env_units(chunk) for chunk in chunks]
        actions = stages[-1]
        if self._statistics.dataset == "fractal":
            actions = self._hold_gripper(memories, actions, chunks[-1])
        is_recorded = self.records_intermediate_plans
        return ActionChunk(actions, np.stack(stages[:-1], axis=1) if is_recorded else None)

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        tokens, is_text = self._tokenize([observation])
        (camera,) = self.spec.image_sizes
        return {
            f"observation.images.{camera}": self._read_images([observation]),
            _STATE: self._read_states([observation]),
            "observation.language.tokens": tokens.astype(np.float32),
            "observation.language.attention_mask": is_text.astype(np.float32),
        }

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        low, high = self._statistics.state
        stats = FeatureStats(_STATE, "STATE", "QUANTILES", {"q01": low, "q99": high})
        normalisation = Normalisation({_STATE: stats}, None, None, {})
        found = find_out_of_range_inputs(normalisation, self.network_inputs(observation))
        return {key: (float(values.min()), float(values.max())) for key, values in found.items()}

    def _read_images(self, observations: Sequence[Observation]) -> Float32[np.ndarray, "B 3 px px"]:
        """Return the images at the network's size, with pixels from -1 to 1."""
        side = self.network.config.image_px
        (camera,) = self.spec.image_sizes
        images = [
            cv2.resize(one.images[camera], (side, side), interpolation=cv2.INTER_LANCZOS4)
            for one in observations
        ]
        pixels = np.stack(images).astype(np.float32) / 255
        return np.ascontiguousarray(((pixels - 0.5) / 0.5).transpose(0, 3, 1, 2))

    def _read_states(self, observations: Sequence[Observation]) -> Float32[np.ndarray, "B state"]:
        """Return the normalised states; what lies outside of the bounds is not yet clipped."""
        states = np.stack([observation.state for observation in observations])
        return normalise(states, self._statistics.state)

    def _tokenize(
        self, observations: Sequence[Observation]
    ) -> tuple[Int[np.ndarray, "B text"], Bool[np.ndarray, "B text"]]:
        """Return the tokens of `<bos> instruction newline`, padded, and which are not padding.

        Raises:
            WhiskerError: an instruction has too many tokens.
        """
        tokens = np.zeros((len(observations), N_TEXT_TOKENS), np.int64)
        is_text = np.zeros(tokens.shape, bool)
        for row, observation in enumerate(observations):
            text = f"{self._tokenizer.bos_token}{observation.instruction}\n"
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) > N_TEXT_TOKENS:
                raise WhiskerError(
                    f"instruction {observation.instruction!r} of policy {self.spec.type!r}",
                    expected=f"at most {N_TEXT_TOKENS} tokens, as in its training",
                    got=str(len(ids)),
                )
            tokens[row, : len(ids)] = ids
            is_text[row, : len(ids)] = True
        return tokens, is_text

    def _to_env_units(self, chunk: torch.Tensor) -> Float32[np.ndarray, "B step 7"]:
        """Return actions in the environment's units. Noise is clipped to the range of plans."""
        values = chunk.float().clamp(-1, 1).cpu().numpy()
        low, high = self._statistics.action
        pose = unnormalise(values[..., :6], (low[:6], high[:6]))
        return join_action(pose, opens(values[..., 6]), self._gripper_range)

    def _hold_gripper(
        self,
        memories: Memories,
        actions: Float32[np.ndarray, "B step 7"],
        chunk: torch.Tensor,
    ) -> Float32[np.ndarray, "B step 7"]:
        """Return the actions with the relative gripper of the Google robot."""
        shares = chunk[..., 6].float().cpu().numpy()
        for memory, row, share in zip(memories, actions, shares, strict=True):
            gripper = memory.recurrent_state
            if not isinstance(gripper, StickyGripper):
                gripper = StickyGripper()
            closing, memory.recurrent_state = gripper.plan(share)
            closed, opened = self._gripper_range
            row[:, 6] = opened + (closing + 1) / 2 * (closed - opened)
        return actions


def load_open_pi_zero(
    env: EnvSpec | None, checkpoint: NativeCheckpoint, device: str, vision_heads: int = 16
) -> OpenPiZeroPolicy:
    """Load a checkpoint of open-pi-zero.

    Args:
        env: the environment that it acts in; None if it is only looked at.
        vision_heads: attention heads of SigLIP, which the weights do not show.

    Raises:
        WhiskerError: it cannot be loaded, or was trained for another robot.
    """
    check_action(checkpoint, env)
    tensors = read_tensors(checkpoint)
    device = find_device(device)
    network = make_network(checkpoint, tensors, device, vision_heads)
    if network.config.action_dim != ACTION_DIM:
        raise WhiskerError(
            f"checkpoint {checkpoint.name!r}",
            expected=f"actions of {ACTION_DIM} numbers",
            got=str(network.config.action_dim),
        )
    statistics = read_statistics(checkpoint, network.config.state_dim)
    camera = camera_of(env)
    spec = PolicySpec(
        type="open_pi_zero",
        image_sizes=camera,
        state_dim=network.config.state_dim,
        action_dim=ACTION_DIM,
        chunk_size=CHUNK_SIZE,
        n_action_steps=_N_ACTION_STEPS[statistics.dataset],
        max_action_steps=CHUNK_SIZE,
        stochastic=True,
        can_sample=True,
        intermediate_plans="flow",
        reads_instruction=True,
        rotation="axis_angle",
        rotation_frame="base",
        state_names=STATE_NAMES[statistics.dataset],
        gripper_range=gripper_range_of(env),
        camera_roles=dict.fromkeys(camera, "scene"),
        seedable=True,
        has_network=True,
        checkpoint=checkpoint.name,
        device=device,
        files_sha256=fingerprint(checkpoint),
    )
    tokenizer = load_tokenizer(checkpoint, _TOKENIZER)
    return OpenPiZeroPolicy(spec, network, tokenizer, gripper_range_of(env), statistics)
