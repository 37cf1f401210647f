"""Record the scripted expert's successes as demonstrations."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from eval.config import FIRST_DEMO_EPISODE, DemoConfig
from sim.env import Env, episode_rng
from sim.errors import WhiskerError
from sim.registry import expand_env, is_in_own_process, make_env
from sim.so101.expert import PickPlaceExpert
from sim.so101.pick_place import PickPlace

if TYPE_CHECKING:
    from policies.lerobot_dataset import DemonstrationWriter

# Distinguishes the recorder's random numbers from those of the environment's own reset.
_PERTURBATION_STREAM = 1
_HDF5_SUFFIXES = (".hdf5", ".h5")


class TargetNoise:
    """Ornstein-Uhlenbeck noise on the body joints, faded out while the expert is precise.

    x' = x - x dt/τ + σ sqrt(2 dt/τ) ε, whose standard deviation is σ.
    """

    def __init__(self, sigma_rad: float, dt_s: float, rng: np.random.Generator, tau_s: float = 0.4) -> None:
        self._decay, self._kick = dt_s / tau_s, sigma_rad * np.sqrt(2 * dt_s / tau_s)
        self._fade = dt_s / 0.15
        self._rng = rng
        self._noise, self._gain = np.zeros(6), 0.0

    def sample(self, *, quiet: bool) -> Float[np.ndarray, "6"]:
        """Offset of the next target, rad; the gripper's is always 0."""
        self._gain += self._fade * ((0.0 if quiet else 1.0) - self._gain)
        self._noise[:5] += -self._decay * self._noise[:5] + self._kick * self._rng.standard_normal(5)
        return self._gain * self._noise


def check_demo_counts(config: DemoConfig) -> None:
    """Raise unless there is something to record."""
    if config.episodes < 1 or config.first_episode < 0:
        got = f"--episodes {config.episodes} --first-episode {config.first_episode}"
        raise WhiskerError("demonstrations", expected="at least one episode, from index 0 on", got=got)


def resolve_output(config: DemoConfig) -> Path:
    """Return where the demonstrations go: `--output`, with the ending of LIBERO's files where it has another."""
    needs_ending = is_in_own_process(config.env) and config.output.suffix not in _HDF5_SUFFIXES
    return config.output.with_name(f"{config.output.name}.hdf5") if needs_ending else config.output


def record(config: DemoConfig, on_episode: Callable[[int, bool], None]) -> int:
    """Make the environment and record in it, each in the format that its users have; returns how many were kept.

    Args:
        on_episode: told the number kept so far and whether this one succeeded.

    Raises:
        WhiskerError: nothing to record, or the expert cannot do this task.
    """
    if is_in_own_process(config.env):
        return _record_libero(config, on_episode)
    from policies.lerobot_dataset import DemonstrationWriter

    with closing(make_env(config.env)) as env:
        writer = DemonstrationWriter(config.output, env.spec, config.videos)
        record_demonstrations(config, env, writer, on_episode)
    return config.episodes


def _record_libero(config: DemoConfig, on_episode: Callable[[int, bool], None]) -> int:
    from sim.libero_bench import recording
    from sim.libero_bench.demonstrations import PUBLISHED_IMAGE_SIZE_PX
    from sim.libero_bench.tasks import find_task, load_init_states

    (env_name, *others) = expand_env(config.env)
    if others:
        raise WhiskerError("--env of demonstrations", expected="a single task", got=f"{config.env!r}")
    task = find_task(env_name)
    n_states = len(load_init_states(task))
    # There are no init states far from evaluation's.
    first = 0 if config.first_episode == FIRST_DEMO_EPISODE else config.first_episode
    indices = range(first, n_states)
    size = PUBLISHED_IMAGE_SIZE_PX
    return recording.record_demonstrations(
        config.output, task, config.episodes, indices, image_size_px=size, on_episode=on_episode
    )


def record_demonstrations(
    config: DemoConfig, env: Env, writer: "DemonstrationWriter", on_episode: Callable[[int, bool], None]
) -> None:
    """Roll the expert out until `config.episodes` successes are kept; failures are discarded.

    Args:
        on_episode: told the number kept so far and whether this one succeeded.
    """
    if not isinstance(env, PickPlace):
        raise WhiskerError(f"demonstrations in {env.spec.name!r}", expected="an environment with a scripted expert")
    n_kept, index = 0, config.first_episode
    while n_kept < config.episodes:
        if index - config.first_episode >= 2 * n_kept + 20:
            raise WhiskerError(
                f"expert in {env.spec.name!r}", expected="a success in every other episode", got=f"{n_kept} in {index}"
            )
        success = _record_episode(config, env, writer, index)
        if success:
            writer.keep_episode()
        else:
            writer.discard_episode()
        n_kept, index = n_kept + success, index + 1
        on_episode(n_kept, success)
    writer.finalize()


def _record_episode(config: DemoConfig, env: PickPlace, writer: "DemonstrationWriter", episode_index: int) -> bool:
    rng = episode_rng(env.spec.task, episode_index, _PERTURBATION_STREAM)
    env.reset(episode_index)
    expert = PickPlaceExpert(env)
    if rng.random() < config.near_object:
        env.place_arm(expert.pose_above_block(rng.uniform([-0.05, -0.05, 0.02], [0.05, 0.05, 0.10])))
    sigma_rad = np.deg2rad(config.noise_deg) if rng.random() < config.noisy else 0.0
    noise = TargetNoise(sigma_rad, env.spec.control_dt_s, rng)
    for _ in range(env.spec.max_steps):
        observation, position = env.observe(), env.progress()[0].object_pos_world
        action = expert.action()
        writer.add_frame(observation, action, position, env.goal_pos_world())
        executed_rad = env.joint_target_rad(action) + noise.sample(quiet=expert.is_precise)
        if env.step(env.action_for(executed_rad)).success:
            return True
    return False
