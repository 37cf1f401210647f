"""Reproduces when robosuite measures its world, and holds what it measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass
class SampleClock:
    """Decides at which physics steps robosuite takes a sample, once per control period.

    The physics step of the sample drifts, because robosuite adds up rounded times. A policy is
    shown this sample, which is up to one control step older than the moment of its decision
    (robosuite.utils.observables.Observable.update). Comparable numbers need the same clock, to the
    last bit.
    """

    period_s: float
    tick_s: float
    time_s: float = 0.0
    sampled: bool = True

    def restart(self, n_samples: int) -> None:
        """Set the clock as after a reset.

        Args:
            n_samples: how many samples robosuite was forced to take. A reset forces one. Setting a
                state after it forces another one.
        """
        self.time_s = n_samples * self.tick_s
        self.sampled = True

    def tick(self) -> bool:
        """Count one physics step; return whether a sample is due after it."""
        self.time_s += self.tick_s
        due = not self.sampled and self.period_s >= self.time_s
        self.sampled |= due
        if self.time_s >= self.period_s:
            due |= not self.sampled
            self.time_s %= self.period_s
            self.sampled = False
        return due


@dataclass
class Sample:
    """Holds the measurements of the last sample, which `Env.state` and the images show.

    Attributes:
        qpos: joint positions in the images. The simulator's state is one physics step younger at
            that moment, as in robosuite.
        site_alpha: opacity of the sites that appear and disappear (a burner's glow).
        geom_alpha: opacity of the geoms that disappear (a wiped marker); empty for other tasks.
        object_state: robosuite's observation of the objects; empty if the state has none.
        further_hands: position, quaternion xyzw and fingers of the second arm's hand; empty for
            tasks with one arm.
    """

    ee_pos: Float64[np.ndarray, "3"]
    ee_quat_xyzw: Float64[np.ndarray, "4"]
    gripper_qpos: Float64[np.ndarray, " finger"]
    qpos: Float64[np.ndarray, " nq"]
    site_alpha: Float64[np.ndarray, " site"]
    geom_alpha: Float64[np.ndarray, " geom"]
    object_state: Float64[np.ndarray, " n"]
    further_hands: Float64[np.ndarray, " m"]
