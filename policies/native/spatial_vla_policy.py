"""SpatialVLA behind the `Policy` contract."""

from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int

from policies.action_chunk import ActionChunk
from policies.native.end_effector import (
    ACTION_DIM,
    camera_of,
    check_action,
    gripper_range_of,
    join_action,
    opens,
)
from policies.native.native_checkpoint import NativeCheckpoint, fingerprint
from policies.native.native_policy import NativePolicy, find_device
from policies.native.spatial_actions import N_AVERAGED, average_chunks
from policies.native.spatial_vla_files import (
    SpatialVlaProcessor,
    make_network,
    read_config,
    read_processor,
)
from policies.native.spatial_vla_network import (
    CHUNK_SIZE,
    N_TOKENS_PER_ACTION,
    SpatialVlaNetwork,
)
from policies.native.tokenizer_files import load_tokenizer
from policies.policy import Generators, Memories, PolicySpec
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import EnvSpec

_TOKENIZER = "IPEC-COMMUNITY/spatialvla-4b-224-pt"


class SpatialVlaPolicy(NativePolicy):
    """Decodes four actions at every step, and averages them with those of the last three steps.

    Its plan is the whole averaged chunk, of which one step is executed. It is deterministic.
    """

    network: SpatialVlaNetwork

    def __init__(
        self,
        spec: PolicySpec,
        network: SpatialVlaNetwork,
        tokenizer: Any,
        gripper_range: tuple[float, float],
        processor: SpatialVlaProcessor,
    ) -> None:
        super().__init__(spec, network, tokenizer, gripper_range)
        self._processor = processor

    @torch.inference_mode()
    def predict(self, memories: Memories, rngs: Generators) -> ActionChunk:
        del rngs
        plans = []
        newest = []
        for memory in memories:
            past = memory.recurrent_state if isinstance(memory.recurrent_state, list) else []
            chunks = [*past, self._decode(memory.present)][-N_AVERAGED:]
            memory.recurrent_state = chunks
            plans.append(self._to_env_units(average_chunks(chunks)))
            newest.append(self._to_env_units(chunks[-1]))
        is_recorded = self.records_intermediate_plans
        return ActionChunk(np.stack(plans), np.stack(newest)[:, None] if is_recorded else None)

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        (camera,) = self.spec.image_sizes
        return {
            f"observation.images.{camera}": self._read_image(observation),
            "observation.language.tokens": self._tokenize(observation).astype(np.float32),
        }

    def _decode(self, observation: Observation) -> np.ndarray:
        device = self.spec.device
        tokens = self.network(
            torch.from_numpy(self._read_image(observation)).to(device),
            torch.from_numpy(self._processor.camera.astype(np.float32)).to(device),
            torch.from_numpy(self._tokenize(observation)).to(device),
            CHUNK_SIZE * N_TOKENS_PER_ACTION,
        )
        return self._processor.bins.decode(tokens.cpu().numpy())

    def _read_image(self, observation: Observation) -> Float32[np.ndarray, "1 3 px px"]:
        """Return the image at the network's size, with pixels from 0 to 1."""
        side = self.network.config.vision.image_size
        (camera,) = self.spec.image_sizes
        image = cv2.resize(observation.images[camera], (side, side), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / 255

    def _tokenize(self, observation: Observation) -> Int[np.ndarray, "1 text"]:
        text = f"{self._tokenizer.bos_token}{observation.instruction}\n"
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return np.array([ids], np.int64)

    def _to_env_units(self, chunk: np.ndarray) -> Float32[np.ndarray, "step 7"]:
        return join_action(chunk[:, :6], opens(chunk[:, 6]), self._gripper_range)


def load_spatial_vla(
    env: EnvSpec | None, checkpoint: NativeCheckpoint, device: str
) -> SpatialVlaPolicy:
    """Load a checkpoint of SpatialVLA.

    Args:
        env: the environment that it acts in; None if it is only looked at.

    Raises:
        WhiskerError: it cannot be loaded, or was trained for another robot.
    """
    check_action(checkpoint, env)
    config = read_config(checkpoint)
    processor = read_processor(checkpoint, config)
    tokenizer = load_tokenizer(checkpoint, _TOKENIZER)
    if tokenizer.bos_token is None:
        raise WhiskerError(
            f"tokenizer of checkpoint {checkpoint.name!r}", expected="one with <bos>", got="none"
        )
    device = find_device(device)
    camera = camera_of(env)
    spec = PolicySpec(
        type="spatialvla",
        image_sizes=camera,
        state_dim=None,
        action_dim=ACTION_DIM,
        chunk_size=CHUNK_SIZE,
        n_action_steps=1,
        max_action_steps=1,
        stochastic=False,
        intermediate_plans="ensemble",
        reads_instruction=True,
        rotation="axis_angle",
        rotation_frame="base",
        gripper_range=gripper_range_of(env),
        camera_roles=dict.fromkeys(camera, "scene"),
        seedable=True,
        has_network=True,
        checkpoint=checkpoint.name,
        device=device,
        files_sha256=fingerprint(checkpoint),
    )
    network = make_network(checkpoint, config, device)
    return SpatialVlaPolicy(spec, network, tokenizer, gripper_range_of(env), processor)
