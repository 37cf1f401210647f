"""Make the configuration, policy and processors that a recipe trains, and save a checkpoint."""

import copy
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import (
    NewLineTaskProcessorStep,
    PolicyProcessorPipeline,
    TokenizerProcessorStep,
)
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from lerobot.utils.feature_utils import dataset_to_policy_features
from torch import Tensor

from policies.checkpoint_files import TRAINING_ENV_FILE
from policies.recipes.learner import LEARNERS, Learner
from policies.recipes.recipe import Recipe
from policies.recipes.small_vlm import VLM_FOLDER, VlmSizes, save_small_vlm

# Prefix of features of the demonstrations that a policy must not see.
PRIVILEGED = "privileged."


def make_config(
    recipe: Recipe,
    dataset_features: dict[str, Any],
    vlm: Path | None = None,
) -> PreTrainedConfig:
    """Return lerobot's configuration of the policy.

    Args:
        dataset_features: features of a LeRobotDataset, in lerobot's description.
        vlm: folder of the small vision-language model, for a type that has one.
    """
    visible = {}
    for key, description in dataset_features.items():
        if not key.startswith(PRIVILEGED):
            visible[key] = description
    inputs: dict[str, PolicyFeature] = {}
    outputs: dict[str, PolicyFeature] = {}
    for key, feature in dataset_to_policy_features(visible).items():
        side = outputs if feature.type is FeatureType.ACTION else inputs
        side[key] = feature
    vlm_settings = {} if vlm is None else {"vlm_model_name": str(vlm)}
    return make_policy_config(
        recipe.policy_type,
        input_features=inputs,
        output_features=outputs,
        device="cpu",
        **vlm_settings,
        **recipe.architecture,
    )


def make_vlm(
    recipe: Recipe,
    output: Path,
    instructions: Sequence[str],
) -> Path | None:
    """Write the folder of the recipe's small vision-language model, unless it exists.

    Return the folder; None if the recipe has no such model.
    """
    if not recipe.vlm:
        return None
    folder = output.absolute() / VLM_FOLDER
    if not folder.is_dir():
        save_small_vlm(folder, VlmSizes(**recipe.vlm), instructions)
    return folder


def make_learner(config: PreTrainedConfig, position_dim: int) -> Learner:
    """Return a policy with fresh weights, and a head that predicts that many numbers."""
    policy = get_policy_class(config.type)(config)
    return LEARNERS[config.type](policy, position_dim)


class Batches:
    """Preprocesses raw batches on the training device, with lerobot's own processors.

    All batches have the same few instructions, so these are tokenized only once.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        stats: dict,
        instructions: Sequence[str],
        device: torch.device,
    ) -> None:
        on_device = dataclasses.replace(config, device=str(device))
        preprocessor, _ = make_pre_post_processors(on_device, dataset_stats=stats)
        self._tokens: dict[str, Tensor] = {}
        if any(isinstance(step, TokenizerProcessorStep) for step in preprocessor.steps):
            states = torch.zeros(len(instructions), 1)
            batch = preprocessor({"observation.state": states, "task": list(instructions)})
            for key in (OBS_LANGUAGE_TOKENS, OBS_LANGUAGE_ATTENTION_MASK):
                self._tokens[key] = batch[key]
        text_steps = (NewLineTaskProcessorStep, TokenizerProcessorStep)
        steps = [step for step in preprocessor.steps if not isinstance(step, text_steps)]
        self._preprocessor = PolicyProcessorPipeline(
            steps=steps,
            to_transition=preprocessor.to_transition,
            to_output=preprocessor.to_output,
        )

    def __call__(
        self,
        raw: dict[str, Tensor],
        instruction_index: Tensor,
    ) -> dict[str, Tensor]:
        preprocessed = self._preprocessor(raw).items()
        batch = {key: value for key, value in preprocessed if isinstance(value, Tensor)}
        for key, tokens in self._tokens.items():
            batch[key] = tokens[instruction_index]
        return batch


def save_checkpoint(
    policy: PreTrainedPolicy,
    config: PreTrainedConfig,
    stats: dict,
    folder: Path,
    demos: Path,
    vlm: Path | None,
) -> None:
    """Save a policy in lerobot's format and in half precision.

    lerobot upcasts on loading, and the file is half as large. The vision-language model's folder is
    copied into the checkpoint, whose settings have its relative name.
    """
    preprocessor, postprocessor = make_pre_post_processors(config, dataset_stats=stats)
    policy = policy.to("cpu").half()
    policy.config = copy.deepcopy(config)
    if vlm is not None:
        shutil.copytree(vlm, folder / VLM_FOLDER, dirs_exist_ok=True)
        policy.config.vlm_model_name = VLM_FOLDER
        for step in preprocessor.steps:
            if isinstance(step, TokenizerProcessorStep):
                step.tokenizer_name = VLM_FOLDER
    for part in (policy, preprocessor, postprocessor):
        part.save_pretrained(folder)
    recorded_in = demos / "meta" / TRAINING_ENV_FILE
    if recorded_in.is_file():
        shutil.copy(recorded_in, folder)
