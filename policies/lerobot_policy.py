"""A lerobot checkpoint behind the `Policy` contract: one class a way of planning."""

import inspect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTTemporalEnsembler
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.utils import populate_queues
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_IMAGES, OBS_STATE

from policies.action_chunk import ActionChunk
from policies.lerobot_types import LEROBOT_TYPES
from policies.normalisation import Normalisation, find_strange_inputs
from policies.policy import EpisodeMemory, PolicySpec, WeightsAudit
from policies.random_draws import RowDraws
from policies.weights_audit import audit_weights
from sim.errors import WhiskerError
from sim.observation import Observation


class LerobotPolicy:
    """Runs observations through the checkpoint's own preprocessor, network and postprocessor.

    Its `_plan` serves the types whose `predict_action_chunk` is a function of the batch alone (act,
    smolvla, pi0, pi05, pi0_fast, xvla, groot); the others override it. lerobot's queues are never
    used: what is left of a plan belongs to the episode.

    Attributes:
        records_drafts: `predict` returns the intermediate plans too, where the spec says that there are any.
            Plans stay the same.
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
        """Args:
        image_keys: camera of the spec → lerobot's name of that input.
        normalisation: what the processors do.
        """
        self.spec = spec
        self._policy = policy
        self._preprocessor = preprocessor
        self._postprocessor = postprocessor
        self._image_keys = image_keys
        self._normalisation = normalisation

    @property
    def network(self) -> PreTrainedPolicy:
        """The loaded module, for hooks."""
        return self._policy

    def reset(self) -> EpisodeMemory:
        self._policy.reset()
        self._preprocessor.reset()
        self._postprocessor.reset()
        return EpisodeMemory(deque(maxlen=self.spec.n_obs_steps))

    @torch.inference_mode()
    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        with RowDraws(rngs) if self.spec.stochastic else nullcontext():
            chunk, intermediate_plans = (
                self._plan_with_intermediate_plans(memories)
                if self.records_intermediate_plans
                else (self._plan(memories), [])
            )
        # One intermediate plan at a time: some postprocessors know the batch that was observed.
        in_env_units = [
            self._to_env_units(intermediate_plan) for intermediate_plan in intermediate_plans
        ]
        return ActionChunk(
            self._to_env_units(chunk),
            np.stack(in_env_units, axis=1) if intermediate_plans else None,
        )

    def sample(self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        if not self.spec.can_sample:
            raise WhiskerError(
                f"alternative plans of policy {self.spec.type!r} ({self.spec.checkpoint})",
                expected="a policy that can plan in more than one way",
                got="a deterministic one",
            )
        return self._sample_others(memory, rngs)

    @torch.inference_mode()
    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        """What the network is given for one observation: preprocessed, normalised, `(1, ...)` each."""
        batch = self._preprocess([observation])
        return {
            key: value.float().cpu().numpy()
            for key, value in batch.items()
            if isinstance(value, torch.Tensor)
        }

    def out_of_range_inputs(self, observation: Observation) -> dict[str, tuple[float, float]]:
        inputs = find_strange_inputs(self._normalisation, self.network_inputs(observation))
        return {key: (float(values.min()), float(values.max())) for key, values in inputs.items()}

    def audit(self) -> WeightsAudit:
        return audit_weights(self._policy)

    def _sample_others(
        self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        return self.predict([replace(memory) for _ in rngs], rngs)

    def _plan(self, memories: Sequence[EpisodeMemory]) -> torch.Tensor:
        """`(batch, horizon, action_dim)`, still normalised."""
        return self._policy.predict_action_chunk(self._preprocess([m.present for m in memories]))

    def _plan_with_intermediate_plans(
        self, memories: Sequence[EpisodeMemory]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The plan, and the intermediate plans of the same shape that it was made from; oldest first."""
        return self._plan(memories), []

    def _to_env_units(self, chunk: torch.Tensor) -> np.ndarray:
        return self._postprocessor(chunk).to("cpu", torch.float32).numpy()

    def _preprocess(self, observations: Sequence[Observation]) -> dict:
        """lerobot's raw batch (images `(B, 3, H, W)` float 0..1, state, one task text a row), preprocessed.

        A camera that the observations lack is left out of the batch.
        """
        batch: dict = {"task": [o.instruction for o in observations]}
        for camera, key in self._image_keys.items():
            if camera not in observations[0].images:
                continue
            images = torch.from_numpy(np.stack([o.images[camera] for o in observations]))
            # Contiguous, as lerobot has it: another memory layout picks other kernels, whose sums
            # differ by 1e-6.
            batch[key] = images.permute(0, 3, 1, 2).contiguous().float() / 255
        batch[OBS_STATE] = torch.from_numpy(np.stack([o.state for o in observations]))
        return self._preprocessor(batch)

    def _show(self, histories: Sequence[Sequence[Observation]]) -> dict:
        """Put the past into lerobot's observation queues, as `select_action` does step by step; returns the present.

        Args:
            histories: one a row, oldest first, equally long.
        """
        self._policy.reset()
        batch: dict = {}
        for observations in zip(*histories, strict=True):
            batch = self._preprocess(observations)
            batch.pop(ACTION)
            if self._image_keys:
                images = [batch[key] for key in self._image_keys.values()]
                batch[OBS_IMAGES], batch[OBS_IMAGE] = torch.stack(images, dim=-4), images[0]
            self._policy._queues = populate_queues(self._policy._queues, batch)
        return batch


