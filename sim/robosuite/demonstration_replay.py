"""Replays the actions of demonstrations as an expert."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64


class DemonstrationReplay:
    """Replays the actions of a demonstration as a `sim.env.Expert`.

    After the last action it stands still and keeps the last gripper command.
    """

    def __init__(
        self,
        actions: Callable[[], Float64[np.ndarray, "step 7"]],
        *,
        is_absolute: bool = False,
    ) -> None:
        """Remember where the actions are.

        Args:
            actions: returns those of the running episode.
            is_absolute: actions are poses. The last pose is then kept.
        """
        self._actions = actions
        self._is_absolute = is_absolute
        self._n_done = 0

    def reset(self) -> None:
        self._n_done = 0

    def action(self) -> Float64[np.ndarray, "7"]:
        actions = self._actions()
        self._n_done += 1
        if self._n_done <= len(actions):
            return actions[self._n_done - 1].copy()
        last = actions[-1]
        return last.copy() if self._is_absolute else np.append(np.zeros(6), last[-1])
