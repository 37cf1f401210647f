"""Load a lerobot checkpoint, and be loud where lerobot is silent."""

import contextlib
import dataclasses
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from draccus.utils import DraccusException
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import OBS_STATE
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from policies import lerobot_policy
from policies.checkpoint_files import (
    STATISTICS_MODULES,
    Checkpoint,
    compute_fingerprint,
    has_statistics_in_weights,
    read_config,
    read_processor_settings,
    read_processor_step_settings,
    read_processor_steps,
)
from policies.checkpoint_lookup import CONFIG_FILE
from policies.inner_folders import resolve_inner_folders
from policies.lerobot_policy import LerobotPolicy, TemporalEnsemblePolicy
from policies.lerobot_types import LEROBOT_TYPES
from policies.normalisation import load_normalisation
from policies.plan_kinds import read_plan_kinds
from policies.policy import PolicySpec
from policies.relative_actions import load_relative_actions
from policies.training_record import load_training_record
from sim.errors import WhiskerError, WhiskerWarning

# Settings of older releases that lerobot 0.6 does not have, and the value at which they change
# nothing.
_NEUTRAL_SETTINGS: Mapping[str, Any] = {
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
    "interpolate_like_pi": False,
    "num_steps": 10,
    "resize_imgs_with_padding": [224, 224],
}


def load_lerobot_policy(checkpoint: Checkpoint, device: str) -> LerobotPolicy:
    """Load a checkpoint with its processors. On the CPU, torch is limited to one thread from here on.

    Args:
        device: "cpu", "cuda", ... or "auto".

    Raises:
        WhiskerError: a config that lerobot does not read, weights that do not fit it, no such
            device.
    """
    folder, source = checkpoint.folder, checkpoint.source
    device = resolve_device(device)
    if device == "cpu":
        # Sums are split among threads: another number of cores would give other actions (by 2e-5
        # degrees, which a contact makes large). One thread also takes half the CPU time and no more
        # wall time on two cores.
        torch.set_num_threads(1)
    config = load_config(source, device)
    image_keys = _find_image_keys(config, source)
    policy = _load_weights(config, source)
    preprocessor, postprocessor = _load_processors(config, folder, source)
    spec = _make_spec(policy, image_keys, checkpoint)
    row = LEROBOT_TYPES[config.type]
    if row.cuts_plan:
        # The rest of the plan is worth seeing, and `--n-action-steps` may ask for it.
        config.n_action_steps = spec.chunk_size
    policy_class: type[LerobotPolicy] = getattr(lerobot_policy, row.wrapper)
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        policy_class = TemporalEnsemblePolicy
    return policy_class(
        policy, preprocessor, postprocessor, spec, image_keys, load_normalisation(folder)
    )


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
        raise WhiskerError(
            f"device {device!r}", expected="a device of this machine", got=got
        ) from error
    return device


def find_untied(policy: torch.nn.Module, missing: set[str]) -> set[str]:
    """Those of the missing weights that do not share their memory with one that was loaded."""
    storages = {
        name: tensor.data_ptr() for name, tensor in policy.state_dict(keep_vars=True).items()
    }
    loaded = {pointer for name, pointer in storages.items() if name not in missing}
    return {name for name in missing if storages.get(name) not in loaded}


def load_config(folder: Path, device: str) -> PreTrainedConfig:
    content = read_config(folder)
    known = {
        field.name
        for field in dataclasses.fields(PreTrainedConfig.get_choice_class(content["type"]))
    }
    unknown = sorted(content.keys() - known - {"type"})
    for field in unknown:
        if content[field] != _NEUTRAL_SETTINGS.get(field, content[field]):
            raise WhiskerError(
                f"checkpoint {str(folder)!r}, config.json",
                expected=f"{field} {_NEUTRAL_SETTINGS[field]}, or none: lerobot 0.6 no longer has this setting",
                got=str(content[field]),
                hint="It changes what the policy does: evaluate it with the release that trained it.",
            )
    if unknown:
        warnings.warn(
            f"checkpoint {str(folder)!r}: config fields that lerobot 0.6 does not know were dropped: "
            f"{', '.join(unknown)}. It was saved by another release.",
            WhiskerWarning,
            stacklevel=2,
        )
    steps, chunk_size = content.get("n_action_steps"), content.get("chunk_size")
    if isinstance(steps, int) and isinstance(chunk_size, int) and steps > chunk_size:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json",
            expected=f"n_action_steps of at most {chunk_size}, the chunk_size",
            got=str(steps),
            hint="Only steps that are planned can be executed: lower n_action_steps in that file.",
        )
    # The device it was saved on may not be here, which lerobot would log at length.
    kept = {key: value for key, value in content.items() if key not in unknown} | {"device": device}
    kept |= resolve_inner_folders(folder, kept)
    if "pretrained_backbone_weights" in kept:
        # The checkpoint brings its own weights: the download they would replace needs a network.
        kept["pretrained_backbone_weights"] = None
    if "compile_model" in kept:
        # Inside a compiled graph the noise would come from a generator that no episode owns.
        kept["compile_model"] = False
    try:
        with tempfile.TemporaryDirectory() as cleaned:
            (Path(cleaned) / CONFIG_FILE).write_text(json.dumps(kept), encoding="utf-8")
            return PreTrainedConfig.from_pretrained(cleaned)
    except (DraccusException, NotImplementedError, ValueError, TypeError, AttributeError) as error:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json",
            expected="a config of lerobot 0.6",
            got=_reason(error),
        ) from error


