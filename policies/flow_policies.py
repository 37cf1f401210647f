"""Lerobot's types that denoise a chunk by flow matching, whose steps can be recorded."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_LANGUAGE_TOKENS

from policies.lerobot_policy import LerobotPolicy, Plans
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import Memories
from policies.vla_jepa_prompts import FixedLengthPrompts
from sim.observation import Observation


class FlowPolicy(LerobotPolicy):
    """Denoises a chunk of pure noise into a plan; an intermediate plan is the chunk before a step.

    Intermediate plans are postprocessed like the plan: where that clips actions to a range (GR00T,
    VLA-JEPA), it clips the noise too.
    """

    def _plan_with_intermediate_plans(self, memories: Memories) -> Plans:
        with self._recorded_denoising() as chunks:
            plan = self._plan(memories)
        _, horizon, action_dim = plan.shape
        return plan, [self._finish(chunk)[:, :horizon, :action_dim] for chunk in chunks]

    @contextmanager
    def _recorded_denoising(self) -> Iterator[list[torch.Tensor]]:
        """Record the argument of each call of `LerobotType.denoising` in lerobot's loop."""
        denoising = LEROBOT_TYPES[self.spec.type].denoising
        assert denoising is not None
        path, method_name, argument = denoising
        module = self.network.get_submodule(path)
        method = getattr(module, method_name)
        signature = inspect.signature(method)
        chunks: list[torch.Tensor] = []

        def record(*args, **kwargs):
            arguments = signature.bind(*args, **kwargs).arguments
            chunks.append(arguments[argument].clone())
            return method(*args, **kwargs)

        setattr(module, method_name, record)
        try:
            yield chunks
        finally:
            delattr(module, method_name)

    def _finish(self, chunk: torch.Tensor) -> torch.Tensor:
        """Apply the type's own conversion of the last step's result, except for cutting it to size.

        The chunk may be changed in place.
        """
        return chunk


class SmolVLAPolicy(FlowPolicy):
    """SmolVLA, including checkpoints trained with the conventions of Pi0's Aloha."""

    def _finish(self, chunk: torch.Tensor) -> torch.Tensor:
        if not self.network.config.adapt_to_pi_aloha:
            return chunk
        return self.network._pi_aloha_encode_actions(chunk)


class XVLAPolicy(FlowPolicy):
    """X-VLA, whose action space converts the network's output to actions."""

    def _finish(self, chunk: torch.Tensor) -> torch.Tensor:
        return self.network.model.action_space.postprocess(chunk)


class Evo1Policy(FlowPolicy):
    """EVO1, whose network turns the instructions into tokens by itself."""

    _own_tokenizer: Any = None

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        """Return the inputs, and the tokens of the whole prompt, padded to its largest length."""
        inputs = super().network_inputs(observation)
        embedder = self.network.model.embedder
        one_tile_a_view = [1] * self.network.config.max_views
        prompts = embedder._build_multimodal_prompts([one_tile_a_view], [observation.instruction])
        tokens = embedder.tokenizer(
            prompts,
            padding="max_length",
            truncation=True,
            max_length=embedder.max_text_length,
        )
        inputs[OBS_LANGUAGE_TOKENS] = np.float32(tokens["input_ids"])
        return inputs

    def pad_instructions(self, is_on: bool = True) -> None:
        embedder = self.network.model.embedder
        if self._own_tokenizer is None:
            self._own_tokenizer = embedder.tokenizer
        embedder.tokenizer = self._pad_tokens if is_on else self._own_tokenizer

    def _pad_tokens(self, prompts: Sequence[str], **options: Any) -> Any:
        return self._own_tokenizer(prompts, **options | {"padding": "max_length"})


class VLAJEPAPolicy(FlowPolicy):
    """VLA-JEPA, whose network turns the instruction into tokens by itself."""

    def network_inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        """Return the inputs, and the tokens of the whole prompt."""
        model = self.network.model
        seen = self.network._prepare_model_inputs(self._preprocess([observation]), training=False)
        prompt = model.qwen.build_inputs(
            images=seen["images"],
            instructions=seen["instructions"],
            action_prompt=model.replace_prompt,
            embodied_prompt=model.embodied_replace_prompt,
        )
        tokens = prompt["input_ids"].cpu().numpy()
        return super().network_inputs(observation) | {OBS_LANGUAGE_TOKENS: np.float32(tokens)}

    def pad_instructions(self, is_on: bool = True) -> None:
        qwen = self.network.model.qwen
        if not isinstance(qwen.build_inputs, FixedLengthPrompts):
            qwen.build_inputs = FixedLengthPrompts(qwen)
        qwen.build_inputs.is_on = is_on
