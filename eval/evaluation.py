"""Sets an evaluation up: makes policy and environment from a config, and refuses what cannot run."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from eval.cameras import adopt_renamed_cameras, select_cameras
from eval.config import AUTO_ENV, DEFAULT_ENV, EvalConfig, SubjectConfig
from eval.conventions import check_conventions
from eval.feature_recording import FeatureRecorder, check_collection, make_feature_recorder
from eval.preflight import (
    check_asked_action_steps,
    check_fit,
    check_image_size,
    check_records,
    resolve_n_action_steps,
)
from policies.adapters import (
    AdaptedPolicy,
    Adapters,
    format_camera_map,
    parse_camera_map,
    parse_image_size,
)
from policies.checkpoint_files import Checkpoint, load_training_env, open_checkpoint, read_config
from policies.checkpoint_lookup import find_checkpoint
from policies.declared_policy import DeclaredPolicy, read_declared_policy
from policies.device import check_device
from policies.lerobot_types import LEROBOT_TYPES
from policies.loading import find_loader, load_policy
from policies.plan_kinds import read_plan_kinds
from policies.policy import IntermediatePlanPolicy, Policy, PolicySpec
from policies.registry import CHECKPOINT_FOLDER, resolve_policy_name, shipped_checkpoints
from policies.training_record import TrainingRecord, load_training_record
from sim.env import Env
from sim.errors import WhiskerError
from sim.gl import check_gl_library
from sim.registry import (
    camera_names,
    check_control,
    env_of_demonstrations,
    expand_env,
    make_env,
    task_of,
)
from sim.spec import EnvSpec


@dataclass(frozen=True)
class Setup:
    """Holds what an evaluation runs: a policy and an environment that fit each other, and for how long.

    Attributes:
        env: of the first task.
        policy: as it speaks to `env`.
        checkpoint: of lerobot's, whose files can be looked at; None: the policy has no such files.
        horizon: control steps after which an episode in `env` is over.
        tasks: task → the name of its environment, in the order in which they run.
        collector: the policy as it is listened to; None unless features are collected.
        training: what the checkpoint says of its training; None: there is no checkpoint of
            lerobot's.
        renamed_cameras: the environment's camera → the policy's, as the checkpoint's own rename map
            pairs them where the user did not.
    """

    env: Env
    policy: Policy
    checkpoint: Checkpoint | None
    n_action_steps: int
    horizon: int
    tasks: Mapping[str, str]
    collector: FeatureRecorder | None = None
    training: TrainingRecord | None = None
    renamed_cameras: Mapping[str, str] = field(default_factory=dict)


def name_policy[Config: SubjectConfig](config: Config) -> Config:
    """Return the config with the policy's name filled in: the checkpoint's own type where none was given.

    The environment `auto` becomes the one that a shipped checkpoint was trained in, or the default.

    Raises:
        WhiskerError: no such policy or checkpoint.
    """
    if config.policy is not None:
        policy = resolve_policy_name(config.policy)
    else:
        policy = (
            "act"
            if config.checkpoint is None
            else read_config(find_checkpoint(config.checkpoint))["type"]
        )
    env = _training_env(config.checkpoint, policy) if config.env == AUTO_ENV else config.env
    return dataclasses.replace(config, policy=policy, env=env)


def _training_env(checkpoint: str | None, policy: str) -> str:
    """Return the environment in which the shipped checkpoint was trained; the default where nobody knows of one."""
    row = LEROBOT_TYPES.get(policy)
    name = row and (checkpoint or row.shipped)
    if name is None or name not in shipped_checkpoints() or Path(name).is_dir():
        return DEFAULT_ENV
    trained_in = load_training_env(CHECKPOINT_FOLDER / name)
    return DEFAULT_ENV if trained_in is None else trained_in["name"]


def with_demo_initial_states(config: EvalConfig) -> EvalConfig:
    """Return the config with the environment that begins as the demonstrations in `config.demos`, if it has any.

    Raises:
        WhiskerError: demonstrations without a replay or the reverse, or not those of the
            environment asked for.
    """
    if (config.policy == "replay") != (config.demos is not None):
        expected, got = (
            "--policy replay together with --demos <file>",
            f"--policy {config.policy or 'act'}",
        )
        raise WhiskerError(
            "a replay", expected=expected, got=got + (" with --demos" if config.demos else " alone")
        )
    if config.demos is None:
        return config
    env = env_of_demonstrations(Path(config.demos))
    demonstrated = env.partition("@")[0]
    if config.env != AUTO_ENV and expand_env(config.env) != (demonstrated,):
        raise WhiskerError(
            f"--env {config.env}", expected=f"{demonstrated}, which {config.demos} is of"
        )
    return dataclasses.replace(config, env=env, demos=str(Path(config.demos).resolve()))


def set_up(config: SubjectConfig) -> Setup:
    """Make policy and environment, of a suite that of its first task, and refuse what cannot run.

    The environment renders exactly the cameras that the policy looks through, at the size it asks
    for.

    Raises:
        WhiskerError: anything that cannot run or does not fit.
    """
    config = name_policy(config)
    _check_counts(config)
    tasks = _find_tasks(config)
    env_name = next(iter(tasks.values()))
    adapters = make_adapters(config)
    with ExitStack() as opened:
        policy, env, files = _load(config, env_name, adapters, opened)
        checkpoint, training = files or (None, None)
        _check_records(config, policy)
        if isinstance(policy, IntermediatePlanPolicy):
            policy.records_intermediate_plans = (
                isinstance(config, EvalConfig) and config.intermediate_plans
            )
        env_cameras = camera_names(env_name) if env is None else env.spec.camera_names
        renamed, adapters, sizes = _fit_cameras(
            policy.spec, env_name, env_cameras, adapters, training
        )
        if env is None or sizes != observed_sizes(env.spec):
            opened.close()  # the one of a policy that wants other cameras
            env = opened.enter_context(closing(make_env(env_name, sizes, config.control)))
        check_fit(policy.spec, env.spec, adapters, training)
        if checkpoint is None:
            # Of a lerobot checkpoint the doctor compares what its files and its statistics say.
            check_conventions(policy.spec, env.spec, adapters)
        if adapters != Adapters() or len(sizes) < len(policy.spec.image_sizes):
            policy = AdaptedPolicy(policy, adapters, env.spec)
        check_episodes(config, env.spec)
        n_action_steps = resolve_n_action_steps(policy.spec, config.n_action_steps)
        horizon = config.horizon or env.spec.max_steps
        collector = None
        if isinstance(config, EvalConfig) and config.collect_features:
            collector = make_feature_recorder(config, policy, env)
        opened.pop_all()
    return Setup(
        env, policy, checkpoint, n_action_steps, horizon, tasks, collector, training, renamed
    )


def _load(
    config: SubjectConfig, env_name: str, adapters: Adapters, opened: ExitStack
) -> tuple[Policy, Env | None, tuple[Checkpoint, TrainingRecord] | None]:
    """Return the policy, the environment that it was made with, and the files that it was made from; each if any.

    Args:
        opened: closes the environment.
    """
    assert config.policy is not None
    made_from = find_loader(config.policy).made_from
    if made_from == "files":
        files = _open_files(config, env_name, adapters)
        policy = load_policy(config.policy, checkpoint=files[0], device=config.device)
        check_image_size(policy.spec, adapters, files[1])
        return policy, None, files
    if made_from == "env":
        _refuse_checkpoint_flags(config, adapters)
    env = make_env(env_name, {} if made_from == "env" else None, config.control)
    opened.enter_context(closing(env))
    return load_policy(config.policy, env, config.checkpoint, config.device), env, None


def _open_files(
    config: SubjectConfig, env_name: str, adapters: Adapters
) -> tuple[Checkpoint, TrainingRecord]:
    """Open a checkpoint, and refuse what is quick to refuse before the seconds that importing lerobot takes."""
    checkpoint = open_checkpoint(
        config.policy, config.checkpoint, trust_remote_code=config.trust_remote_code, env=env_name
    )
    training = load_training_record(checkpoint.folder)
    check_gl_library()
    check_device(config.device)
    settings = read_config(checkpoint.source)
    if isinstance(config, EvalConfig):
        check_records(
            read_plan_kinds(settings, checkpoint.name), config.samples, config.intermediate_plans
        )
    _check_declared(
        config, read_declared_policy(settings, checkpoint.name), env_name, adapters, training
    )
    return checkpoint, training


def follow_task(config: SubjectConfig, setup: Setup, env: Env) -> Policy:
    """Return the policy of a setup as it acts in the environment of another of its tasks."""
    if not setup.policy.spec.follows_env:
        return setup.policy
    assert config.policy is not None
    policy = load_policy(config.policy, env, config.checkpoint, config.device)
    if not isinstance(setup.policy, AdaptedPolicy):
        return policy
    return AdaptedPolicy(policy, make_adapters(with_renamed_cameras(config, setup)), env.spec)


def observed_sizes(env: EnvSpec) -> dict[str, tuple[int, int]]:
    """Return the cameras that an environment shows → (height_px, width_px)."""
    return {camera.name: (camera.height_px, camera.width_px) for camera in env.cameras}


def _check_declared(
    config: SubjectConfig,
    policy: DeclaredPolicy,
    env_name: str,
    adapters: Adapters,
    training: TrainingRecord,
) -> None:
    """Refuse what config.json tells already, with the words that the loaded policy would be refused with."""
    if config.n_action_steps is not None:
        check_asked_action_steps(policy, config.n_action_steps)
    if policy.image_sizes:
        check_image_size(policy, adapters, training)
        _fit_cameras(policy, env_name, camera_names(env_name), adapters, training)


def _fit_cameras(
    policy: PolicySpec | DeclaredPolicy,
    env_name: str,
    env_cameras: Sequence[str],
    adapters: Adapters,
    training: TrainingRecord | None,
) -> tuple[dict[str, str], Adapters, dict[str, tuple[int, int]]]:
    """Return the cameras that were renamed in training, the adapters with them, and the cameras to observe."""
    renamed = adopt_renamed_cameras(adapters, training or TrainingRecord(), policy, env_cameras)
    adapters = dataclasses.replace(adapters, camera_map={**adapters.camera_map, **renamed})
    return renamed, adapters, select_cameras(policy, adapters, env_name, env_cameras, training)


def make_adapters(config: SubjectConfig) -> Adapters:
    """The flags of the same names, with what the command line and `run.json` write otherwise."""
    given = {field.name: getattr(config, field.name) for field in fields(Adapters)}
    # Read back from JSON, a pair is a list.
    parsed: dict[str, Any] = {
        "camera_map": parse_camera_map(config.camera_map),
        "image_size": parse_image_size(config.image_size),
        "gripper_range": config.gripper_range and tuple(config.gripper_range),
    }
    return Adapters(**given | parsed)


def with_renamed_cameras[Config: SubjectConfig](config: Config, setup: Setup) -> Config:
    """Return the config with all pairs of cameras in its map: the user's, and those of the checkpoint's rename map."""
    if not setup.renamed_cameras:
        return config
    pairs = {**parse_camera_map(config.camera_map), **setup.renamed_cameras}
    return dataclasses.replace(config, camera_map=format_camera_map(pairs))


def with_absolute_paths[Config: SubjectConfig](config: Config) -> Config:
    """Return the config with whole paths: what is kept of a run must name the same files from another folder."""
    env, at, scene = config.env.partition("@")
    checkpoint = config.checkpoint
    is_own = config.policy is not None and find_loader(config.policy).made_from == "spec"
    if checkpoint and is_own and Path(checkpoint).exists():
        checkpoint = str(Path(checkpoint).resolve())
    elif checkpoint and not is_own and Path(checkpoint).is_dir():
        checkpoint = str(find_checkpoint(checkpoint).resolve())
    scene = str(Path(scene).resolve()) if scene else ""
    return dataclasses.replace(config, env=env + at + scene, checkpoint=checkpoint)


def _find_tasks(config: SubjectConfig) -> dict[str, str]:
    """Task → the name of its environment. Nothing is built for it."""
    names = expand_env(config.env)
    check_control(names[0], config.control)
    tasks = {task_of(name): name for name in names}
    if len(tasks) < len(names):
        expected, got = (
            "a task of its own for every environment",
            f"{len(tasks)} tasks for {len(names)}",
        )
        raise WhiskerError(f"suite {config.env!r}", expected=expected, got=got)
    return tasks


def _refuse_checkpoint_flags(config: SubjectConfig, adapters: Adapters) -> None:
    """A baseline has nothing to load or to adapt."""
    given = [repr(config.checkpoint)] if config.checkpoint is not None else []
    given += ["an adapter"] if adapters != Adapters() else []
    if given:
        raise WhiskerError(
            f"policy {config.policy!r}",
            expected="no --checkpoint and no adapter",
            got=" and ".join(given),
        )


def _check_counts(config: SubjectConfig) -> None:
    least: dict[str, tuple[int | None, int]] = {
        "--episodes": (getattr(config, "episodes", None), 1),
        "--first-episode": (getattr(config, "first_episode", None), 0),
        "--horizon": (config.horizon, 1),
        "--samples": (getattr(config, "samples", None), 1),
    }
    for flag, (value, minimum) in least.items():
        if value is not None and value < minimum:
            raise WhiskerError(flag, expected=f"at least {minimum}", got=str(value))


def _check_records(config: SubjectConfig, policy: Policy) -> None:
    if isinstance(config, EvalConfig):
        check_records(policy.spec, config.samples, config.intermediate_plans)
        check_collection(config, policy.spec)


def check_episodes(config: SubjectConfig, env: EnvSpec) -> None:
    """Raise if more episodes are asked for than the environment has."""
    if not isinstance(config, EvalConfig) or env.n_episodes is None:
        return
    last = config.first_episode + config.episodes - 1
    if last >= env.n_episodes:
        raise WhiskerError(
            f"episodes {config.first_episode} to {last} of {env.name!r}",
            expected=f"indices below {env.n_episodes}",
            got=str(last),
            hint=f"It has {env.n_episodes} initial states: give fewer --episodes or a lower --first-episode.",
        )
