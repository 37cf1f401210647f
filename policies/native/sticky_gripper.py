"""The gripper of the Google robot, which takes changes and repeats them."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

_N_REPEATS = 15
# A change by more than this begins a new command.
_CHANGE = 0.5


@dataclass(frozen=True)
class StickyGripper:
    """Turns the share by which the gripper is to be open into a command that is held.

    A share a means the closing c = -(2a - 1): 1 closes and -1 opens. Once |c| > 0.5, that c is sent
    for 15 control steps in a row, whatever is planned meanwhile.

    Attributes:
        held: the closing that is being repeated.
        n_left: control steps for which it is still repeated.
    """

    held: float = 0.0
    n_left: int = 0

    def plan(
        self, shares: Float32[np.ndarray, " step"], n_executed: int
    ) -> tuple[Float32[np.ndarray, " step"], "StickyGripper"]:
        """Return the closing of each step, and the gripper after the executed ones."""
        gripper = self
        closings = []
        after = self
        for step, share in enumerate(shares):
            gripper = gripper.step(float(share))
            closings.append(gripper.held)
            if step + 1 == n_executed:
                after = gripper
        return np.array(closings, np.float32), after

    def step(self, share: float) -> "StickyGripper":
        """Return the gripper in the next control step."""
        if self.n_left > 0:
            return replace(self, n_left=self.n_left - 1)
        closing = 1 - 2 * share
        is_begun = abs(closing) > _CHANGE
        return StickyGripper(closing, _N_REPEATS - 1 if is_begun else 0)
