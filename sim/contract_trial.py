"""Puts an environment on trial: what the checks of its contract share, and what it says, to the last bit."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from sim.env import Env, episode_rng

N_STEPS = 8
_ACTION_STREAM = 977


class BrokenError(Exception):
    """The environment breaks its contract; the message says how."""


class UntoldError(Exception):
    """A check cannot tell; the message says why."""


# What an environment says at one moment, by the name of the method that says it, to the bit.
type Moment = Mapping[str, Any]


def bits_of(value: object) -> Any:
    """Return something that is equal only for the same bits: nan equals nan, and 0.0 differs from -0.0."""
    if is_dataclass(value):
        return tuple((field.name, bits_of(getattr(value, field.name))) for field in fields(value))
    if isinstance(value, Mapping):
        return tuple((key, bits_of(each)) for key, each in value.items())
    if isinstance(value, tuple):
        return tuple(map(bits_of, value))
    if isinstance(value, np.ndarray | np.generic | float):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes()
    return value


def look_at(env: Env) -> Moment:
    said = {
        "state": env.state(),
        "progress": env.progress(),
        "ee_pos_world": env.ee_pos_world(),
    }
    return {name: bits_of(value) for name, value in said.items()}


def step_on(
    env: Env,
    actions: Float32[np.ndarray, "step action_dim"],
) -> list[Moment]:
    return [
        {
            "step": bits_of(env.step(action)),
            **look_at(env),
        }
        for action in actions
    ]


def play(
    env: Env,
    episode_index: int,
    actions: Float32[np.ndarray, "step action_dim"],
) -> list[Moment]:
    """Return the moments of the beginning of an episode."""
    env.reset(episode_index)
    return [look_at(env), *step_on(env, actions)]


def random_actions(env: Env, episode_index: int) -> Float32[np.ndarray, "step action_dim"]:
    low, high = finite_bounds(env)
    rng = episode_rng(env.spec.task, episode_index, _ACTION_STREAM)
    return rng.uniform(low, high, (N_STEPS, len(low))).astype(np.float32)


def finite_bounds(
    env: Env,
) -> tuple[Float64[np.ndarray, " action_dim"], Float64[np.ndarray, " action_dim"]]:
    """Return the actuators' range; where it has no bound, 1 from the other one or from 0."""
    low = np.array(env.spec.action.low, np.float64)
    high = np.array(env.spec.action.high, np.float64)
    low = np.where(
        np.isfinite(low),
        low,
        np.where(np.isfinite(high), high, 0.0) - 1.0,
    )
    return low, np.where(np.isfinite(high), high, low + 2.0)


def expect_same(
    expected: Sequence[Moment],
    got: Sequence[Moment],
    when: str,
) -> None:
    for n_steps, (there, here) in enumerate(zip(expected, got, strict=True)):
        differing = [name for name in there if there[name] != here[name]]
        if differing:
            raise BrokenError(f"{when}, {' and '.join(differing)} differ after {n_steps} steps")


class Trial:
    """An environment on trial.

    Attributes:
        index: of the episode.
        other: of another episode; the same one where there is no other.
        alone: the moments of that episode in a new environment, of which nothing else was asked; or
            what it raised.
    """

    def __init__(
        self,
        env: Env,
        episode_index: int,
        alone: list[Moment] | Exception,
    ) -> None:
        self.env = env
        self.index = episode_index
        n_episodes = env.spec.n_episodes
        is_last = n_episodes is not None and episode_index + 1 >= n_episodes
        self.other = max(0, episode_index - 1) if is_last else episode_index + 1
        self.actions = random_actions(env, episode_index)
        self._alone = alone

    @property
    def alone(self) -> list[Moment]:
        if isinstance(self._alone, Exception):
            raise self._alone
        return self._alone

    def begin_other(self) -> None:
        """Be in the middle of another episode."""
        self.env.reset(self.other)
        for action in self.actions[::-1][:3]:
            self.env.step(action)