def _load_weights(config: PreTrainedConfig, folder: Path) -> PreTrainedPolicy:
    """Load, and compare what the file had with what the network has: some types print a mismatch and stay random."""
    policy_class = get_policy_class(config.type)
    try:
        with _silence(), _watched(policy_class) as load, _without_weight_init():
            policy = policy_class.from_pretrained(folder, config=config, strict=False)
    except (RuntimeError, ValueError, KeyError, OSError, ImportError) as error:
        if load.tried:
            raise _unfit(folder, str(error)) from error
        _refuse_absent_folder(f"checkpoint {str(folder)!r}, network", [vars(config)])
        # transformers does not say what it looked for.
        named = [
            v
            for k, v in vars(config).items()
            if k.endswith(("_name", "_path")) and isinstance(v, str)
        ]
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, network",
            expected=f"all that its config.json names ({', '.join(named)}), here or in the cache",
            got=_reason(error),
            hint="Offline, name local folders.",
        ) from error
    if not load.done:
        raise _unfit(
            folder, load.error or "a network whose weights were never loaded: they are random"
        )
    missing = find_untied(policy, load.missing)
    unexpected = {
        name
        for name in load.unexpected
        if not name.startswith(_not_of_the_network(config.type, folder))
    }
    if missing or unexpected:
        parts = [_some("missing", missing), _some("not in the network", unexpected)]
        raise _unfit(folder, "; ".join(part for part in parts if part))
    return policy.eval()


def _not_of_the_network(policy_type: str, folder: Path) -> tuple[str, ...]:
    """Beginnings of the names of weights that a file may have besides the network's own."""
    statistics = STATISTICS_MODULES if has_statistics_in_weights(folder) else ()
    return statistics + LEROBOT_TYPES[policy_type].training_modules


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What lerobot prints while it loads is said by the audit, where it matters.

    A console that cannot print its check marks would make some types go on with random weights.
    """
    silent = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _without_weight_init() -> Iterator[None]:
    """Let constructors leave their weights as the memory was: drawing those of a Pi0 takes five minutes on a CPU.

    Safe because every weight comes from the file: one that does not is refused by what `_watched`
    hears, and what is not in a state dict (rotary frequencies, position ids) is computed in the
    constructors, not drawn. Nor is transformers' own `from_pretrained` (GR00T's base model)
    changed: it fills its gaps by `initialize_weights`.
    """
    with no_init_weights():
        # transformers' switch leaves out the tying as well; it puts `init_weights` back.
        PreTrainedModel.init_weights = lambda model: model.tie_weights(recompute_mapping=False)
        yield


@dataclasses.dataclass
class _Load:
    """What the last `load_state_dict` reported."""

    tried: bool = False
    done: bool = False
    error: str = ""
    missing: set[str] = dataclasses.field(default_factory=set)
    unexpected: set[str] = dataclasses.field(default_factory=set)


@contextlib.contextmanager
def _watched(policy_class: type[PreTrainedPolicy]) -> Iterator[_Load]:
    """Listen to `load_state_dict` of that class: lerobot catches and prints what some types should raise."""
    load = _Load()

    def load_state_dict(self, *args, **kwargs):
        load.tried = True
        try:
            result = super(policy_class, self).load_state_dict(*args, **kwargs)
        except RuntimeError as error:
            load.error = str(error)
            raise
        load.done, load.missing, load.unexpected = (
            True,
            set(result.missing_keys),
            set(result.unexpected_keys),
        )
        return result

    policy_class.load_state_dict = load_state_dict
    try:
        yield load
    finally:
        del policy_class.load_state_dict


def _load_processors(
    config: PreTrainedConfig, folder: Path, source: Path
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    # Actions come back to the CPU, where the simulator is.
    overrides = [
        {"device_processor": {"device": device}}
        if "device_processor" in read_processor_steps(folder, part)
        else {}
        for part, device in (("preprocessor", config.device), ("postprocessor", "cpu"))
    ]
    for step in read_processor_step_settings(folder, "preprocessor"):
        inner = resolve_inner_folders(source, step.get("config", {}))
        if inner:
            overrides[0].setdefault(step["registry_name"], {}).update(inner)
    if load_training_record(folder).renamed:
        # Observations come with the policy's names already; where a dataset's name is another
        # camera's, the step would rename them once more.
        overrides[0]["rename_observations_processor"] = {"rename_map": {}}
    with explained_processors(source, [vars(config), *read_processor_settings(folder)]):
        return make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides=overrides[0],
            postprocessor_overrides=overrides[1],
        )


@contextlib.contextmanager
def explained_processors(source: Path, settings: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Name the reason why lerobot could not make the processors of the checkpoint in that folder from its settings."""
    try:
        yield
    except (KeyError, ValueError, TypeError, ImportError, OSError) as error:
        subject = f"checkpoint {str(source)!r}, processors"
        _refuse_absent_folder(subject, settings)
        raise WhiskerError(
            subject, expected="processors of lerobot 0.6", got=_reason(error)
        ) from error


