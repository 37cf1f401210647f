"""Begins episodes from recorded demonstrations, and replays their actions as an expert."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError
from sim.libero_bench.demonstrations import load_demonstrations
from sim.libero_bench.fixture_poses import BodyPose
from sim.libero_bench.tasks import LiberoTask
from sim.robosuite.demonstration_replay import DemonstrationReplay


class DemonstratedStarts:
    """Provides the first states of a file's demonstrations, instead of the benchmark's init states.

    A published file begins in motion, and lacks the controller's goal and the gripper's command at
    that moment. A replay of it is therefore close but not exact to the last bit. A replay of a file
    from `sim.libero_bench.recording` is exact.
    """

    def __init__(
        self,
        path: Path,
        task: LiberoTask,
    ) -> None:
        """Load the demonstrations.

        Raises:
            WhiskerError: the file is not a file of demonstrations, or is of another task.
        """
        self._demonstrations = load_demonstrations(path)
        recorded = self._demonstrations[0].task_name
        if recorded != task.name:
            raise WhiskerError(
                f"demonstrations {str(path)!r} in {task.env_name!r}",
                expected=f"the task {task.name!r}",
                got=repr(recorded),
                hint="Name the environment that was recorded, e.g. --env <suite>/<task's name>.",
            )

    @property
    def init_states(self) -> Float64[np.ndarray, "episode state_dim"]:
        return np.stack([demonstration.states[0] for demonstration in self._demonstrations])

    def fixture_poses(self, episode_index: int) -> Mapping[str, BodyPose]:
        return self._demonstrations[episode_index].fixture_poses

    def make_expert(self, episode_index: Callable[[], int]) -> DemonstrationReplay:
        """Return the expert that replays a demonstration.

        Args:
            episode_index: returns the index of the running episode.
        """
        return DemonstrationReplay(lambda: self._demonstrations[episode_index()].actions)
