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

    A share a means the closing c = -(2a - 1): 1 closes and -1 opens. Once |c| > 0.5, that c takes
    the place of 15 planned actions in a row, whatever they say. As in the published evaluation,
    planned actions count that are not executed: with four of them a prediction, a command lasts for
    nearly four predictions.

    Source: open-pi-zero c3df7fb, src/agent/env_adapter/simpler.py (`EDRSimplerAdapter`), which
    src/agent/eval.py gives the whole chunk.

    Attributes:
        held: the closing that is being repeated.
        n_left: planned actions for which it is still repeated.
    """

    held: float = 0.0
    n_left: int = 0

    def plan(
        self, shares: Float32[np.ndarray, " step"]
    ) -> tuple[Float32[np.ndarray, " step"], "StickyGripper"]:
        """Return the closing of each action of a chunk, and the gripper after all of them."""
        gripper = self
        closings = []
        for share in shares:
            gripper = gripper.step(float(share))
            closings.append(gripper.held)
        return np.array(closings, np.float32), gripper

    def step(self, share: float) -> "StickyGripper":
        """Return the gripper at the next planned action."""
        if self.n_left > 0:
            return replace(self, n_left=self.n_left - 1)
        closing = 1 - 2 * share
        is_begun = abs(closing) > _CHANGE
        return StickyGripper(closing, _N_REPEATS - 1 if is_begun else 0)
