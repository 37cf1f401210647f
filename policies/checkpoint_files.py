"""Find a checkpoint and check its files before lerobot reads them.

lerobot is silent about many faults, such as missing statistics.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from policies.checkpoint_lookup import find_checkpoint
from policies.checkpoint_reading import (
    PROCESSOR_FILES,
    check_safetensors,
    read_config,
    read_json,
    read_steps,
    settings_of,
)
from policies.inner_folders import find_inner_files
from policies.lean_lerobot import lean_lerobot
from policies.lerobot_types import LEROBOT_TYPES
from policies.normalisation import load_normalisation
from policies.registry import (
    CHECKPOINT_FOLDER,
    default_checkpoint,
    resolve_policy_name,
    shipped_checkpoints,
)
from policies.remote_code import check_no_remote_code
from policies.unsupported_types import refuse_type
from sim.errors import WhiskerError
from sim.spec import EnvSpec

WEIGHTS_FILE = "model.safetensors"
# Before lerobot 0.4, these modules of the network held the statistics among its weights.
STATISTICS_MODULES = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
# Our recipes write this file; lerobot does not know it.
TRAINING_ENV_FILE = "training_env.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are present and undamaged.

    Attributes:
        name: as the user gave it, or the default's.
        folder: its files in today's format, without the weights if it was converted.
        type: lerobot's policy type.
        source: the folder that it came in, with the weights.
    """

    name: str
    folder: Path
    type: str
    source: Path


def open_checkpoint(
    policy_type: str | None,
    name: str | None,
    *,
    trust_remote_code: bool = False,
    env: str | None = None,
) -> Checkpoint:
    """Find the checkpoint and check its files.

    This is quick and imports neither torch nor lerobot, except for checkpoints of before lerobot
    0.4, whose processors are rebuilt.

    Args:
        policy_type: e.g. "act"; must be the checkpoint's own. None: the checkpoint's own.
        name: shipped name, folder or hub id; None: the default of that type.
        trust_remote_code: whether code that it brings or names may run.
        env: the environment that it is to run in, which decides the default.

    Raises:
        WhiskerError: there is no such checkpoint, it is of another type, files are damaged or
            missing, statistics are not numbers, or its code is not trusted.
    """
    is_default = name is None
    if name is None:
        name = default_checkpoint(resolve_policy_name(policy_type or "act"), env)
    if name is None:
        raise WhiskerError(
            f"policy {policy_type!r}",
            expected="--checkpoint",
            got="none",
            hint="There is no published default.",
        )
    is_shipped = is_default and name in shipped_checkpoints()
    source = CHECKPOINT_FOLDER / name if is_shipped else find_checkpoint(name)
    config = read_config(source)
    saved_type = config["type"]
    _check_type(name, saved_type, policy_type)
    folder = source
    if has_statistics_in_weights(source):
        with lean_lerobot():
            from policies.old_format import rebuild_processors

        folder = rebuild_processors(source, saved_type)
    check_files(folder, source)
    load_normalisation(folder)  # refuses statistics that cannot be used
    if not trust_remote_code:
        check_no_remote_code(folder, config, source)
    return Checkpoint(name, folder, saved_type, source)


def _check_type(name: str, saved_type: str, policy_type: str | None) -> None:
    """Raise unless a checkpoint has a known type, and the one that the user named."""
    if saved_type not in LEROBOT_TYPES:
        raise refuse_type(f"checkpoint {name!r}", saved_type)
    if policy_type is not None and resolve_policy_name(policy_type) != saved_type:
        raise WhiskerError(
            f"checkpoint {name!r}",
            expected=f"policy type {policy_type!r}",
            got=repr(saved_type),
            hint="Leave --policy out: the type is read from the checkpoint.",
        )


def has_statistics_in_weights(folder: Path) -> bool:
    """Return whether a release before lerobot 0.4 saved the checkpoint.

    Such a checkpoint has its statistics among its weights, and no processors.
    """
    weights = folder / WEIGHTS_FILE
    has_processors = any((folder / file).exists() for file in PROCESSOR_FILES)
    if has_processors or not weights.is_file():
        return False
    return any(name.startswith(STATISTICS_MODULES) for name in check_safetensors(weights))


def check_files(folder: Path, source: Path | None = None) -> None:
    """Check weights and processors: they are present, undamaged, and normalise every feature.

    Processors that name a Python class in place of one of lerobot's registered steps are refused,
    because loading them would import code of the checkpoint's choice.

    Args:
        source: the folder of the weights; by default the same folder.

    Raises:
        WhiskerError: a check fails.
    """
    _check_weights(source or folder)
    config = read_config(folder)
    features_of_file = {
        "policy_preprocessor.json": _feature_types(config.get("input_features")),
        "policy_postprocessor.json": _feature_types(config.get("output_features")),
    }
    renamed: dict[str, str] = {}
    for file, normalisers in PROCESSOR_FILES.items():
        path = folder / file
        steps = read_steps(path)
        _check_step_names(path, steps, normalisers)
        for step in steps:
            settings = settings_of(step)
            renamed |= settings.get("rename_map", {})
            statistics = []
            if "state_file" in step:
                statistics = check_safetensors(folder / step["state_file"])
            if step["registry_name"] == normalisers[0]:
                _check_statistics(path, settings, statistics, features_of_file[file], renamed)


