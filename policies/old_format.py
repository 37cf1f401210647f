"""Checkpoints of before lerobot 0.4: their statistics are buffers among the weights, and they have no processors.

The networks of that time normalised by themselves. Their modules `normalize_inputs`,
`normalize_targets` and `unnormalize_outputs` kept, for each feature of the config whose mode was
not IDENTITY, a buffer named after it with underscores in place of its dots:
`normalize_inputs.buffer_observation_images_wrist_cam.mean`. Buffers that were never set are
infinite. Today's processors do the same arithmetic with the same statistics.

Source: lerobot 0.3.3, `lerobot/policies/normalize.py`, `create_stats_buffers`.
"""

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.policies.factory import make_pre_post_processors
from safetensors import safe_open

from policies.checkpoint_files import STATISTICS_MODULES, WEIGHTS_FILE
from policies.lerobot_loading import explained_processors, load_config
from policies.lerobot_types import LEROBOT_TYPES
from sim.errors import WhiskerError

_STATISTICS_OF_MODE = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
}


def rebuild_processors(source: Path, policy_type: str) -> Path:
    """Return a temporary folder with the checkpoint's settings and the processors that do what its buffers did.

    The checkpoint's own folder stays as it is; its weights are read from there.

    Raises:
        WhiskerError: statistics that are absent, infinite or contradictory, or a network that
            lerobot replaced.
    """
    if LEROBOT_TYPES[policy_type].was_replaced:
        raise WhiskerError(
            f"checkpoint {str(source)!r}",
            expected=f"a {policy_type!r} of lerobot 0.4 or later",
            got="one of before, whose network was another one",
            hint="Evaluate it with the release that trained it, or train it again.",
        )
    config = load_config(source, "cpu")
    statistics = _read_statistics(source / WEIGHTS_FILE, config)
    with explained_processors(source, [vars(config)]):
        processors = make_pre_post_processors(config, dataset_stats=statistics)
    folder = Path(tempfile.mkdtemp(prefix="whisker-processors-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in source.glob("*.json"):
        shutil.copy(file, folder)
    for processor in processors:
        processor.save_pretrained(folder)
    return folder


def _read_statistics(path: Path, config: PreTrainedConfig) -> dict[str, dict[str, torch.Tensor]]:
    """Return feature → statistic → value, of every feature that the config normalises."""
    statistics = {}
    features = {**(config.input_features or {}), **(config.output_features or {})}
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        for feature, described in features.items():
            wanted = _STATISTICS_OF_MODE.get(
                config.normalization_mapping.get(described.type.value), ()
            )
            if wanted:
                buffers = {
                    name: file.get_tensor(name).float()
                    for name in names
                    if _is_buffer_of(name, feature)
                }
                statistics[feature] = {
                    name: _read_statistic(path, feature, name, buffers) for name in wanted
                }
    return statistics


def _is_buffer_of(name: str, feature: str) -> bool:
    module, _, buffer = name.partition(".")
    return f"{module}." in STATISTICS_MODULES and buffer.startswith(
        f"buffer_{feature.replace('.', '_')}."
    )


def _read_statistic(
    path: Path, feature: str, statistic: str, buffers: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return one statistic of a feature: the one value that all modules which have it agree on.

    Raises:
        WhiskerError: no module has it, they differ, or it is infinite or NaN.
    """
    subject = f"checkpoint file {str(path)!r}, {statistic} of {feature!r}"
    values = [value for name, value in buffers.items() if name.endswith(f".{statistic}")]
    if not values:
        raise WhiskerError(
            subject, expected="a buffer among the weights", got="none: it would not be normalised"
        )
    if not all(torch.equal(value, values[0]) for value in values):
        got = "several, " + " and ".join(buffers)
        raise WhiskerError(
            subject, expected="one value", got=got, hint="It is unclear which one was trained with."
        )
    if not values[0].isfinite().all():
        raise WhiskerError(
            subject,
            expected="finite numbers",
            got=f"{values[0].flatten().tolist()[:3]}".replace(
                "]", ", ...]" if values[0].numel() > 3 else "]"
            ),
            hint="Infinite ones were never set: the policy was saved without the statistics of its dataset.",
        )
    return values[0]
