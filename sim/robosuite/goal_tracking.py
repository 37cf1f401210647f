"""Defines how a task measures the progress of one of its goals."""

from typing import Protocol, runtime_checkable

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.env import Progress
from sim.goals.goal import Goal


@runtime_checkable
class GoalTracker(Protocol):
    """Measures the progress of one goal of a task.

    Attributes:
        declared: the goal as it is in the environment's spec.
    """

    declared: Goal

    def begin(self, data: mujoco.MjData) -> None:
        """Measure the world at the start of the episode, when the objects have settled."""

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Float64[np.ndarray, "3"],
        met: bool,
    ) -> Progress:
        """Return the progress of the goal, from positions and contacts that are up to date."""

    @property
    def start(self) -> Float64[np.ndarray, " n"]:
        """Return what `begin` measured, and what else the goal remembers of its episode."""

    @start.setter
    def start(self, value: Float64[np.ndarray, " n"]) -> None: ...
