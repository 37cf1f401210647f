"""Make what a recipe trains: lerobot's configuration, policy and processors, and save them as a checkpoint."""

import copy
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType
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

# Beginning of the names of what the demonstrations hold besides what a policy may see.
PRIVILEGED = "privileged."


def make_config(
    recipe: Recipe, dataset_features: dict[str, Any], vlm: Path | None = None
) -> PreTrainedConfig:
    """Return lerobot's configuration of the policy.

    Args:
        dataset_features: as a LeRobotDataset describes them.
        vlm: folder of the small vision-language model, for a type that has one.
    """
    features = dataset_to_policy_features(
        {k: v for k, v in dataset_features.items() if not k.startswith(PRIVILEGED)}
    )
    named = {} if vlm is None else {"vlm_model_name": str(vlm)}
    return make_policy_config(
        recipe.policy_type,
        input_features={k: f for k, f in features.items() if f.type is not FeatureType.ACTION},
        output_features={k: f for k, f in features.items() if f.type is FeatureType.ACTION},
        device="cpu",
        **named,
        **recipe.architecture,
    )


def make_vlm(recipe: Recipe, output: Path, instructions: Sequence[str]) -> Path | None:
    """Write the folder of the recipe's small vision-language model, unless it is there; None: it has none."""
    if not recipe.vlm:
        return None
    folder = output.absolute() / VLM_FOLDER
    if not folder.is_dir():
        save_small_vlm(folder, VlmSizes(**recipe.vlm), instructions)
    return folder


def make_learner(config: PreTrainedConfig, n_places: int) -> Learner:
    """Return a policy with fresh weights, and a head that reads that many numbers."""
    return LEARNERS[config.type](get_policy_class(config.type)(config), n_places)


class Batches:
    """Preprocesses raw batches on the device that trains, with lerobot's own processors.

    The words are the same few in every batch: they are tokenized once.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        stats: dict,
        instructions: Sequence[str],
        device: torch.device,
    ) -> None:
        there = dataclasses.replace(config, device=str(device))
        preprocessor, _ = make_pre_post_processors(there, dataset_stats=stats)
        self._words: dict[str, Tensor] = {}
        if any(isinstance(step, TokenizerProcessorStep) for step in preprocessor.steps):
            told = preprocessor(
                {"observation.state": torch.zeros(len(instructions), 1), "task": list(instructions)}
            )
            self._words = {
                key: told[key] for key in (OBS_LANGUAGE_TOKENS, OBS_LANGUAGE_ATTENTION_MASK)
            }
        of_words = (NewLineTaskProcessorStep, TokenizerProcessorStep)
        steps = [step for step in preprocessor.steps if not isinstance(step, of_words)]
        self._preprocessor = PolicyProcessorPipeline(
            steps=steps, to_transition=preprocessor.to_transition, to_output=preprocessor.to_output
        )

    def __call__(self, raw: dict[str, Tensor], instruction_index: Tensor) -> dict[str, Tensor]:
        batch = {
            key: value
            for key, value in self._preprocessor(raw).items()
            if isinstance(value, Tensor)
        }
        return batch | {key: tokens[instruction_index] for key, tokens in self._words.items()}


def save_checkpoint(
    policy: PreTrainedPolicy,
    config: PreTrainedConfig,
    stats: dict,
    folder: Path,
    demos: Path,
    vlm: Path | None,
) -> None:
    """Save a policy as lerobot does, in half precision: lerobot upcasts on loading, and the file is half as large.

    The vision-language model's folder lies inside, and is named relatively.
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
