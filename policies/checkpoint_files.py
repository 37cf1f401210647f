"""Find a checkpoint and look at its files before lerobot does: lerobot is silent about much that is wrong."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from policies.checkpoint_lookup import CONFIG_FILE, find_checkpoint
from policies.lerobot_types import LEROBOT_TYPES
from policies.normalisation import load_normalisation
from policies.registry import (
    CHECKPOINT_FOLDER,
    default_checkpoint,
    resolve_alias,
    resolve_policy_name,
    shipped_checkpoints,
)
from sim.errors import WhiskerError
from sim.spec import EnvSpec

WEIGHTS_FILE = "model.safetensors"
# Modules of the networks of before lerobot 0.4, which normalised by statistics among their weights.
STATISTICS_MODULES = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
# What Git LFS leaves in place of a file that it did not fetch begins so.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# Not lerobot's: our recipes write it.
TRAINING_ENV_FILE = "training_env.json"
# Each with the steps of which it must have one.
PROCESSOR_FILES = {
    "policy_preprocessor.json": ("normalizer_processor", "groot_n1_7_pack_inputs_v1"),
    "policy_postprocessor.json": (
        "unnormalizer_processor",
        "groot_n1_7_action_decode_v1",
        "groot_action_unpack_unnormalize_v2",
    ),
}


# What lerobot 0.6 loads with `trust_remote_code=True`: processor step → field that names it →
# default. Those of policy types are in `LerobotType.code_fields`.
_CODE_FIELDS: dict[str, Mapping[str, str | None]] = {
    "action_tokenizer_processor": {
        "action_tokenizer_name": "lerobot/fast-action-tokenizer",
        "paligemma_tokenizer_name": "google/paligemma-3b-pt-224",
    },
    "groot_n1_7_vlm_encode_v1": {"model_name": "nvidia/Cosmos-Reason2-2B"},
}
# Of those, what is known to hold none.
_REPOSITORIES_WITHOUT_CODE = {"google/paligemma-3b-pt-224"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are there and whole.

    Attributes:
        name: as the user gave it, or the default's.
        folder: its files in today's format, without the weights where it had to be converted.
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

    Quick, without torch or lerobot, except for one of before lerobot 0.4, whose processors are
    rebuilt.

    Args:
        policy_type: e.g. "act"; must be the checkpoint's own. None: the checkpoint's own.
        name: shipped name, folder or hub id; None: the default of that type.
        trust_remote_code: whether code that it brings or names may run.
        env: where it is to run, by which the default is chosen.

    Raises:
        WhiskerError: no such checkpoint, another type, damaged or missing files, statistics that
            are no numbers, code that is not trusted.
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
    if saved_type not in LEROBOT_TYPES:
        known = ", ".join(LEROBOT_TYPES)
        raise WhiskerError(
            f"checkpoint {name!r}", expected=f"a policy type of: {known}", got=repr(saved_type)
        )
    if policy_type is not None and resolve_policy_name(policy_type) != saved_type:
        raise WhiskerError(
            f"checkpoint {name!r}",
            expected=f"policy type {policy_type!r}",
            got=repr(saved_type),
            hint="Leave --policy out: the checkpoint knows its type.",
        )
    folder = source
    if has_statistics_in_weights(source):
        from policies.old_format import rebuild_processors

        folder = rebuild_processors(source, saved_type)
    check_files(folder, source)
    load_normalisation(folder)  # refuses statistics with which nothing can be normalised
    if not trust_remote_code:
        check_no_remote_code(folder, config, source)
    return Checkpoint(name, folder, saved_type, source)


def read_config(folder: Path) -> dict:
    """`config.json` as it stands, its type by today's name.

    Raises:
        WhiskerError: absent, no JSON, or without a policy type.
    """
    path = folder / CONFIG_FILE
    config = _read_json(path, "The folder must be one that lerobot's `save_pretrained` wrote.")
    if not isinstance(config.get("type"), str):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected="a lerobot policy config with a 'type'",
            got="none",
        )
    return config | {"type": resolve_alias(config["type"])}


def has_statistics_in_weights(folder: Path) -> bool:
    """Return whether lerobot before 0.4 saved it, with its statistics among its weights and without processors."""
    if (
        any((folder / file).exists() for file in PROCESSOR_FILES)
        or not (folder / WEIGHTS_FILE).is_file()
    ):
        return False
    return any(
        name.startswith(STATISTICS_MODULES) for name in check_safetensors(folder / WEIGHTS_FILE)
    )


def check_files(folder: Path, source: Path | None = None) -> None:
    """Raise unless weights (in `source`, by default in the folder) and both processors are there, whole, and normalise
    what they say.

    Processors that name a Python class (in place of one of lerobot's registered steps) are refused:
    loading them would import code of the checkpoint's choice.
    """
    source = source or folder
    if not (source / WEIGHTS_FILE).is_file() and (source / "adapter_model.safetensors").is_file():
        raise WhiskerError(
            f"checkpoint {str(source)!r}",
            expected=f"whole weights in {WEIGHTS_FILE}",
            got="a PEFT adapter",
            hint="Merge it into its base with `merge_and_unload` of peft, then save the policy.",
        )
    check_safetensors(source / WEIGHTS_FILE)
    config = read_config(folder)
    inputs, outputs = (
        _feature_types(config.get(f"{part}_features")) for part in ("input", "output")
    )
    features = dict(zip(PROCESSOR_FILES, (inputs, outputs), strict=True))
    renamed: dict[str, str] = {}
    for file, normalisers in PROCESSOR_FILES.items():
        path = folder / file
        steps = _read_steps(path)
        names: list[str] = [step["registry_name"] for step in steps if "registry_name" in step]
        if len(names) < len(steps):
            class_name = next(step.get("class") for step in steps if "registry_name" not in step)
            raise WhiskerError(
                f"checkpoint file {str(path)!r}",
                expected="lerobot's registered processor steps only",
                got=f"the class {class_name!r}",
            )
        if not set(normalisers) & set(names):
            got = ", ".join(names) or "no steps"
            raise WhiskerError(
                f"checkpoint file {str(path)!r}", expected=f"a step {normalisers[0]!r}", got=got
            )
        for step in steps:
            renamed |= step.get("config", {}).get("rename_map", {})
            names_of_stats = (
                check_safetensors(folder / step["state_file"]) if "state_file" in step else []
            )
            if step["registry_name"] == normalisers[0]:
                _check_stats(path, step.get("config", {}), names_of_stats, features[file], renamed)


def load_training_env(folder: Path) -> dict | None:
    """The `sim.spec.EnvSpec` of the environment that it was trained in, as JSON; None where it does not say."""
    path = folder / TRAINING_ENV_FILE
    return _read_json(path, "Remove the file, or copy it again.") if path.is_file() else None


def save_training_env(folder: Path, spec: EnvSpec) -> None:
    """Let a checkpoint (or a dataset) say where it comes from, so that the doctor can compare."""
    (folder / TRAINING_ENV_FILE).write_text(
        json.dumps(asdict(spec), indent=2) + "\n", encoding="utf-8"
    )


def read_processor_steps(folder: Path, part: str) -> list[str]:
    """Names of the steps of the "preprocessor" or "postprocessor"."""
    return [step["registry_name"] for step in _read_steps(folder / f"policy_{part}.json")]


def read_processor_step_settings(folder: Path, part: str) -> list[dict]:
    """Return the steps of the "preprocessor" or "postprocessor": `registry_name` and `config` of each."""
    return _read_steps(folder / f"policy_{part}.json")


def read_processor_settings(folder: Path) -> list[dict]:
    """Settings of every step of both processors."""
    return [
        step.get("config", {}) for file in PROCESSOR_FILES for step in _read_steps(folder / file)
    ]


def check_no_remote_code(folder: Path, config: dict, source: Path) -> None:
    """Raise if loading would run Python code of somebody else's: lerobot trusts it for some types without asking.

    Raises:
        WhiskerError: code in the folder or in what its config names.
    """
    steps = [step for file in PROCESSOR_FILES for step in _read_steps(folder / file)]
    parts: list[tuple[Mapping[str, str | None], Any]] = [
        (LEROBOT_TYPES[config["type"]].code_fields, config)
    ]
    parts += [
        (_CODE_FIELDS.get(step["registry_name"], {}), step.get("config", {})) for step in steps
    ]
    named = [
        settings.get(field, default)
        for fields, settings in parts
        for field, default in fields.items()
        if settings.get("trust_remote_code", True) and settings.get(field, default)
    ]
    for name in (str(source), *named):
        code = _find_code(Path(name))
        if code or (not Path(name).is_dir() and name not in _REPOSITORIES_WITHOUT_CODE):
            raise WhiskerError(
                f"checkpoint {str(source)!r}",
                expected="weights and settings only",
                got=f"code in {name!r}"
                + (f" ({', '.join(code[:3])})" if code else ", which lerobot would run"),
                hint="Read that code; --trust-remote-code runs it.",
            )


def _check_stats(
    path: Path,
    step: dict,
    names_of_stats: list[str],
    wanted: Mapping[str, str],
    renamed: Mapping[str, str],
) -> None:
    """lerobot leaves a feature that it has no statistics of, or that the step does not list, as it is: silently.

    lerobot-train with --rename_map saves image statistics under the dataset's names. It trained on
    raw images then, which loading the checkpoint repeats; the doctor says so.

    Args:
        wanted: feature → its type, of those that the checkpoint reads or sends.
        renamed: the dataset's feature → the checkpoint's.
    """
    trained_raw = {
        new
        for old, new in renamed.items()
        if any(name.startswith(f"{old}.") for name in names_of_stats)
    }
    norm_map = step.get("norm_map", {})
    for feature, kind in wanted.items():
        # The action is undone by its statistics alone.
        is_listed = feature in step.get("features", {}) or kind == "ACTION"
        has_stats = any(name.startswith(f"{feature}.") for name in names_of_stats)
        is_trained_raw = kind == "VISUAL" and feature in trained_raw and not has_stats
        if (
            norm_map.get(kind, "IDENTITY") != "IDENTITY"
            and not (is_listed and has_stats)
            and not is_trained_raw
        ):
            raise WhiskerError(
                f"checkpoint file {str(path)!r}",
                expected=f"statistics of {feature!r}",
                got="none: it would not be normalised",
                hint="Save the processors with the statistics of the training set. (A base checkpoint has none: "
                "fine-tune it first.)",
            )


def check_safetensors(path: Path) -> list[str]:
    """Names of its tensors; raises unless the file is there and as long as its header says."""
    if not path.is_file():
        raise WhiskerError(
            f"checkpoint file {str(path)!r}", expected="the file", got="none", hint="Copy it again."
        )
    _refuse_lfs_pointer(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected="a whole safetensors file",
            got=f"{size} bytes that do not read ({error})",
            hint="It was cut short or damaged on the way: copy or download it again.",
        ) from error


def compute_fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the checkpoint, by name."""
    inside = (*folder.iterdir(), *(folder / "vlm").glob("*.json"))
    files = sorted(path for path in inside if path.suffix in (".json", ".safetensors"))
    return {path.relative_to(folder).as_posix(): compute_sha256(path) for path in files}


def compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _feature_types(features: object) -> dict[str, str]:
    """Feature → its type; without the views that some types fill in by themselves."""
    listed = features.items() if isinstance(features, dict) else []
    return {key: value["type"] for key, value in listed if "empty_camera" not in key}


def _find_code(folder: Path) -> list[str]:
    """Python files, and settings by which transformers fetches some from the hub."""
    if not folder.is_dir():
        return []
    mapped = (
        path
        for path in folder.rglob("*.json")
        if '"auto_map"' in path.read_text(encoding="utf-8", errors="replace")
    )
    return sorted(path.name for path in (*folder.rglob("*.py"), *mapped))


def _refuse_lfs_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) != _LFS_POINTER:
            return
    raise WhiskerError(
        f"checkpoint file {str(path)!r}",
        expected="the file itself",
        got="a Git LFS pointer, which stands for it in a clone without Git LFS",
        hint="In that clone: git lfs install && git lfs pull.",
    )


def _read_steps(path: Path) -> list[dict]:
    return _read_json(
        path, "Save it with `save_pretrained` of the processors, beside the weights."
    ).get("steps", [])


def _read_json(path: Path, hint: str) -> dict:
    if not path.is_file():
        raise WhiskerError(
            f"checkpoint file {str(path)!r}", expected="the file", got="none", hint=hint
        )
    _refuse_lfs_pointer(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WhiskerError(
            f"checkpoint file {str(path)!r}", expected="JSON", got=str(error), hint=hint
        ) from error
    if not isinstance(content, dict):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected="a JSON object",
            got=type(content).__name__,
            hint=hint,
        )
    return content
