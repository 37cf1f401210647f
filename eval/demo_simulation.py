"""Simulates the scripted expert's demonstrations, some from elsewhere and some perturbed."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64

from eval.config import DemoConfig
from sim.capabilities import HasExpert, require
from sim.env import Env, Expert, episode_rng
from sim.observation import Observation
from sim.registry import make_env

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


class DemoFrame(NamedTuple):
    """Holds what `DemonstrationWriter.add_frame` takes."""

    observation: Observation
    action: Float[np.ndarray, " action_dim"]
    object_pos_world: Float[np.ndarray, "3"]
    goal_pos_world: Float[np.ndarray, "3"] | None


class DemoSimulation:
    """`sim.worker_process.Work`: simulates episodes in an environment of its own."""

    def __init__(self, config: DemoConfig) -> None:
        self._config = config
        self._env = make_env(config.env)

    def run(self, episode_index: int) -> list[DemoFrame] | None:
        """Return the frames of an episode; None if it failed."""
        frames: list[DemoFrame] = []

        def add_frame(*frame: Any) -> None:
            frames.append(DemoFrame(*frame))

        success = simulate_demonstration(self._config, self._env, episode_index, add_frame)
        return frames if success else None

    def close(self) -> None:
        self._env.close()


def simulate_demonstration(
    config: DemoConfig,
    env: Env,
    episode_index: int,
    add_frame: Callable[..., None],
) -> bool:
    """Roll the expert out, and return whether it succeeded.

    Args:
        add_frame: called at every step with what a `DemoFrame` has.
    """
    env.reset(episode_index)
    if isinstance(env, VariesDemonstrations):
        return _simulate_varied(config, env, episode_index, add_frame)
    return _simulate_as_it_is(require(env, HasExpert, "demonstrations"), add_frame)


def _simulate_varied(
    config: DemoConfig,
    env: VariesDemonstrations,
    episode_index: int,
    add_frame: Callable[..., None],
) -> bool:
    """Roll out an episode that may begin elsewhere and may be perturbed on its way."""
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
        add_frame(observation, action, position, env.goal_pos_world())
        executed_rad = env.joint_target_rad(action) + noise.sample(quiet=expert.is_precise)
        if env.step(env.action_for(executed_rad)).success:
            return True
    return False


def _simulate_as_it_is(env: HasExpert, add_frame: Callable[..., None]) -> bool:
    """Roll out an episode of an expert whose path cannot be varied."""
    expert = env.make_expert()
    spec = env.spec
    for _ in range(spec.max_steps):
        observation = env.observe()
        position = env.progress()[0].object_pos_world
        action = np.clip(expert.action(), spec.action.low, spec.action.high).astype(np.float32)
        add_frame(observation, action, np.full(3, np.nan) if position is None else position, None)
        if env.step(action).success:
            return True
    return False
