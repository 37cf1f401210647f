"""The core contract that every environment fulfils, and what it reports after a step."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from sim.arrays import Action, StateVector, Vector3
from sim.observation import Observation
from sim.spec import EnvSpec


@dataclass(frozen=True)
class Progress:
    """Says how far one goal is, computed from simulator state alone.

    Attributes:
        met: whether the goal holds now.
        stages: name → whether it holds now, for each stage of the goal's kind
            (`sim.goals.goal.GoalKind`).
        measures: name → value, for each measure of the kind.
        object_pos_world: `(3,)` position [m] of the object, or of the part to be moved. None if the
            goal is about nothing that has a position.
    """

    met: bool
    stages: Mapping[str, bool] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    object_pos_world: Vector3 | None = None


# Inverse kinematics fails if it ends further than this from the requested position.
IK_TOLERANCE_M = 0.005


@dataclass(frozen=True)
class StepResult:
    """The result of `Env.step`. Nothing in it requires rendering.

    Attributes:
        progress: of each goal after the step, equal to `Env.progress`.
        success: whether the task is done.
        clipped: whether the action was outside the actuators' range and was clipped to it.
        ik_error_m: distance between the position that the action requests, before any clipping, and
            the position of the commanded joints. It describes the arm's geometry, not its motion.
            None if actions are joints.
    """

    progress: tuple[Progress, ...]
    success: bool
    clipped: bool
    ik_error_m: float | None = None

    @property
    def ik_failed(self) -> bool:
        return self.ik_error_m is not None and self.ik_error_m > IK_TOLERANCE_M


# A loose object is watched for this long. An object released in the air falls 4.9 cm in that time.
WATCH_S = 0.1


@dataclass(frozen=True)
class LooseObject:
    """A body without a joint to the world, at one time.

    Attributes:
        name: of the body.
        pos_world: `(3,)` position of its origin, m.
        speed_m_s: speed of its origin.
        drift_m: distance that its origin moves within the next `WATCH_S`, while every actuator
            keeps its last command.
    """

    name: str
    pos_world: Vector3
    speed_m_s: float
    drift_m: float


@runtime_checkable
class Expert(Protocol):
    """Solves the task of the one environment that made it, from the true state of the world."""

    def reset(self) -> None:
        """Forget the plan, because a new episode starts."""

    def action(self) -> Action:
        """Return the next action for `Env.step`; call it once per control step."""


@runtime_checkable
class Env(Protocol):
    """A simulated task. The initial state of episode `k` depends on (task, k) alone.

    Every environment has these methods. `sim.capabilities` describes optional ones.
    """

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, episode_index: int) -> None:
        """Put the world into the initial state of an episode. Renders nothing."""

    def observe(self) -> Observation:
        """Return the current observation. No other method renders."""

    def step(self, action: Action) -> StepResult:
        """Hold one action for `control_dt_s`. Renders nothing."""

    def state(self) -> StateVector:
        """Return the proprioception without images, equal to `Observation.state`."""

    def progress(self) -> tuple[Progress, ...]:
        """Return the progress of each goal, in the order of `EnvSpec.goals`."""

    def ee_pos_world(self) -> Vector3:
        """Return the position of the tool centre point, m."""

    def close(self) -> None:
        """Free the GL contexts and all other resources.

        A second call does nothing. `spec` can still be read afterwards.
        """


def episode_rng(task: str, episode_index: int, *more: int) -> np.random.Generator:
    """Return the random generator of an episode (or, with `more`, of one prediction in it).

    The result depends on the arguments alone. The task is hashed with SHA-256, because Python's
    `hash` changes with every process.
    """
    task_hash = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8], "big")
    return np.random.default_rng([task_hash, episode_index, *more])
