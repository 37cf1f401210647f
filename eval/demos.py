"""Record the scripted expert's successes as demonstrations."""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from eval.config import FIRST_DEMO_EPISODE, DemoConfig
from eval.demo_simulation import (
    DemoSimulation,
    VariesDemonstrations,
    simulate_demonstration,
)
from sim.capabilities import HasExpert, require
from sim.env import Env
from sim.errors import WhiskerError
from sim.families import DemoRequest
from sim.jobs import run_jobs
from sim.registry import expand_env, family_of, make_env, name_in_family
from sim.spec import EnvSpec
from sim.worker_count import SIMULATOR_GB, check_n_workers, choose_n_workers

if TYPE_CHECKING:
    from policies.lerobot_dataset import DemonstrationWriter

# Modules that workers need, and that take long to import.
_MODULES = ("eval.demo_simulation", "sim.model_env")
# A worker is started for so many demonstrations. Fewer take less time than its start.
_DEMONSTRATIONS_A_WORKER = 4
# Copies of an episode's images in memory: where they are rendered, on their way, and those that
# wait for the writer.
_N_COPIES = 5


def check_demo_counts(config: DemoConfig) -> None:
    """Raise unless there is something to record."""
    if config.episodes < 1 or config.first_episode < 0:
        raise WhiskerError(
            "demonstrations",
            expected="at least one episode, from index 0 on",
            got=f"--episodes {config.episodes} --first-episode {config.first_episode}",
        )
    check_n_workers(config.workers)


def resolve_output(config: DemoConfig) -> Path:
    """Return `--output`, with the ending of the family's files if it has another one."""
    suffixes = family_of(config.env).demo_suffixes
    if suffixes and config.output.suffix not in suffixes:
        return config.output.with_name(f"{config.output.name}{suffixes[0]}")
    return config.output


def record(config: DemoConfig, on_episode: Callable[[int, bool], None]) -> int:
    """Make the environment, record in it, and return how many episodes were kept.

    The format is the one that the environment's users have.

    Args:
        on_episode: told the number kept so far and whether this one succeeded.

    Raises:
        WhiskerError: nothing to record, or the expert cannot do this task.
    """
    (env_name, *others) = expand_env(config.env)
    if others:
        raise WhiskerError(
            "--env of demonstrations",
            expected="a single task",
            got=f"{config.env!r}",
        )
    family = family_of(env_name)
    if family.demo_suffixes:
        first = None if config.first_episode == FIRST_DEMO_EPISODE else config.first_episode
        request = DemoRequest(
            name_in_family(env_name),
            config.output,
            config.episodes,
            first,
            on_episode,
            _count_workers(config, family.memory_gb(renders=True) + SIMULATOR_GB),
        )
        return family.record_demonstrations(request)
    from policies.lerobot_dataset import DemonstrationWriter

    with closing(make_env(config.env)) as env:
        writer = DemonstrationWriter(
            config.output,
            env.spec,
            config.videos,
            has_goal_position=isinstance(env, VariesDemonstrations),
        )
        each_gb = family.memory_gb(renders=True) + SIMULATOR_GB
        each_gb += _N_COPIES * _compute_images_gb(env.spec)
        n_workers = _count_workers(config, each_gb)
        record_demonstrations(config, env, writer, on_episode, n_workers)
    return config.episodes


def _count_workers(config: DemoConfig, each_gb: float) -> int:
    return choose_n_workers(config.workers, config.episodes, each_gb, _DEMONSTRATIONS_A_WORKER)


def _compute_images_gb(spec: EnvSpec) -> float:
    """Return the size of the images of one episode, 10⁹ bytes."""
    n_bytes = sum(3 * camera.height_px * camera.width_px for camera in spec.cameras)
    return spec.max_steps * n_bytes / 1e9


def record_demonstrations(
    config: DemoConfig,
    env: Env,
    writer: "DemonstrationWriter",
    on_episode: Callable[[int, bool], None],
    n_workers: int = 1,
) -> None:
    """Roll the expert out until `config.episodes` successes are kept; failures are discarded.

    Args:
        env: what one worker, this process, records in. Several make environments of their own.
        on_episode: told the number kept so far and whether this one succeeded.
    """
    require(env, HasExpert, "demonstrations")
    if n_workers == 1:
        episodes = _record_here(config, env, writer)
    else:
        episodes = _record_in_workers(config, writer, n_workers)
    n_kept = 0
    with closing(episodes):
        for n_tried, success in enumerate(episodes, start=1):
            finish_episode = writer.keep_episode if success else writer.discard_episode
            finish_episode()
            n_kept += success
            on_episode(n_kept, success)
            if n_kept == config.episodes:
                break
            if n_tried >= 2 * n_kept + 20:
                raise WhiskerError(
                    f"expert in {env.spec.name!r}",
                    expected="a success in every other episode",
                    got=f"{n_kept} in {n_tried}",
                )
    writer.finalize()


def _record_here(config: DemoConfig, env: Env, writer: "DemonstrationWriter") -> Generator[bool]:
    """Yield whether each episode succeeded, once its frames are with the writer."""
    for episode_index in count(config.first_episode):
        yield simulate_demonstration(config, env, episode_index, writer.add_frame)


def _record_in_workers(
    config: DemoConfig, writer: "DemonstrationWriter", n_workers: int
) -> Generator[bool]:
    """Yield the same as `_record_here`. Frames of an episode that failed do not get here."""
    indices = count(config.first_episode)
    make_work = partial(DemoSimulation, config)
    with closing(run_jobs(make_work, indices, n_workers, _MODULES)) as episodes:
        for _, frames in episodes:
            for frame in frames or ():
                writer.add_frame(*frame)
            yield frames is not None