def _refuse_absent_folder(subject: str, settings: Sequence[Mapping[str, Any]]) -> None:
    """Raise if a setting names a local folder or file that is not there: transformers takes it for a hub id."""
    for field, value in ((field, value) for part in settings for field, value in part.items()):
        is_path = (
            field.endswith(("_name", "_path"))
            and isinstance(value, str)
            and _looks_like_a_path(value)
        )
        if is_path and not Path(value).expanduser().exists():
            raise WhiskerError(
                subject,
                expected=f"the folder {value!r}, which its settings name as {field}",
                got="none of that name on this machine",
                hint="Copy it here, or correct the name in the checkpoint's JSON files.",
            )


def _looks_like_a_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or name.count("/") > 1


def _find_image_keys(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """Camera → lerobot's name of it; refuses inputs that no `Observation` holds.

    Some types list an `empty_camera` for each view that they fill by themselves.
    """
    if config.action_feature is None or not config.input_features:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json", expected="input features and an action"
        )
    image_keys = {}
    for key, feature in config.input_features.items():
        camera = key.removeprefix("observation.images.").removeprefix("observation.")
        if "empty_camera" in camera:
            continue
        if key in config.image_features and feature.shape[0] == 3:
            image_keys[camera] = key
        elif key != OBS_STATE:
            raise WhiskerError(
                f"checkpoint {str(folder)!r}, input {key!r} of shape {tuple(feature.shape)}",
                expected="'observation.state' or 'observation.images.<camera>' of shape (3, height, width)",
                hint="Environments here show nothing else.",
            )
    return image_keys


def _make_spec(
    policy: PreTrainedPolicy, image_keys: dict[str, str], checkpoint: Checkpoint
) -> PolicySpec:
    config = policy.config
    row = LEROBOT_TYPES[config.type]
    steps = row.steps(policy)
    shapes = {camera: config.input_features[key].shape for camera, key in image_keys.items()}
    state_dim = _state_width(config, checkpoint.folder)
    kinds = read_plan_kinds(vars(config) | {"type": config.type}, checkpoint.name)
    return PolicySpec(
        type=config.type,
        image_sizes={camera: (shape[1], shape[2]) for camera, shape in shapes.items()},
        state_dim=state_dim,
        # The Gaussian actor adds a discrete gripper to what its config calls the action.
        action_dim=config.action_feature.shape[0]
        + (getattr(config, "num_discrete_actions", None) is not None),
        chunk_size=steps.chunk_size,
        n_action_steps=steps.n_action_steps,
        max_action_steps=steps.max_action_steps,
        stochastic=kinds.stochastic,
        n_obs_steps=config.n_obs_steps if row.looks_back else 1,
        can_sample=kinds.can_sample,
        intermediate_plans=kinds.intermediate_plans,
        reads_instruction=row.reads_instruction,
        masks_missing_views=row.masks_missing_views,
        action_mode=load_relative_actions(checkpoint.folder).output,
        # `RowDraws` serves every draw, and refuses what it cannot serve.
        seedable=True,
        has_network=True,
        checkpoint=checkpoint.name,
        device=config.device,
        files_sha256=compute_fingerprint(checkpoint.source),
    )


def _state_width(config: PreTrainedConfig, folder: Path) -> int | None:
    """As wide as its statistics: some configs declare the width to which the network pads."""
    state = config.robot_state_feature
    if state is None:
        return None
    stats = load_normalisation(folder).state
    widths = (
        []
        if stats is None
        else [len(value) for name, value in stats.values.items() if name != "count"]
    )
    return min([state.shape[0], *widths])


def _reason(error: BaseException) -> str:
    """Return what an exception and those that caused it say, in one line: draccus hides why a value is refused."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(" ".join(str(cause).split()).rstrip("."))
        cause = cause.__cause__
    return ": ".join(dict.fromkeys(said))


def _unfit(folder: Path, got: str) -> WhiskerError:
    return WhiskerError(
        f"checkpoint {str(folder)!r}, weights",
        expected="exactly the tensors of its config.json",
        got=got,
        hint="Config and weights are of different trainings, or the file is incomplete.",
    )


def _some(what: str, names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {what} ({shown})" if names else ""
