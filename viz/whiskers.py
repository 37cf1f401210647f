"""Whiskers: the end-effector paths that a policy's plans would have produced, found again from a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from eval.recorder import EpisodeArrays
from eval.run_folder import EpisodeRow, env_of_task, load_arrays, load_description
from sim.env import Env
from sim.errors import WhiskerError
from sim.forward_simulation import simulate_chunk
from sim.registry import make_env


@dataclass(frozen=True)
class Whiskers:
    """The plans of one episode as paths; P predictions, K plans each, horizon H.

    Attributes:
        path_world: `(P, K, H + 1, 3)` m. Plan 0 is the one that was executed; point 0 is the position measured at the
            prediction. nan after physics that diverged.
        prediction_step: control step of each prediction.
        n_executed: how many actions of each plan 0 were run.
    """

    path_world: Float64[np.ndarray, "P K H1 3"]
    prediction_step: Int64[np.ndarray, " P"]
    n_executed: Int64[np.ndarray, " P"]

    def executed_path(self, prediction: int) -> Float64[np.ndarray, "moment 3"]:
        """The part of a prediction's whisker along which the robot really went."""
        return self.path_world[prediction, 0, : self.n_executed[prediction] + 1]


def compute_whiskers(env: Env, arrays: EpisodeArrays) -> Whiskers:
    """Simulate every recorded plan from the exact state in which it was made.

    Args:
        env: of the episode's task; its state is lost.
    """
    pairs = zip(arrays.snapshot, arrays.chunk, strict=True)
    paths = [simulate_chunk(env, snapshot, chunk) for snapshot, chunk in pairs]
    return Whiskers(np.stack(paths)[:, None], arrays.prediction_step, arrays.n_executed)


def load_whiskers(run: Path, row: EpisodeRow) -> Whiskers:
    """Of one recorded episode; builds its environment, without cameras.

    Raises:
        WhiskerError: no such run or episode file, or one without predictions.
    """
    arrays = load_arrays(run, row)
    if not len(arrays.chunk):
        raise WhiskerError(f"episode {row.episode_index} of {str(run)!r}", expected="a prediction", got="none")
    with opened_env(run, row.task) as env:
        return compute_whiskers(env, arrays)


@contextmanager
def opened_env(run: Path, task: str) -> Iterator[Env]:
    """A second copy of the world that an episode ran in, which observes nothing."""
    env_name, control = env_of_task(load_description(run), task)
    env = make_env(env_name, {}, control)
    try:
        yield env
    finally:
        env.close()
