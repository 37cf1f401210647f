"""Lerobot checkpoints behind the `Policy` contract: one class per way of planning."""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTTemporalEnsembler
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.utils import populate_queues
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_IMAGES, OBS_STATE

from policies.action_chunk import ActionChunk
from policies.normalisation import Normalisation, find_out_of_range_inputs
from policies.policy import EpisodeMemory, Generators, Memories, PolicySpec, WeightsAudit
from policies.random_draws import PerRowSeededRandom
from policies.weights_audit import audit_weights
from sim.observation import Observation

# The plans of a batch, and their intermediate plans, oldest first.
type Plans = tuple[torch.Tensor, list[torch.Tensor]]


class LerobotPolicy:
    """Runs observations through the checkpoint's own preprocessor, network and postprocessor.

    Its `_plan` serves the types whose `predict_action_chunk` depends only on the batch (act,
    smolvla, pi0, pi05, pi0_fast, xvla, groot, eo1, evo1, vla_jepa); the other types override it.
    lerobot's action queues are never used, because the remaining actions of a plan belong to the
    episode.

    Attributes:
        network: the loaded module, also for hooks.
        records_intermediate_plans: `predict` returns the intermediate plans too, if the spec
            declares any. The plans do not change.
    """

    records_intermediate_plans = False

    def __init__(
        self,
        policy: PreTrainedPolicy,
        preprocessor: PolicyProcessorPipeline,
        postprocessor: PolicyProcessorPipeline,
        spec: PolicySpec,
        image_keys: Mapping[str, str],
        normalisation: Normalisation,
    ) -> None:
        """Wrap a loaded policy and its processors.

        Args:
            image_keys: camera of the spec → lerobot's name for that input.
            normalisation: describes what the processors do.
        """
        self.spec = spec
        self.network = policy
        self._preprocessor = preprocessor
        self._postprocessor = postprocessor
        self._image_keys = image_keys
        self._normalisation = normalisation
        self._own_padding: dict[int, str] = {}  # index of a step → as the checkpoint has it

    def reset(self) -> EpisodeMemory:
        self.network.reset()
        self._preprocessor.reset()
        self._postprocessor.reset()
        return EpisodeMemory(deque(maxlen=self.spec.n_obs_steps))

    @torch.inference_mode()
    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        with PerRowSeededRandom(rngs) if self.spec.stochastic else nullcontext():
            intermediate_plans: list[torch.Tensor] = []
            if self.records_intermediate_plans:
                plan, intermediate_plans = self._plan_with_intermediate_plans(memories)
            else:
                plan = self._plan(memories)
        # Convert one at a time: some postprocessors expect the batch size of the observation.
        stages = [self._to_env_units(stage) for stage in intermediate_plans]
        actions = self._to_env_units(plan)
        return ActionChunk(actions, np.stack(stages, axis=1) if stages else None)

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        self.spec.check_can_sample()
        return self._sample_others(memory, rngs)

    def pad_instructions(self, is_on: bool = True) -> None:
        from lerobot.processor import TokenizerProcessorStep  # it imports transformers

        for index, step in enumerate(self._preprocessor.steps):
            if isinstance(step, TokenizerProcessorStep):
                own = self._own_padding.setdefault(index, step.padding)
                step.padding = "max_length" if is_on else own

    @torch.inference_mode()
    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        inputs = {}
        for key, value in self._preprocess([observation]).items():
            if isinstance(value, torch.Tensor):
                inputs[key] = value.float().cpu().numpy()
        return inputs

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        inputs = self.network_inputs(observation)
        ranges = {}
        for key, values in find_out_of_range_inputs(self._normalisation, inputs).items():
            ranges[key] = (float(values.min()), float(values.max()))
        return ranges

    def audit(self) -> WeightsAudit:
        return audit_weights(self.network)

    def _sample_others(
        self,
        memory: EpisodeMemory,
        rngs: Generators,
    ) -> ActionChunk:
        return self.predict([replace(memory) for _ in rngs], rngs)

    def _plan(self, memories: Memories) -> torch.Tensor:
        """Return the plans `(batch, horizon, action_dim)`, still normalised."""
        batch = self._preprocess([memory.present for memory in memories])
        return self.network.predict_action_chunk(batch)

    def _plan_with_intermediate_plans(self, memories: Memories) -> Plans:
        """Return the plans and their intermediate plans, oldest first and of the same shape."""
        return self._plan(memories), []

    def _to_env_units(self, chunk: torch.Tensor) -> np.ndarray:
        return self._postprocessor(chunk).to("cpu", torch.float32).numpy()

    def _preprocess(self, observations: Sequence[Observation]) -> dict:
        """Return the preprocessed batch of these observations.

        lerobot's raw batch has images `(B, 3, H, W)` as float 0..1, the state, and one task text
        per row. A camera that the observations lack is left out of it.
        """
        batch: dict = {"task": [observation.instruction for observation in observations]}
        for camera, key in self._image_keys.items():
            if camera not in observations[0].images:
                continue
            images = np.stack([observation.images[camera] for observation in observations])
            channels_first = torch.from_numpy(images).permute(0, 3, 1, 2)
            # Contiguous, as in lerobot: with another memory layout torch picks other kernels, whose
            # sums differ by 1e-6.
            batch[key] = self._prepare_images(channels_first.contiguous().float() / 255)
        states = np.stack([observation.state for observation in observations])
        batch[OBS_STATE] = torch.from_numpy(states)
        return self._preprocessor(batch)

    def _prepare_images(self, images: torch.Tensor) -> torch.Tensor:
        """Return images `(B, 3, H, W)` in 0..1 as the checkpoint's preprocessor expects them."""
        return images

    def _fill_observation_queues(self, histories: Sequence[Sequence[Observation]]) -> dict:
        """Fill lerobot's observation queues as `select_action` does, step by step.

        Args:
            histories: one per row, oldest observation first, of equal length.

        Returns:
            The preprocessed batch of the present observations.
        """
        self.network.reset()
        batch: dict = {}
        for observations in zip(*histories, strict=True):
            batch = self._preprocess(observations)
            batch.pop(ACTION)
            if self._image_keys:
                images = [batch[key] for key in self._image_keys.values()]
                batch[OBS_IMAGES] = torch.stack(images, dim=-4)
                batch[OBS_IMAGE] = images[0]
            self.network._queues = populate_queues(self.network._queues, batch)
        return batch


