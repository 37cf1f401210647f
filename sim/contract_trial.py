"""Shared parts of the contract checks: exact comparison and a short trial episode."""

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


class InconclusiveError(Exception):
    """A check cannot tell whether the contract holds; the message says why."""


# Methods that are read between two steps.
READ = ("state", "progress", "ee_pos_world")
# Method name → exact bits of its return value, between two steps.
Readings = dict[str, Any]
Bounds = Float64[np.ndarray, " action_dim"]
Actions = Float32[np.ndarray, "step action_dim"]


def bits_of(value: object) -> Any:
    """Return an object that compares equal only for identical bits.

    nan equals nan, and 0.0 differs from -0.0.
    """
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


def read(env: Env) -> Readings:
    """Return the readings of an environment between two steps."""
    return {name: bits_of(getattr(env, name)()) for name in READ}


def step_through(env: Env, actions: Actions) -> list[Readings]:
    """Execute actions, and return the readings after each of them."""
    return [{"step": bits_of(env.step(action)), **read(env)} for action in actions]


def play(
    env: Env,
    episode_index: int,
    actions: Actions,
) -> list[Readings]:
    """Start an episode, and return its readings before and after each of the actions."""
    env.reset(episode_index)
    return [read(env), *step_through(env, actions)]


def random_actions(env: Env, episode_index: int) -> Actions:
    """Return `N_STEPS` random actions within the bounds; they depend on (task, episode) alone."""
    low, high = finite_bounds(env)
    return (
        episode_rng(env.spec.task, episode_index, _ACTION_STREAM)
        .uniform(low, high, (N_STEPS, len(low)))
        .astype(np.float32)
    )


def finite_bounds(env: Env) -> tuple[Bounds, Bounds]:
    """Return the actuators' range, with a finite value in place of every missing bound.

    A missing lower bound is 1 below the upper one, or -1. A missing upper bound is 2 above the
    lower one.
    """
    low = np.array(env.spec.action.low, np.float64)
    high = np.array(env.spec.action.high, np.float64)
    finite_high = np.where(np.isfinite(high), high, 0.0)
    low = np.where(np.isfinite(low), low, finite_high - 1.0)
    return low, np.where(np.isfinite(high), high, low + 2.0)


def expect_same(
    expected: Sequence[Readings],
    got: Sequence[Readings],
    when: str,
) -> None:
    """Raise `BrokenError` at the first step at which two episodes have different readings."""
    for n_steps, (first, second) in enumerate(zip(expected, got, strict=True)):
        differing = [name for name in first if first[name] != second[name]]
        if differing:
            raise BrokenError(f"{when}, {' and '.join(differing)} differ after {n_steps} steps")


class Trial:
    """An environment under test.

    Attributes:
        index: of the episode in which it is tested.
        other_index: of another episode; the same index if there is only one episode.
        actions: of the test episode.
    """

    def __init__(
        self,
        env: Env,
        episode_index: int,
        reference: list[Readings] | Exception,
    ) -> None:
        """Args:
        reference: the readings of the test episode in a new environment that did nothing else, or
            the exception that it raised.
        """
        self.env = env
        self.index = episode_index
        n_episodes = env.spec.n_episodes
        is_last = n_episodes is not None and episode_index + 1 >= n_episodes
        self.other_index = max(0, episode_index - 1) if is_last else episode_index + 1
        self.actions = random_actions(env, episode_index)
        self._reference = reference

    @property
    def reference(self) -> list[Readings]:
        """Return the readings of the test episode in a new environment, or raise as it did."""
        if isinstance(self._reference, Exception):
            raise self._reference
        return self._reference

    def start(self) -> Env:
        """Begin the test episode, and return the environment."""
        self.env.reset(self.index)
        return self.env

    def enter_other_episode(self) -> None:
        """Put the environment into the middle of another episode."""
        self.env.reset(self.other_index)
        for action in self.actions[::-1][:3]:
            self.env.step(action)
