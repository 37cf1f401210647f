"""Read the config.json of a lerobot checkpoint, with the changes that this machine needs."""

import dataclasses
import json
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

from draccus.utils import DraccusException
from lerobot.configs.policies import PreTrainedConfig

from policies.checkpoint_files import WEIGHTS_FILE
from policies.checkpoint_lookup import CONFIG_FILE
from policies.checkpoint_reading import read_config
from policies.inner_folders import resolve_inner_folders
from policies.lean_vla_jepa import without_world_model
from policies.lerobot_errors import describe_error
from policies.lerobot_types import Settings
from sim.errors import WhiskerError, WhiskerWarning

# Settings of older releases that lerobot 0.6 does not have → the value without any effect.
_NEUTRAL_SETTINGS: Settings = {
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
    "interpolate_like_pi": False,
    "num_steps": 10,
    "resize_imgs_with_padding": [224, 224],
}


def load_config(folder: Path, device: str) -> PreTrainedConfig:
    """Return lerobot's configuration of a checkpoint, for a device.

    Raises:
        WhiskerError: lerobot cannot read it, a setting that lerobot 0.6 no longer has would change
            the policy, or more steps would be executed than are planned.
    """
    content = read_config(folder)
    policy_type = content["type"]
    import_module(f"lerobot.policies.{policy_type}.configuration_{policy_type}")  # registers it
    unknown = _find_unknown_settings(folder, content)
    _check_n_action_steps(folder, content)
    settings = {key: value for key, value in content.items() if key not in unknown}
    # lerobot warns at length if the device of the training is not available here.
    settings["device"] = device
    # lerobot-eval sets it too. Without it, EO-1 first loads the weights of its base.
    settings["pretrained_path"] = str(folder)
    settings |= resolve_inner_folders(folder, settings)
    if "pretrained_backbone_weights" in settings:
        # These need a download, and the checkpoint's own weights replace them.
        settings["pretrained_backbone_weights"] = None
    if policy_type == "vla_jepa":
        settings |= without_world_model(settings, folder / WEIGHTS_FILE)
    if "compile_model" in settings:
        # A compiled graph would draw its noise from a generator that no episode owns.
        settings["compile_model"] = False
    try:
        with tempfile.TemporaryDirectory() as cleaned:
            (Path(cleaned) / CONFIG_FILE).write_text(json.dumps(settings), encoding="utf-8")
            return PreTrainedConfig.from_pretrained(cleaned)
    except (DraccusException, NotImplementedError, ValueError, TypeError, AttributeError) as error:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json",
            expected="a config of lerobot 0.6",
            got=describe_error(error),
        ) from error


def _find_unknown_settings(folder: Path, content: Settings) -> list[str]:
    """Return, with a warning, the settings that lerobot 0.6 does not have.

    Raises:
        WhiskerError: one of them would change the policy.
    """
    fields = dataclasses.fields(PreTrainedConfig.get_choice_class(content["type"]))
    known = {field.name for field in fields}
    unknown = sorted(content.keys() - known - {"type"})
    for setting in unknown:
        value = content[setting]
        neutral = _NEUTRAL_SETTINGS.get(setting, value)
        if value != neutral:
            raise WhiskerError(
                f"checkpoint {str(folder)!r}, config.json",
                expected=f"{setting} {neutral}, or none: lerobot 0.6 no longer has this setting",
                got=str(value),
                hint=(
                    "The setting changes what the policy does: "
                    "evaluate it with the release that trained it."
                ),
            )
    if unknown:
        warnings.warn(
            f"checkpoint {str(folder)!r}: config fields that lerobot 0.6 does not know were "
            f"dropped: {', '.join(unknown)}. Another release saved the checkpoint.",
            WhiskerWarning,
            stacklevel=3,
        )
    return unknown


def _check_n_action_steps(folder: Path, content: Settings) -> None:
    n_action_steps = content.get("n_action_steps")
    chunk_size = content.get("chunk_size")
    if not (isinstance(n_action_steps, int) and isinstance(chunk_size, int)):
        return
    if n_action_steps > chunk_size:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json",
            expected=f"n_action_steps of at most {chunk_size}, the chunk_size",
            got=str(n_action_steps),
            hint="Only planned steps can be executed: lower n_action_steps in that file.",
        )
