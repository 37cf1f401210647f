"""The contract of every environment, and what it reports after a step."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.observation import Observation
from sim.spec import EnvSpec


@dataclass(frozen=True)
class Progress:
    """Says how far one goal is, from simulator state alone, in what its kind has (`sim.goals.goal.GoalKind`).

    Attributes:
        met: the goal holds at this moment.
        stages: name → it holds at this moment, for each stage of the kind.
        measures: name → value, for each measure of the kind.
        object_pos_world: `(3,)` m, of what the goal is about: the object, or the part to be moved.
            None if it is about nothing that has a place.
    """

    met: bool
    stages: Mapping[str, bool] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    object_pos_world: Float64[np.ndarray, "3"] | None = None


# Inverse kinematics that ends further than this from the position asked for has failed.
IK_TOLERANCE_M = 0.005


@dataclass(frozen=True)
class StepResult:
    """What `Env.step` returns: nothing that would have to be rendered.

    Attributes:
        progress: of each goal, after the step, as from `Env.progress`.
        success: the task is done.
        clipped: the action left the actuators' range and was cut to it.
        ik_error_m: distance from the position that the action asks for, before any cut, to that of
            the joints commanded; None where the environment takes joints. It is of the arm's
            geometry, not of its motion.
    """

    progress: tuple[Progress, ...]
    success: bool
    clipped: bool
    ik_error_m: float | None = None

    @property
    def ik_failed(self) -> bool:
        return self.ik_error_m is not None and self.ik_error_m > IK_TOLERANCE_M


# An object is watched for this long to see whether it stays. One that is let go in the air falls
# 4.9 cm meanwhile.
WATCH_S = 0.1


@dataclass(frozen=True)
class LooseObject:
    """A body that no joint holds, at one moment.

    Attributes:
        name: of the body.
        pos_world: `(3,)` position of its origin, m.
        speed_m_s: speed of its origin.
        drift_m: how far its origin moves in the next `WATCH_S` while every actuator keeps its last
            command.
    """

    name: str
    pos_world: Float64[np.ndarray, "3"]
    speed_m_s: float
    drift_m: float


@runtime_checkable
class Expert(Protocol):
    """Does the task of the one environment that it was made by, from the true state of the world."""

    def reset(self) -> None:
        """Forget the plan: what comes next is the start of an episode."""

    def action(self) -> Float[np.ndarray, " action_dim"]:
        """What to send to `Env.step` now, in the environment's own actions; once a control step."""


@runtime_checkable
class Env(Protocol):
    """A simulated task. Its episode `k` starts in a state that depends on (task, k) alone.

    This is what every environment has. What else one can do is in `sim.capabilities`.
    """

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, episode_index: int) -> None:
        """Put the world into the initial state of that episode. Renders nothing."""

    def observe(self) -> Observation:
        """Look at the world. The only place that renders."""

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        """Hold one action for `control_dt_s`. Renders nothing."""

    def state(self) -> Float32[np.ndarray, " state_dim"]:
        """Proprioception without images, as in `Observation.state`."""

    def progress(self) -> tuple[Progress, ...]:
        """Return the progress of each goal, in the order of `EnvSpec.goals`."""

    def ee_pos_world(self) -> Float64[np.ndarray, "3"]:
        """Position of the tool centre point, m."""

    def close(self) -> None:
        """Free the GL contexts and whatever else is held.

        A second call does nothing; `spec` can still be read.
        """


def episode_rng(task: str, episode_index: int, *more: int) -> np.random.Generator:
    """The random generator of an episode (or, with `more`, of one prediction in it).

    A function of its arguments alone: SHA-256, not Python's `hash`, which changes with every
    process.
    """
    task_hash = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8], "big")
    return np.random.default_rng([task_hash, episode_index, *more])
