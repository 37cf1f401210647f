"""Load a lerobot checkpoint with its processors, and report faults that lerobot does not."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline, ProcessorStepRegistry
from lerobot.utils.constants import OBS_STATE

from policies import flow_policies, lerobot_policy
from policies.checkpoint_files import Checkpoint, compute_fingerprint
from policies.checkpoint_reading import (
    find_settings,
    read_all_steps,
    read_processor_steps,
    settings_of,
)
from policies.inner_folders import resolve_inner_folders
from policies.lean_lerobot import load_exports
from policies.lerobot_config import load_config
from policies.lerobot_errors import explained_processors
from policies.lerobot_policy import LerobotPolicy, TemporalEnsemblePolicy
from policies.lerobot_types import LEROBOT_TYPES, camera_of_feature
from policies.lerobot_weights import load_network, silenced
from policies.normalisation import load_normalisation
from policies.plan_kinds import read_plan_kinds
from policies.policy import PolicySpec
from policies.relative_actions import load_relative_actions
from policies.training_record import load_training_record
from sim.errors import WhiskerError


def load_lerobot_policy(checkpoint: Checkpoint, device: str) -> LerobotPolicy:
    """Load a checkpoint with its processors.

    On the CPU, this limits torch to one thread for the rest of the process.

    Args:
        device: "cpu", "cuda", ... or "auto".

    Raises:
        WhiskerError: lerobot cannot read the config, the weights do not fit it, or the device does
            not exist.
    """
    folder = checkpoint.folder
    source = checkpoint.source
    device = resolve_device(device)
    if device == "cpu":
        # torch splits sums among its threads, so another number of cores would give other actions
        # (by 2e-5 degrees, which a contact amplifies). On two cores, one thread also takes half the
        # CPU time and no more wall time.
        torch.set_num_threads(1)
    config = load_config(source, device)
    image_keys = _find_image_keys(config, source)
    policy = load_network(config, source)
    preprocessor, postprocessor = _load_processors(config, folder, source)
    spec = _make_spec(policy, image_keys, checkpoint)
    row = LEROBOT_TYPES[config.type]
    if row.cuts_plan:
        # Keep the whole plan: it is drawn, and `--n-action-steps` may use more of it.
        config.n_action_steps = spec.chunk_size
    wrappers = lerobot_policy if row.denoising is None else flow_policies
    policy_class: type[LerobotPolicy] = getattr(wrappers, row.wrapper)
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        policy_class = TemporalEnsemblePolicy
    return policy_class(
        policy,
        preprocessor,
        postprocessor,
        spec,
        image_keys,
        load_normalisation(folder),
    )


def resolve_device(device: str) -> str:
    """Return the device; "auto" is the GPU if there is one.

    Raises:
        WhiskerError: this machine does not have the device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        got = str(error).splitlines()[0]
        raise WhiskerError(
            f"device {device!r}",
            expected="a device of this machine",
            got=got,
        ) from error
    return device


def _load_processors(
    config: PreTrainedConfig,
    folder: Path,
    source: Path,
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    before: dict[str, dict] = {}
    after: dict[str, dict] = {}
    # Actions come back to the CPU, where the simulator runs.
    for overrides, part, device in (
        (before, "preprocessor", config.device),
        (after, "postprocessor", "cpu"),
    ):
        steps = read_processor_steps(folder, part)
        if find_settings(steps, "device_processor"):
            overrides["device_processor"] = {"device": device}
    for step in read_processor_steps(folder, "preprocessor"):
        inner_folders = resolve_inner_folders(source, settings_of(step))
        if inner_folders:
            before.setdefault(step["registry_name"], {}).update(inner_folders)
    if load_training_record(folder).renamed:
        # Observations already have the policy's names. If the dataset uses one of these names for
        # another camera, the step would rename the policy's camera once more.
        before["rename_observations_processor"] = {"rename_map": {}}
    all_steps = read_all_steps(folder)
    _register_steps(config.type, all_steps)
    # lerobot passes the sizes of EO-1's images in an older way, and transformers would say so at
    # every plan.
    logging.getLogger("transformers.processing_utils").addFilter(_is_news)
    settings = [vars(config), *map(settings_of, all_steps)]
    with explained_processors(source, settings), silenced():
        return make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides=before,
            postprocessor_overrides=after,
        )


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Kwargs passed to `processor.__call__`")


def _register_steps(policy_type: str, steps: Sequence[dict]) -> None:
    """Import the modules of these steps, which register themselves by that."""
    load_exports(f"lerobot.policies.{policy_type}")
    names = {step.get("registry_name") for step in steps}
    if not names <= set(ProcessorStepRegistry.list()):
        load_exports("lerobot.processor")


def _find_image_keys(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """Return camera → lerobot's name for that input.

    Some types also list an `empty_camera` for each view that they fill in by themselves; these are
    left out.

    Raises:
        WhiskerError: an input is neither the state nor an image of three channels.
    """
    if config.action_feature is None or not config.input_features:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}, config.json",
            expected="input features and an action",
        )
    image_keys = {}
    for key, feature in config.input_features.items():
        camera = camera_of_feature(key)
        if "empty_camera" in camera:
            continue
        if key in config.image_features and feature.shape[0] == 3:
            image_keys[camera] = key
        elif key != OBS_STATE:
            raise WhiskerError(
                f"checkpoint {str(folder)!r}, input {key!r} of shape {tuple(feature.shape)}",
                expected=(
                    "'observation.state' or 'observation.images.<camera>' of shape "
                    "(3, height, width)"
                ),
                hint="Environments here have no other observations.",
            )
    return image_keys


def _make_spec(
    policy: PreTrainedPolicy,
    image_keys: dict[str, str],
    checkpoint: Checkpoint,
) -> PolicySpec:
    config = policy.config
    row = LEROBOT_TYPES[config.type]
    steps = row.steps(policy)
    image_sizes = {}
    for camera, key in image_keys.items():
        _, height, width = config.input_features[key].shape
        image_sizes[camera] = (height, width)
    # EVO1 may cut its plans to fewer numbers than its config calls the action.
    cut_dim = getattr(config, "postprocess_action_dim", None)
    action_dim = cut_dim or config.action_feature.shape[0]
    if getattr(config, "num_discrete_actions", None) is not None:
        # The Gaussian actor has a discrete gripper besides what its config calls the action.
        action_dim += 1
    kinds = read_plan_kinds(vars(config) | {"type": config.type}, checkpoint.name)
    return PolicySpec(
        type=config.type,
        image_sizes=image_sizes,
        state_dim=_state_width(config, checkpoint.folder),
        action_dim=action_dim,
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
        # `PerRowSeededRandom` seeds every draw, and refuses those that it cannot seed.
        seedable=True,
        has_network=True,
        checkpoint=checkpoint.name,
        device=config.device,
        files_sha256=compute_fingerprint(checkpoint.source),
    )


def _state_width(config: PreTrainedConfig, folder: Path) -> int | None:
    """Return the width of the state, which is that of its statistics.

    Some configs declare the width to which the network pads. VLA-JEPA reads the state even if its
    features do not list it.
    """
    state = config.robot_state_feature
    if state is None:
        return getattr(config, "state_dim", None)
    widths = [state.shape[0]]
    statistics = load_normalisation(folder).state
    if statistics is not None:
        widths += [len(value) for name, value in statistics.values.items() if name != "count"]
    return min(widths)
