"""When robosuite looks at its world, and what it remembers of the look."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass
class SampleClock:
    """When robosuite looks: once a control period, at a physics step that drifts with the rounding of its sums.

    What a policy is shown is of that moment, up to a control step before the one in which it
    decides (robosuite.utils.observables.Observable.update). Comparable numbers need the same clock,
    to the last bit.
    """

    period_s: float
    tick_s: float
    time_s: float = 0.0
    sampled: bool = True

    def restart(self) -> None:
        """A reset looks once, forced; putting the init state in looks a second time."""
        self.time_s, self.sampled = 2 * self.tick_s, True

    def tick(self) -> bool:
        """A physics step went by. Whether a sample is due after it."""
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
    """What was measured when the clock was due: what `Env.state` says and the images show.

    Attributes:
        qpos: that the images are of; the state is one physics step younger, as robosuite has it.
        site_alpha: opacity of the sites that appear and disappear (a burner's glow).
    """

    ee_pos: Float64[np.ndarray, "3"]
    ee_quat_xyzw: Float64[np.ndarray, "4"]
    gripper_qpos: Float64[np.ndarray, "2"]
    qpos: Float64[np.ndarray, " nq"]
    site_alpha: Float64[np.ndarray, " site"]