def load_training_env(folder: Path) -> dict | None:
    """Return the `sim.spec.EnvSpec` of the training as JSON; None if it is unknown."""
    path = folder / TRAINING_ENV_FILE
    return read_json(path, "Remove the file, or copy it again.") if path.is_file() else None


def save_training_env(folder: Path, spec: EnvSpec) -> None:
    """Record the environment of a checkpoint (or a dataset), so that the doctor can compare it."""
    text = json.dumps(asdict(spec), indent=2) + "\n"
    (folder / TRAINING_ENV_FILE).write_text(text, encoding="utf-8")


def compute_fingerprint(folder: Path) -> dict[str, str]:
    """Return file name → SHA-256, for every file of the checkpoint and of the folders inside."""
    settings = [read_config(folder)]
    for name in PROCESSOR_FILES:
        if (folder / name).is_file():  # a checkpoint in the old format has none
            settings += map(settings_of, read_steps(folder / name))
    files = {path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}
    files |= find_inner_files(folder, settings)
    return {path.relative_to(folder).as_posix(): compute_sha256(path) for path in sorted(files)}


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_weights(folder: Path) -> None:
    weights = folder / WEIGHTS_FILE
    if not weights.is_file() and (folder / "adapter_model.safetensors").is_file():
        raise WhiskerError(
            f"checkpoint {str(folder)!r}",
            expected=f"whole weights in {WEIGHTS_FILE}",
            got="a PEFT adapter",
            hint="Merge it into its base with `merge_and_unload` of peft, then save the policy.",
        )
    check_safetensors(weights)


def _check_step_names(
    path: Path,
    steps: list[dict],
    normalisers: tuple[str, ...],
) -> None:
    """Raise unless all steps of a processor are lerobot's, and one of them normalises."""
    subject = f"checkpoint file {str(path)!r}"
    names: list[str] = []
    for step in steps:
        if "registry_name" not in step:
            raise WhiskerError(
                subject,
                expected="lerobot's registered processor steps only",
                got=f"the class {step.get('class')!r}",
            )
        names.append(step["registry_name"])
    if not set(normalisers) & set(names):
        got = ", ".join(names) or "no steps"
        raise WhiskerError(subject, expected=f"a step {normalisers[0]!r}", got=got)


def _check_statistics(
    path: Path,
    settings: dict,
    statistics: list[str],
    features: Mapping[str, str],
    renamed: Mapping[str, str],
) -> None:
    """Raise unless a normaliser step has the statistics of every feature that it should normalise.

    lerobot leaves a feature unchanged, without a word, if the step has no statistics for it or does
    not list it. One case is allowed: `lerobot-train --rename_map` saves image statistics under the
    dataset's names. The policy was then trained on raw images, and lerobot feeds it raw images
    again when it loads the checkpoint. The doctor reports this.

    Args:
        settings: the step's settings.
        statistics: names of the step's tensors, `<feature>.<statistic>`.
        features: feature → type, for the features that the checkpoint reads or returns.
        renamed: the dataset's feature → the checkpoint's.
    """

    def has_statistics(feature: str) -> bool:
        return any(name.startswith(f"{feature}.") for name in statistics)

    trained_raw = {new for old, new in renamed.items() if has_statistics(old)}
    norm_map = settings.get("norm_map", {})
    for feature, kind in features.items():
        # To unnormalise the action, lerobot needs only its statistics.
        is_listed = feature in settings.get("features", {}) or kind == "ACTION"
        is_complete = is_listed and has_statistics(feature)
        is_trained_raw = kind == "VISUAL" and feature in trained_raw and not has_statistics(feature)
        is_normalised = norm_map.get(kind, "IDENTITY") != "IDENTITY"
        if is_normalised and not is_complete and not is_trained_raw:
            raise WhiskerError(
                f"checkpoint file {str(path)!r}",
                expected=f"statistics of {feature!r}",
                got="none: it would not be normalised",
                hint=(
                    "Save the processors with the statistics of the training set. "
                    "(A base checkpoint has none: fine-tune it first.)"
                ),
            )


def _feature_types(features: object) -> dict[str, str]:
    """Return feature → type, without the empty views that some types fill in by themselves."""
    if not isinstance(features, dict):
        return {}
    return {key: value["type"] for key, value in features.items() if "empty_camera" not in key}
