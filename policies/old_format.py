"""Rebuild the processors of checkpoints of before lerobot 0.4, which have none.

The networks of that time normalised inside. Their modules `normalize_inputs`, `normalize_targets`
and `unnormalize_outputs` had a buffer for each feature of the config whose mode was not IDENTITY.
The buffer was named after the feature, with underscores in place of dots:
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
from policies.lerobot_config import load_config
from policies.lerobot_errors import explained_processors
from policies.lerobot_types import LEROBOT_TYPES
from sim.errors import WhiskerError

_STATISTICS_OF_MODE = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
}


def rebuild_processors(source: Path, policy_type: str) -> Path:
    """Return a temporary folder with the checkpoint's settings and newly built processors.

    The processors normalise by the statistics in the checkpoint's buffers. The checkpoint's own
    folder is not changed, and its weights are read from there.

    Raises:
        WhiskerError: statistics are absent, infinite or contradictory, or lerobot has replaced the
            network of this policy type.
    """
    if LEROBOT_TYPES[policy_type].was_replaced:
        raise WhiskerError(
            f"checkpoint {str(source)!r}",
            expected=f"a {policy_type!r} of lerobot 0.4 or later",
            got="an older one, which had another network",
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
    """Return feature → statistic → value, for every feature that the config normalises."""
    statistics = {}
    features = {**(config.input_features or {}), **(config.output_features or {})}
    for key, feature in features.items():
        mode = config.normalization_mapping.get(feature.type.value)
        required = _STATISTICS_OF_MODE.get(mode, ())
        if not required:
            continue
        buffers = _read_buffers(path, key)
        statistics[key] = {name: _read_statistic(path, key, name, buffers) for name in required}
    return statistics


def _read_buffers(path: Path, key: str) -> dict[str, torch.Tensor]:
    """Return the buffers with statistics of a feature, by the names of their weights."""
    prefix = f"buffer_{key.replace('.', '_')}."
    buffers = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            module, _, buffer = name.partition(".")
            if f"{module}." in STATISTICS_MODULES and buffer.startswith(prefix):
                buffers[name] = file.get_tensor(name).float()
    return buffers


def _read_statistic(
    path: Path,
    feature: str,
    statistic: str,
    buffers: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Return one statistic of a feature, on which all modules that have it must agree.

    Raises:
        WhiskerError: no module has it, they differ, or it is infinite or NaN.
    """
    subject = f"checkpoint file {str(path)!r}, {statistic} of {feature!r}"
    values = [value for name, value in buffers.items() if name.endswith(f".{statistic}")]
    if not values:
        raise WhiskerError(
            subject,
            expected="a buffer among the weights",
            got="none: it would not be normalised",
        )
    if not all(torch.equal(value, values[0]) for value in values):
        got = "several, " + " and ".join(buffers)
        raise WhiskerError(
            subject,
            expected="one value",
            got=got,
            hint="It is unclear which one training used.",
        )
    if not values[0].isfinite().all():
        numbers = values[0].flatten().tolist()
        shown = ", ".join(str(number) for number in numbers[:3])
        if len(numbers) > 3:
            shown += ", ..."
        raise WhiskerError(
            subject,
            expected="finite numbers",
            got=f"[{shown}]",
            hint=(
                "Infinite numbers were never set: "
                "the policy was saved without the statistics of its dataset."
            ),
        )
    return values[0]