class ActPolicy(LerobotPolicy):
    """ACT is deterministic at test time: its latent is zero.

    Alternatives draw it from the prior N(0, 1).
    """

    def _sample_others(
        self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        size = self._policy.config.latent_dim
        latents = torch.from_numpy(
            np.stack([rng.standard_normal(size, dtype=np.float32) for rng in rngs])
        )
        latents = latents.to(self.spec.device)
        projection = self._policy.model.encoder_latent_input_proj
        hook = projection.register_forward_pre_hook(lambda _, __: (latents,))
        try:
            return self.predict([memory] * len(rngs), rngs)
        finally:
            hook.remove()


class FlowPolicy(LerobotPolicy):
    """Denoises a chunk of pure noise into a plan. The intermediate plans are the chunk before each of the steps.

    They take the plan's way out: where that cuts actions to a range (GR00T), noise is cut too.
    """

    def _plan_with_intermediate_plans(
        self, memories: Sequence[EpisodeMemory]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        with self._watched_denoising() as chunks:
            plan = self._plan(memories)
        return plan, [self._unpad(chunk)[:, : plan.shape[1], : plan.shape[2]] for chunk in chunks]

    @contextmanager
    def _watched_denoising(self) -> Iterator[list[torch.Tensor]]:
        """Listen in lerobot's loop, from outside: `LerobotType.denoising`."""
        denoising = LEROBOT_TYPES[self.spec.type].denoising
        assert denoising is not None
        path, method_name, argument = denoising
        module = self._policy.get_submodule(path)
        method = getattr(module, method_name)
        signature = inspect.signature(method)
        chunks: list[torch.Tensor] = []

        def listen(*args, **kwargs):
            chunks.append(signature.bind(*args, **kwargs).arguments[argument].clone())
            return method(*args, **kwargs)

        setattr(module, method_name, listen)
        try:
            yield chunks
        finally:
            delattr(module, method_name)

    def _unpad(self, chunk: torch.Tensor) -> torch.Tensor:
        """What the type does to the last step's result, besides cutting it to size; the chunk may be changed."""
        return chunk


class SmolVLAPolicy(FlowPolicy):
    """SmolVLA, which can have been trained with the conventions of Pi0's Aloha."""

    def _unpad(self, chunk: torch.Tensor) -> torch.Tensor:
        return (
            self._policy._pi_aloha_encode_actions(chunk)
            if self._policy.config.adapt_to_pi_aloha
            else chunk
        )


class XVLAPolicy(FlowPolicy):
    """X-VLA, whose action space turns what the network denoises into actions."""

    def _unpad(self, chunk: torch.Tensor) -> torch.Tensor:
        return self._policy.model.action_space.postprocess(chunk)


class TemporalEnsemblePolicy(LerobotPolicy):
    """ACT that predicts at every step and averages what its past chunks planned for it.

    The plan of a prediction is the ensemble's whole path, of which one step is executed. The
    average belongs to an episode.
    """

    def _plan(self, memories: Sequence[EpisodeMemory]) -> torch.Tensor:
        return self._plan_with_intermediate_plans(memories)[0]

    def _plan_with_intermediate_plans(
        self, memories: Sequence[EpisodeMemory]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        chunk = super()._plan(memories)
        plans = [
            self._average(memory, row[None]) for memory, row in zip(memories, chunk, strict=True)
        ]
        return torch.cat(plans), [chunk]

    def _average(self, memory: EpisodeMemory, chunk: torch.Tensor) -> torch.Tensor:
        ensembler = memory.carried
        if not isinstance(ensembler, ACTTemporalEnsembler):
            config = self._policy.config
            ensembler = ACTTemporalEnsembler(config.temporal_ensemble_coeff, config.chunk_size)
            memory.carried = ensembler
        first = ensembler.update(chunk)
        return torch.cat([first[:, None], ensembler.ensembled_actions], dim=1)


class FastTokenPolicy(LerobotPolicy):
    """Pi0-FAST decodes greedily at temperature 0; its alternatives are drawn from its own distribution."""

    def _sample_others(
        self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        config = self._policy.config
        executed_at = config.temperature
        config.temperature = executed_at or 1.0
        try:
            with RowDraws(rngs):
                return self.predict([memory] * len(rngs), rngs)
        finally:
            config.temperature = executed_at


class HistoryPolicy(LerobotPolicy):
    """Diffusion and VQ-BeT look back over several control steps; at the start the first is all that there was."""

    def _plan(self, memories: Sequence[EpisodeMemory]) -> torch.Tensor:
        n = self.spec.n_obs_steps
        histories = [
            [m.observations[0]] * (n - len(m.observations)) + list(m.observations) for m in memories
        ]
        return self._policy.predict_action_chunk(self._show(histories))


class ModelPredictivePolicy(LerobotPolicy):
    """TD-MPC plans by sampling in its world model, beginning from the mean of its last plan, one episode at a time."""

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        rows = [
            super(ModelPredictivePolicy, self).predict([m], [rng])
            for m, rng in zip(memories, rngs, strict=True)
        ]
        return ActionChunk(np.concatenate([row.actions for row in rows]))

    def _plan(self, memories: Sequence[EpisodeMemory]) -> torch.Tensor:
        (memory,) = memories
        batch = self._show([[memory.present]])
        self._policy._prev_mean = memory.carried
        plan = self._policy.predict_action_chunk(batch).transpose(0, 1)
        memory.carried = self._policy._prev_mean
        n_repeats = self._policy.config.n_action_repeats
        return plan[:, :1].expand(-1, n_repeats, -1) if n_repeats > 1 else plan


class SingleActionPolicy(LerobotPolicy):
    """The Gaussian actor of SAC: one action a look, drawn from its distribution as lerobot's `select_action` does."""

    def _plan(self, memories: Sequence[EpisodeMemory]) -> torch.Tensor:
        return self._policy.select_action(self._preprocess([m.present for m in memories]))[:, None]
