"""The contract of every environment, and what it reports after a step."""

import hashlib
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.observation import Observation
from sim.spec import EnvSpec


@dataclass(frozen=True)
class StageFlags:
    """Which stages of pick and place hold at this moment, in the order in which they are passed.

    `reached`: the gripper is around the object. `grasped`: both jaws touch it. `lifted`: grasped and
    clear of the table. `over_goal`: the object is above or inside the goal's rim. `released`: no jaw
    touches it. `placed`: inside the goal, released and at rest.
    """

    reached: bool
    grasped: bool
    lifted: bool
    over_goal: bool
    released: bool
    placed: bool

    def as_array(self) -> np.ndarray:
        """`(n_stages,)` bool, in the order of `STAGES`."""
        return np.array(_flags_in_order(self), dtype=bool)


STAGES: tuple[str, ...] = tuple(field.name for field in fields(StageFlags))
_flags_in_order = attrgetter(*STAGES)


@dataclass(frozen=True)
class Progress:
    """How far the task is, from simulator state alone.

    Attributes:
        flags: the stages.
        object_height_m: height of the object above where it lay at reset.
        goal_distance_m: horizontal distance from the object to the middle of the goal.
        object_pos_world: `(3,)` m.
    """

    flags: StageFlags
    object_height_m: float
    goal_distance_m: float
    object_pos_world: Float64[np.ndarray, "3"]


# Inverse kinematics that ends further than this from the position asked for has failed.
IK_TOLERANCE_M = 0.005


@dataclass(frozen=True)
class StepResult:
    """What `Env.step` returns: nothing that would have to be rendered.

    Attributes:
        progress: after the step.
        success: the task is done.
        clipped: the action left the actuators' range and was cut to it.
        ik_error_m: distance from the position that the action asks for, before any cut, to that of the joints
            commanded; None where the environment takes joints. It is of the arm's geometry, not of its motion.
    """

    progress: Progress
    success: bool
    clipped: bool
    ik_error_m: float | None = None

    @property
    def ik_failed(self) -> bool:
        return self.ik_error_m is not None and self.ik_error_m > IK_TOLERANCE_M


@runtime_checkable
class Env(Protocol):
    """A simulated task. Its episode `k` starts in a state that depends on (task, k) alone."""

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

    def progress(self) -> Progress: ...

    def snapshot(self) -> Float64[np.ndarray, " snapshot_dim"]:
        """Everything that the future depends on, as one vector."""

    def restore(self, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> None:
        """Continue from there, bit for bit."""

    def ee_pos_world(self) -> Float64[np.ndarray, "3"]:
        """Position of the tool centre point, m."""

    def close(self) -> None:
        """Free the GL contexts."""


def episode_rng(task: str, episode_index: int, *more: int) -> np.random.Generator:
    """The random generator of an episode (or, with `more`, of one prediction in it).

    A function of its arguments alone: SHA-256, not Python's `hash`, which changes with every process.
    """
    task_hash = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8], "big")
    return np.random.default_rng([task_hash, episode_index, *more])
