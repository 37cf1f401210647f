"""Record the scripted expert's successes as demonstrations."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64

from eval.config import FIRST_DEMO_EPISODE, DemoConfig
from sim.capabilities import HasExpert, require
from sim.env import Env, Expert, episode_rng
from sim.errors import WhiskerError
from sim.families import DemoRequest
from sim.registry import expand_env, family_of, make_env, name_in_family

if TYPE_CHECKING:
    from policies.lerobot_dataset import DemonstrationWriter

# Distinguishes the recorder's random numbers from those of the environment's own reset.
_PERTURBATION_STREAM = 1


class VariedExpert(Expert, Protocol):
    """An expert that knows other places to start from, and where it must not be disturbed."""

    @property
    def is_precise(self) -> bool:
        """Return whether a millimetre matters now."""

    def pose_above_block(self, offset_m: Float[np.ndarray, "3"]) -> Float[np.ndarray, " joint"]:
        """Return joint angles at an offset from the object, rad."""


@runtime_checkable
class VariesDemonstrations(Env, Protocol):
    """An environment whose expert can begin elsewhere and be perturbed on its way.

    A policy that is trained on such demonstrations learns to come back.
    """

    def make_expert(self, failure_mode: str | None = None) -> VariedExpert: ...

    def place_arm(self, q_rad: Float[np.ndarray, " joint"]) -> None:
        """Put the arm at rest at joint angles, right after a reset."""

    def joint_target_rad(
        self,
        action: Float[np.ndarray, " action_dim"],
    ) -> Float64[np.ndarray, " joint"]:
        """Return the joint angles that an action sends to the servos."""

    def action_for(
        self,
        target_rad: Float64[np.ndarray, " joint"],
    ) -> Float64[np.ndarray, " action_dim"]:
        """Return the action that sends these joint angles to the servos."""

    def goal_pos_world(self) -> Float64[np.ndarray, "3"]:
        """Return the middle of the goal, m."""


class TargetNoise:
    """Ornstein-Uhlenbeck noise on the body joints, faded out while the expert is precise.

    x' = x - x dt/τ + σ sqrt(2 dt/τ) ε, whose standard deviation is σ.
    """

    def __init__(
        self,
        sigma_rad: float,
        dt_s: float,
        rng: np.random.Generator,
        tau_s: float = 0.4,
    ) -> None:
        self._decay, self._kick = dt_s / tau_s, sigma_rad * np.sqrt(2 * dt_s / tau_s)
        self._fade = dt_s / 0.15
        self._rng = rng
        self._noise, self._gain = np.zeros(6), 0.0

    def sample(self, *, quiet: bool) -> Float[np.ndarray, "6"]:
        """Offset of the next target, rad; the gripper's is always 0."""
        self._gain += self._fade * ((0.0 if quiet else 1.0) - self._gain)
        kick = self._kick * self._rng.standard_normal(5)
        self._noise[:5] += -self._decay * self._noise[:5] + kick
        return self._gain * self._noise


def check_demo_counts(config: DemoConfig) -> None:
    """Raise unless there is something to record."""
    if config.episodes < 1 or config.first_episode < 0:
        raise WhiskerError(
            "demonstrations",
            expected="at least one episode, from index 0 on",
            got=f"--episodes {config.episodes} --first-episode {config.first_episode}",
        )


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
        record_demonstrations(config, env, writer, on_episode)
    return config.episodes


def record_demonstrations(
    config: DemoConfig,
    env: Env,
    writer: "DemonstrationWriter",
    on_episode: Callable[[int, bool], None],
) -> None:
    """Roll the expert out until `config.episodes` successes are kept; failures are discarded.

    Args:
        on_episode: told the number kept so far and whether this one succeeded.
    """
    require(env, HasExpert, "demonstrations")
    n_kept = 0
    index = config.first_episode
    while n_kept < config.episodes:
        if index - config.first_episode >= 2 * n_kept + 20:
            raise WhiskerError(
                f"expert in {env.spec.name!r}",
                expected="a success in every other episode",
                got=f"{n_kept} in {index}",
            )
        success = _record_episode(config, env, writer, index)
        finish_episode = writer.keep_episode if success else writer.discard_episode
        finish_episode()
        n_kept += success
        index += 1
        on_episode(n_kept, success)
    writer.finalize()


def _record_episode(
    config: DemoConfig,
    env: Env,
    writer: "DemonstrationWriter",
    episode_index: int,
) -> bool:
    env.reset(episode_index)
    if isinstance(env, VariesDemonstrations):
        return _record_varied(config, env, writer, episode_index)
    return _record_as_it_is(require(env, HasExpert, "demonstrations"), writer)


def _record_varied(
    config: DemoConfig,
    env: VariesDemonstrations,
    writer: "DemonstrationWriter",
    episode_index: int,
) -> bool:
    """Record an episode that may begin elsewhere and may be perturbed on its way."""
    rng = episode_rng(env.spec.task, episode_index, _PERTURBATION_STREAM)
    expert = env.make_expert()
    if rng.random() < config.near_object:
        offset_m = rng.uniform([-0.05, -0.05, 0.02], [0.05, 0.05, 0.10])
        env.place_arm(expert.pose_above_block(offset_m))
    sigma_rad = np.deg2rad(config.noise_deg) if rng.random() < config.noisy else 0.0
    noise = TargetNoise(sigma_rad, env.spec.control_dt_s, rng)
    for _ in range(env.spec.max_steps):
        observation = env.observe()
        position = env.progress()[0].object_pos_world
        assert position is not None
        action = expert.action()
        writer.add_frame(observation, action, position, env.goal_pos_world())
        executed_rad = env.joint_target_rad(action) + noise.sample(quiet=expert.is_precise)
        if env.step(env.action_for(executed_rad)).success:
            return True
    return False


def _record_as_it_is(
    env: HasExpert,
    writer: "DemonstrationWriter",
) -> bool:
    """Record an episode of an expert whose path cannot be varied."""
    expert = env.make_expert()
    spec = env.spec
    for _ in range(spec.max_steps):
        observation = env.observe()
        position = env.progress()[0].object_pos_world
        action = np.clip(expert.action(), spec.action.low, spec.action.high).astype(np.float32)
        writer.add_frame(
            observation, action, np.full(3, np.nan) if position is None else position, None
        )
        if env.step(action).success:
            return True
    return False
