"""Makes policy and environment from a config, and refuses what cannot run."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

from eval.cameras import adopt_renamed_cameras, select_cameras
from eval.config import EvalConfig, RecordingConfig, RolloutConfig, SubjectConfig
from eval.conventions import check_conventions
from eval.feature_recording import FeatureRecorder, check_collection, make_feature_recorder
from eval.preflight import (
    check_asked_action_steps,
    check_batch,
    check_fit,
    check_image_size,
    check_records,
    resolve_n_action_steps,
)
from eval.subject import add_to_camera_map, find_tasks, make_adapters, name_policy
from policies.adapters import AdaptedPolicy, Adapters
from policies.checkpoint_files import Checkpoint, open_checkpoint, read_config
from policies.config import PolicyConfig
from policies.declared_policy import DeclaredPolicy, read_declared_policy
from policies.device import check_device
from policies.loading import find_loader, load_policy
from policies.native.native_checkpoint import NativeCheckpoint, open_native_checkpoint
from policies.plan_kinds import read_plan_kinds
from policies.policy import (
    BatchablePolicy,
    HookablePolicy,
    IntermediatePlanPolicy,
    Policy,
    PolicySpec,
)
from policies.training_record import TrainingRecord, load_training_record
from policies.xvla_conventions import adopt_poses, plans_poses, refuse_served_poses
from sim.env import Env
from sim.errors import WhiskerError
from sim.gl import check_gl_library
from sim.registry import camera_names, family_of, make_env
from sim.spec import EnvSpec, SuccessRule


@dataclass(frozen=True)
class Setup:
    """Holds a policy and an environment that fit each other, and how they are run.

    Attributes:
        env: of the first task.
        policy: as it speaks to `env`.
        checkpoint: of lerobot's, whose files can be looked at; None: the policy has no such files.
        n_action_steps: actions of a chunk that are executed before the next prediction.
        max_steps: control steps after which an episode in `env` is over.
        success: whether its first success ends it, or its last step decides.
        tasks: task → the name of its environment, in the order in which they run.
        feature_recorder: the policy with hooks in it; None unless features are collected.
        training: what the checkpoint says of its training; None: there is no checkpoint of
            lerobot's.
        renamed_cameras: the environment's camera → the policy's, as the checkpoint's own rename map
            pairs them where the user did not.
    """

    env: Env
    policy: Policy
    checkpoint: Checkpoint | None
    n_action_steps: int
    max_steps: int
    tasks: Mapping[str, str]
    success: SuccessRule = "once"
    feature_recorder: FeatureRecorder | None = None
    training: TrainingRecord | None = None
    renamed_cameras: Mapping[str, str] = field(default_factory=dict)


def set_up(config: SubjectConfig) -> Setup:
    """Make policy and environment, of a suite that of its first task, and refuse what cannot run.

    The environment renders exactly the cameras that the policy looks through, at the size it asks
    for.

    Raises:
        WhiskerError: anything that cannot run or does not fit.
    """
    config = name_policy(config)
    _check_counts(config)
    # `whisker-serve` says itself what it serves.
    is_known = config.policy.server is None or config.policy.wire is not None
    if isinstance(config, EvalConfig) and is_known:
        assert config.policy.name is not None
        check_batch(config.policy.name, config.batch)
    tasks = find_tasks(config)
    env_name = next(iter(tasks.values()))
    adapters = make_adapters(config.adapters)
    with ExitStack() as opened:
        policy, env, files = _load(config, env_name, adapters, opened)
        checkpoint, training = files or (None, None)
        if checkpoint is None:
            refuse_served_poses(policy.spec, env_name)
        _prepare_recording(config, policy)
        if isinstance(config, EvalConfig) and config.batch > 1:
            check_batch(policy.spec.type, config.batch)
            assert isinstance(policy, BatchablePolicy)
            policy.pad_instructions()
        env_cameras = camera_names(env_name) if env is None else env.spec.camera_names
        renamed, adapters, sizes = _fit_cameras(
            policy.spec, env_name, env_cameras, adapters, training
        )
        if checkpoint is not None and plans_poses(checkpoint, env_name, config.env.control):
            assert isinstance(policy, HookablePolicy)
            policy = adopt_poses(policy, adapters)
        if env is None or sizes != observed_sizes(env.spec):
            opened.close()  # the environment of a policy that wants other cameras
            env = opened.enter_context(
                closing(make_env(env_name, sizes, config.env.control, config.env.init_grid))
            )
        check_fit(policy.spec, env.spec, adapters, training)
        if checkpoint is None:
            # Of a lerobot checkpoint the doctor compares what its files and its statistics say.
            check_conventions(policy.spec, env.spec, adapters)
        if adapters != Adapters() or len(sizes) < len(policy.spec.image_sizes):
            policy = AdaptedPolicy(policy, adapters, env.spec)
        check_episodes(config, env.spec)
        setup = Setup(
            env=env,
            policy=policy,
            checkpoint=checkpoint,
            n_action_steps=resolve_n_action_steps(policy.spec, config.rollout.n_action_steps),
            max_steps=resolve_max_steps(config.rollout, env.spec),
            tasks=tasks,
            success=resolve_success(config.rollout, env.spec),
            training=training,
            renamed_cameras=renamed,
        )
        if isinstance(config, EvalConfig) and config.recording.collect_features:
            setup = replace(setup, feature_recorder=make_feature_recorder(config, policy, env))
        opened.pop_all()
    return setup


def reuse_setup(setup: Setup, config: SubjectConfig) -> Setup:
    """Return the setup of a config that differs only in how an episode is run.

    Raises:
        WhiskerError: the policy cannot be run like that.
    """
    _check_counts(config)
    return replace(
        setup,
        n_action_steps=resolve_n_action_steps(setup.policy.spec, config.rollout.n_action_steps),
        max_steps=resolve_max_steps(config.rollout, setup.env.spec),
        success=resolve_success(config.rollout, setup.env.spec),
    )


def resolve_max_steps(config: RolloutConfig, env: EnvSpec) -> int:
    """Return the control steps after which an episode is over."""
    return config.max_steps or env.max_steps


def resolve_success(config: RolloutConfig, env: EnvSpec) -> SuccessRule:
    """Return whether an episode ends with its first success, or its last step decides."""
    return config.success or family_of(env.name).success


def follow_task(config: SubjectConfig, setup: Setup, env: Env) -> Policy:
    """Return the policy of a setup as it acts in the environment of another of its tasks."""
    if not setup.policy.spec.follows_env:
        return setup.policy
    policy = _load_into(config.policy, env)
    if not isinstance(setup.policy, AdaptedPolicy):
        return policy
    config = add_to_camera_map(config, dict(setup.renamed_cameras))
    return AdaptedPolicy(policy, make_adapters(config.adapters), env.spec)


def observed_sizes(env: EnvSpec) -> dict[str, tuple[int, int]]:
    """Return the cameras that an environment shows → (height_px, width_px)."""
    return {camera.name: (camera.height_px, camera.width_px) for camera in env.cameras}


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
            hint=f"It has {env.n_episodes} initial states: give fewer --episodes or a lower "
            "--first-episode.",
        )


def _load(
    config: SubjectConfig, env_name: str, adapters: Adapters, opened: ExitStack
) -> tuple[Policy, Env | None, tuple[Checkpoint, TrainingRecord] | None]:
    """Return the policy with the environment or the files that it was made from; None: it was not.

    Args:
        opened: closes the environment.
    """
    named = config.policy
    assert named.name is not None
    made_from = find_loader(named.name).made_from
    if made_from == "files":
        checkpoint, training = _open_files(config, env_name, adapters)
        policy = load_policy(named.name, checkpoint=checkpoint, device=named.device)
        check_image_size(policy.spec, adapters, training)
        return policy, None, (checkpoint, training)
    native = None
    if made_from == "native":
        native = open_native_checkpoint(named)
        check_gl_library()
        check_device(named.device)
    if made_from == "env":
        _refuse_checkpoint_flags(named, adapters)
    cameras: dict | None = {} if made_from == "env" else None
    env = make_env(env_name, cameras, config.env.control, config.env.init_grid)
    opened.enter_context(closing(env))
    return _load_into(named, env, native), env, None


def _load_into(named: PolicyConfig, env: Env, checkpoint: NativeCheckpoint | None = None) -> Policy:
    """Return a policy that is made from an environment."""
    assert named.name is not None
    return load_policy(
        named.name,
        env,
        checkpoint or named.checkpoint,
        named.device,
        named.server,
        named.wire,
    )


def _open_files(
    config: SubjectConfig, env_name: str, adapters: Adapters
) -> tuple[Checkpoint, TrainingRecord]:
    """Open a checkpoint, and refuse what can be refused before lerobot is imported."""
    named = config.policy
    checkpoint = open_checkpoint(
        named.name, named.checkpoint, trust_remote_code=named.trust_remote_code, env=env_name
    )
    training = load_training_record(checkpoint.folder)
    plans_poses(checkpoint, env_name, config.env.control)
    check_gl_library()
    check_device(named.device)
    settings = read_config(checkpoint.source)
    if isinstance(config, EvalConfig):
        recording = config.recording
        plan_kinds = read_plan_kinds(settings, checkpoint.name)
        check_records(plan_kinds, recording.samples, recording.intermediate_plans)
    declared = read_declared_policy(settings, checkpoint.name)
    _check_declared(config.rollout, declared, env_name, adapters, training)
    return checkpoint, training


def _check_declared(
    rollout: RolloutConfig,
    policy: DeclaredPolicy,
    env_name: str,
    adapters: Adapters,
    training: TrainingRecord,
) -> None:
    """Refuse what config.json already shows, with the errors that the loaded policy would give."""
    if rollout.n_action_steps is not None:
        check_asked_action_steps(policy, rollout.n_action_steps)
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
    """Return the cameras renamed in training, the adapters with them, and the cameras to see."""
    renamed = adopt_renamed_cameras(adapters, training or TrainingRecord(), policy, env_cameras)
    adapters = replace(adapters, camera_map={**adapters.camera_map, **renamed})
    sizes = select_cameras(policy, adapters, env_name, env_cameras, training)
    return renamed, adapters, sizes


def _prepare_recording(config: SubjectConfig, policy: Policy) -> None:
    """Check that the policy can give what is to be recorded, and ask it for intermediate plans."""
    recording = config.recording if isinstance(config, EvalConfig) else RecordingConfig()
    if isinstance(config, EvalConfig):
        check_records(policy.spec, recording.samples, recording.intermediate_plans)
        check_collection(config, policy.spec)
    if isinstance(policy, IntermediatePlanPolicy):
        policy.records_intermediate_plans = recording.intermediate_plans


def _refuse_checkpoint_flags(named: PolicyConfig, adapters: Adapters) -> None:
    """Raise if a baseline, which loads nothing and needs no adapter, is given either."""
    given = []
    if named.checkpoint is not None:
        given.append(repr(named.checkpoint))
    if adapters != Adapters():
        given.append("an adapter")
    if given:
        raise WhiskerError(
            f"policy {named.name!r}",
            expected="no --checkpoint and no adapter",
            got=" and ".join(given),
        )


def _check_counts(config: SubjectConfig) -> None:
    least: list[tuple[str, int | None, int]] = [("--max-steps", config.rollout.max_steps, 1)]
    if isinstance(config, EvalConfig):
        least += [
            ("--episodes", config.episodes, 1),
            ("--first-episode", config.first_episode, 0),
            ("--samples", config.recording.samples, 1),
            ("--workers", config.parallel.count, 1),
            ("--batch", config.batch, 1),
            ("--max-errors", config.max_errors, 1),
        ]
    for flag, value, minimum in least:
        if value is not None and value < minimum:
            raise WhiskerError(flag, expected=f"at least {minimum}", got=str(value))
