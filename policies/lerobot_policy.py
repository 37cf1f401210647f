"""A lerobot checkpoint behind the `Policy` contract."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from draccus.utils import DraccusException
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline

from policies.action_chunk import ActionChunk
from policies.checkpoint_files import Checkpoint, compute_fingerprint
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from sim.observation import Observation

IMAGE_PREFIX = "observation.images."


class LerobotPolicy:
    """Runs observations through the checkpoint's own preprocessor, network and postprocessor."""

    def __init__(
        self,
        policy: PreTrainedPolicy,
        preprocessor: PolicyProcessorPipeline,
        postprocessor: PolicyProcessorPipeline,
        spec: PolicySpec,
    ) -> None:
        self.spec = spec
        self._policy = policy
        self._preprocessor = preprocessor
        self._postprocessor = postprocessor

    def reset(self) -> None:
        self._policy.reset()
        self._preprocessor.reset()
        self._postprocessor.reset()

    @torch.inference_mode()
    def predict(self, observations: Sequence[Observation], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        del rngs  # ACT at test time is deterministic: its latent is zero
        batch = self._preprocessor(self._collate(observations))
        chunk = self._postprocessor(self._plan(batch))
        return ActionChunk(chunk.to("cpu", torch.float32).numpy())

    def _plan(self, batch: dict) -> torch.Tensor:
        """`(batch, horizon, action_dim)`, still normalised."""
        return self._policy.predict_action_chunk(batch)

    def _collate(self, observations: Sequence[Observation]) -> dict:
        """lerobot's raw batch: images `(B, 3, H, W)` float 0..1, state `(B, state_dim)`, one task text a row."""
        batch: dict = {"task": [o.instruction for o in observations]}
        for camera in self.spec.image_sizes:
            images = torch.from_numpy(np.stack([o.images[camera] for o in observations]))
            # Contiguous, as lerobot has it: another memory layout picks other kernels, whose sums differ by 1e-6.
            batch[IMAGE_PREFIX + camera] = images.permute(0, 3, 1, 2).contiguous().float() / 255
        batch["observation.state"] = torch.from_numpy(np.stack([o.state for o in observations]))
        return batch


class TemporalEnsemblePolicy(LerobotPolicy):
    """ACT that predicts at every step and averages what its past chunks planned for it.

    The plan of a prediction is the ensemble's whole path, of which one step is executed. The average belongs to
    an episode, so a batch holds one observation.
    """

    def _plan(self, batch: dict) -> torch.Tensor:
        chunk = self._policy.predict_action_chunk(batch)
        if len(chunk) != 1:
            raise ValueError(f"temporal ensembling runs one episode at a time, got a batch of {len(chunk)}")
        ensembler = self._policy.temporal_ensembler
        first = ensembler.update(chunk)
        return torch.cat([first[:, None], ensembler.ensembled_actions], dim=1)


def load_lerobot_policy(checkpoint: Checkpoint, device: str) -> LerobotPolicy:
    """Load a checkpoint with its processors. On the CPU, torch is limited to one thread from here on.

    Args:
        device: "cpu", "cuda", ... or "auto".

    Raises:
        WhiskerError: a config that lerobot does not read, weights that do not fit it, no such device.
    """
    folder = checkpoint.folder
    device = resolve_device(device)
    if device == "cpu":
        # Sums are split among threads: another number of cores would give other actions (by 2e-5 degrees, which a
        # contact makes large). One thread also takes half the CPU time and no more wall time on two cores.
        torch.set_num_threads(1)
    config = _load_config(folder, device)
    _check_inputs(config, folder)
    policy = _load_weights(config, folder)
    preprocessor, postprocessor = _load_processors(config, folder)
    is_ensembling = getattr(config, "temporal_ensemble_coeff", None) is not None
    policy_class = TemporalEnsemblePolicy if is_ensembling else LerobotPolicy
    max_action_steps = 1 if is_ensembling else config.chunk_size
    return policy_class(policy, preprocessor, postprocessor, _make_spec(config, checkpoint, max_action_steps))


def resolve_device(device: str) -> str:
    """ "auto" → the GPU where there is one.

    Raises:
        WhiskerError: a device that this machine does not have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        got = str(error).splitlines()[0]
        raise WhiskerError(f"device {device!r}", expected="a device of this machine", got=got) from error
    return device


def _load_config(folder: Path, device: str) -> PreTrainedConfig:
    try:
        config = PreTrainedConfig.from_pretrained(folder)
    except (DraccusException, NotImplementedError, ValueError, TypeError, AttributeError) as error:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json", expected="a config of lerobot 0.6", got=str(error)
        ) from error
    config.device = device
    if hasattr(config, "pretrained_backbone_weights"):
        # The checkpoint brings its own weights: the download they would replace needs a network.
        config.pretrained_backbone_weights = None
    return config


def _load_weights(config: PreTrainedConfig, folder: Path) -> PreTrainedPolicy:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
    except (RuntimeError, ValueError) as error:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, weights",
            expected="exactly the tensors of its config.json",
            got=str(error),
            do="Config and weights are of different trainings, or the file is incomplete.",
        ) from error
    return policy.eval()


def _load_processors(config: PreTrainedConfig, folder: Path) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    try:
        return make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides={"device_processor": {"device": config.device}},
            # Actions come back to the CPU, where the simulator is.
            postprocessor_overrides={"device_processor": {"device": "cpu"}},
        )
    except (KeyError, ValueError, TypeError, ImportError, OSError) as error:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, processors", expected="processors of lerobot 0.6", got=str(error)
        ) from error


def _check_inputs(config: PreTrainedConfig, folder: Path) -> None:
    """Only what an `Observation` holds can be fed: the state, and images of three channels."""
    if config.action_feature is None or not config.input_features:
        raise WhiskerError(f"checkpoint {str(folder)!r}, config.json", expected="input features and an action")
    for key, feature in config.input_features.items():
        is_image = key.startswith(IMAGE_PREFIX) and feature.shape[0] == 3
        if key != "observation.state" and not is_image:
            raise WhiskerError(
                f"checkpoint {str(folder)!r}, input {key!r} of shape {tuple(feature.shape)}",
                expected=f"'observation.state' or '{IMAGE_PREFIX}<camera>' of shape (3, height, width)",
                do="Environments here show nothing else.",
            )


def _make_spec(config: PreTrainedConfig, checkpoint: Checkpoint, max_action_steps: int) -> PolicySpec:
    state, action = config.robot_state_feature, config.action_feature
    return PolicySpec(
        type=config.type,
        image_sizes={
            key.removeprefix(IMAGE_PREFIX): (feature.shape[1], feature.shape[2])
            for key, feature in config.image_features.items()
        },
        state_dim=None if state is None else state.shape[0],
        action_dim=action.shape[0],
        chunk_size=config.chunk_size,
        n_action_steps=config.n_action_steps,
        max_action_steps=max_action_steps,
        stochastic=False,
        checkpoint=checkpoint.name,
        device=config.device,
        files_sha256=compute_fingerprint(checkpoint.folder),
    )