class ActPolicy(LerobotPolicy):
    """ACT, which is deterministic at test time because its latent is zero.

    Its alternatives draw the latent from the prior N(0, 1).
    """

    def _sample_others(
        self,
        memory: EpisodeMemory,
        rngs: Generators,
    ) -> ActionChunk:
        size = self.network.config.latent_dim
        drawn = np.stack([rng.standard_normal(size, dtype=np.float32) for rng in rngs])
        latents = torch.from_numpy(drawn).to(self.spec.device)
        projection = self.network.model.encoder_latent_input_proj
        hook = projection.register_forward_pre_hook(lambda _, __: (latents,))
        try:
            return self.predict([memory] * len(rngs), rngs)
        finally:
            hook.remove()


class TemporalEnsemblePolicy(LerobotPolicy):
    """ACT that predicts at every step and averages what its past chunks planned for that step.

    Its plan is the whole averaged chunk, of which one step is executed. The average belongs to the
    episode.
    """

    def _plan(self, memories: Memories) -> torch.Tensor:
        return self._plan_with_intermediate_plans(memories)[0]

    def _plan_with_intermediate_plans(self, memories: Memories) -> Plans:
        chunk = super()._plan(memories)
        plans = []
        for memory, row in zip(memories, chunk, strict=True):
            plans.append(self._average(memory, row[None]))
        return torch.cat(plans), [chunk]

    def _average(self, memory: EpisodeMemory, chunk: torch.Tensor) -> torch.Tensor:
        ensembler = memory.recurrent_state
        if not isinstance(ensembler, ACTTemporalEnsembler):
            config = self.network.config
            ensembler = ACTTemporalEnsembler(config.temporal_ensemble_coeff, config.chunk_size)
            memory.recurrent_state = ensembler
        first = ensembler.update(chunk)
        return torch.cat([first[:, None], ensembler.ensembled_actions], dim=1)


class FastTokenPolicy(LerobotPolicy):
    """Pi0-FAST, which decodes greedily at temperature 0.

    Its alternatives are samples from its distribution of tokens.
    """

    def _sample_others(
        self,
        memory: EpisodeMemory,
        rngs: Generators,
    ) -> ActionChunk:
        config = self.network.config
        temperature = config.temperature
        config.temperature = temperature or 1.0
        try:
            with PerRowSeededRandom(rngs):
                return self.predict([memory] * len(rngs), rngs)
        finally:
            config.temperature = temperature


class HistoryPolicy(LerobotPolicy):
    """Diffusion and VQ-BeT, which plan from the observations of several control steps.

    At the start of an episode, the first observation is repeated.
    """

    def _plan(self, memories: Memories) -> torch.Tensor:
        histories = []
        for memory in memories:
            n_missing = self.spec.n_obs_steps - len(memory.observations)
            repeated = [memory.observations[0]] * n_missing
            histories.append([*repeated, *memory.observations])
        batch = self._fill_observation_queues(histories)
        return self.network.predict_action_chunk(batch)


class ModelPredictivePolicy(LerobotPolicy):
    """TD-MPC, which plans by sampling in its world model, starting at the mean of its last plan.

    It plans for one episode at a time.
    """

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        rows = []
        for memory, rng in zip(memories, rngs, strict=True):
            rows.append(super().predict([memory], [rng]).actions)
        return ActionChunk(np.concatenate(rows))

    def _plan(self, memories: Memories) -> torch.Tensor:
        (memory,) = memories
        batch = self._fill_observation_queues([[memory.present]])
        self.network._prev_mean = memory.recurrent_state
        plan = self.network.predict_action_chunk(batch).transpose(0, 1)
        memory.recurrent_state = self.network._prev_mean
        n_repeats = self.network.config.n_action_repeats
        if n_repeats > 1:
            return plan[:, :1].expand(-1, n_repeats, -1)
        return plan


class SingleActionPolicy(LerobotPolicy):
    """The Gaussian actor of SAC: it draws one action per observation, by `select_action`."""

    def _plan(self, memories: Memories) -> torch.Tensor:
        batch = self._preprocess([memory.present for memory in memories])
        return self.network.select_action(batch)[:, None]
