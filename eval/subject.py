"""Resolves the flags that name a policy and an environment: names, paths, tasks and adapters.

Each function returns a config, or a part of one, in which one more thing is definite. None of them
builds an environment or loads a network.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from eval.config import AUTO_ENV, DEFAULT_ENV, AdapterConfig, EvalConfig, SubjectConfig
from policies.adapters import Adapters, format_camera_map, parse_camera_map, parse_image_size
from policies.checkpoint_files import load_training_env
from policies.checkpoint_lookup import find_checkpoint
from policies.lerobot_types import LEROBOT_TYPES
from policies.loading import find_loader, find_policy_name
from policies.registry import CHECKPOINT_FOLDER, shipped_checkpoints
from sim.errors import WhiskerError
from sim.flags import replace_flags
from sim.init_grid import count_cells, name_grid_task
from sim.registry import check_control, env_of_demonstrations, expand_env, task_of


def name_policy[Config: SubjectConfig](config: Config) -> Config:
    """Return the config with the names of policy and environment filled in.

    `auto` becomes the environment that a shipped checkpoint was trained in, or the default.

    Raises:
        WhiskerError: there is no such policy or checkpoint.
    """
    policy = find_policy_name(config.policy)
    env = config.env.name
    if env == AUTO_ENV:
        env = _find_training_env(config.policy.checkpoint, policy)
    return replace_flags(config, policy=policy, env=env)


def _find_training_env(checkpoint: str | None, policy: str) -> str:
    """Return the environment that a shipped checkpoint was trained in, else the default one."""
    row = LEROBOT_TYPES.get(policy)
    name = row and (checkpoint or row.shipped)
    if name is None or name not in shipped_checkpoints() or Path(name).is_dir():
        return DEFAULT_ENV
    trained_in = load_training_env(CHECKPOINT_FOLDER / name)
    return DEFAULT_ENV if trained_in is None else trained_in["name"]


def with_demo_initial_states(config: EvalConfig) -> EvalConfig:
    """Return the config with the environment whose episodes begin as the demonstrations did.

    Raises:
        WhiskerError: there are demonstrations without a replay or the reverse, or they are of
            another environment than the one asked for.
    """
    name = config.policy.name
    if (name == "replay") != (config.demos is not None):
        got = "with --demos" if config.demos else "alone"
        raise WhiskerError(
            "a replay",
            expected="--policy replay together with --demos <file>",
            got=f"--policy {name or 'act'} {got}",
        )
    if config.demos is None:
        return config
    env = env_of_demonstrations(Path(config.demos))
    demonstrated = env.partition("@")[0]
    asked = config.env.name
    if asked != AUTO_ENV and expand_env(asked) != (demonstrated,):
        raise WhiskerError(f"--env {asked}", expected=f"{demonstrated}, which {config.demos} is of")
    return replace_flags(config, env=env, demos=str(Path(config.demos).resolve()))


def with_all_cells(config: EvalConfig) -> EvalConfig:
    """Return the config with an episode for each cell of its grid, unless it has a number already.

    Raises:
        WhiskerError: the grid cannot be read.
    """
    grid = config.env.init_grid
    if grid is None or config.episodes != EvalConfig.episodes:
        return config
    return replace_flags(config, episodes=count_cells(grid))


def with_absolute_paths[Config: SubjectConfig](config: Config) -> Config:
    """Return the config with absolute paths, which name the same files from any folder."""
    wire = config.policy.wire
    if wire is not None and wire.endswith(".toml"):
        wire = str(Path(wire).resolve())
    env, at, scene = config.env.name.partition("@")
    if scene:
        scene = str(Path(scene).resolve())
    checkpoint = _with_absolute_path(config.policy.name, config.policy.checkpoint)
    return replace_flags(config, env=env + at + scene, checkpoint=checkpoint, wire=wire)


def _with_absolute_path(policy: str | None, checkpoint: str | None) -> str | None:
    """Return a checkpoint's name with its absolute path, if it is a path at all."""
    if checkpoint is None:
        return None
    is_own = policy is not None and find_loader(policy).made_from in ("spec", "native")
    if is_own:
        return str(Path(checkpoint).resolve()) if Path(checkpoint).exists() else checkpoint
    return str(find_checkpoint(checkpoint).resolve()) if Path(checkpoint).is_dir() else checkpoint


def find_tasks(config: SubjectConfig) -> dict[str, str]:
    """Return each task → the name of its environment.

    Raises:
        WhiskerError: two environments have the same task, or there is no choice of `--control`.
    """
    names = expand_env(config.env.name)
    check_control(names[0], config.env.control)
    tasks = {}
    for name in names:
        task = task_of(name)
        grid = config.env.init_grid
        tasks[task if grid is None else name_grid_task(task, grid)] = name
    if len(tasks) < len(names):
        raise WhiskerError(
            f"suite {config.env.name!r}",
            expected="a task of its own for every environment",
            got=f"{len(tasks)} tasks for {len(names)}",
        )
    return tasks


def make_adapters(config: AdapterConfig) -> Adapters:
    """Return the adapters that the flags name.

    Raises:
        WhiskerError: a map of cameras or a size of images that cannot be read.
    """
    given = {field.name: getattr(config, field.name) for field in fields(Adapters)}
    parsed: dict[str, Any] = {
        "camera_map": parse_camera_map(config.camera_map),
        "image_size": parse_image_size(config.image_size),
    }
    return Adapters(**given | parsed)


def add_to_camera_map[Config: SubjectConfig](config: Config, pairs: dict[str, str]) -> Config:
    """Return the config with more pairs of cameras (environment → policy) in its camera map."""
    if not pairs:
        return config
    known = parse_camera_map(config.adapters.camera_map)
    return replace_flags(config, camera_map=format_camera_map(known | pairs))
