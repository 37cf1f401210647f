"""A recorded episode as the page asks for it: what happened first, then each plan and image when it is looked at.

To render what the policy saw at every decision, or to simulate every plan, takes far longer than
all the rest.
"""

from dataclasses import dataclass

import numpy as np

from eval.episode_row import EpisodeRow
from eval.recorder import ReplayableArrays
from eval.run import Run
from sim.capabilities import Snapshots
from sim.errors import WhiskerError
from viz.image_encoding import LOSSLESS
from viz.page_data import (
    camera_data,
    encode_array,
    moments_data,
    outline_data,
    recorded_header,
    row_key,
)
from viz.progress import Report, report_nothing
from viz.replay import as_seen, compute_body_poses, look
from viz.whiskers import find_members, is_ensemble, load_planned_arrays, simulate_plans


@dataclass(frozen=True)
class ReplayedEpisode:
    """One recorded episode in a second copy of its world.

    Attributes:
        env: from `open_replay_env`; every method leaves it in another state.
        row: of the episode, or of a branch.
    """

    env: Snapshots
    run: Run
    row: EpisodeRow
    arrays: ReplayableArrays

    @classmethod
    def load(cls, env: Snapshots, run: Run, row: EpisodeRow) -> "ReplayedEpisode":
        """Read an episode's arrays.

        Raises:
            WhiskerError: the episode file is absent, truncated, without snapshots or without a
                prediction.
        """
        return cls(env, run, row, load_planned_arrays(run, row, with_intermediate_plans=True))

    def outline(self, report: Report = report_nothing) -> dict:
        """Return the episode for the page, without the paths of its plans and without images."""
        arrays, env = self.arrays, self.env
        poses = compute_body_poses(env, arrays.step_snapshot, report)
        header = recorded_header(self.run.description, env.spec, self.row, arrays)
        return {"header": header, "parts": [outline_data(moments_data(arrays, poses), arrays)]}

    def plan(self, prediction: int) -> dict:
        """Return the paths of the plans that were made at a prediction, and of what they were made from.

        Raises:
            WhiskerError: there is no such prediction.
        """
        self._check(prediction)
        arrays = self.arrays
        alternatives, intermediate_plans = (
            arrays.alternative_chunk,
            self._intermediate_plans(prediction),
        )
        plans = arrays.chunk[prediction, None] if alternatives is None else alternatives[prediction]
        return {
            "path": self._simulate(prediction, plans),
            "intermediate_plans": None
            if intermediate_plans is None
            else self._simulate(prediction, intermediate_plans),
        }

    def images(self, prediction: int) -> dict:
        """Return what every camera showed at a prediction, bit for bit, by camera.

        Raises:
            WhiskerError: there is no such prediction.
        """
        self._check(prediction)
        views = look(as_seen(self.env, self.row, prediction), self.arrays.snapshot[prediction])
        return {name: camera_data(view, LOSSLESS) for name, view in views.items()}

    def _check(self, prediction: int) -> None:
        n_predictions = len(self.arrays.chunk)
        if not 0 <= prediction < n_predictions:
            subject = f"prediction {prediction} of {row_key(self.row)!r}"
            raise WhiskerError(subject, expected=f"0 to {n_predictions - 1}")

    def _simulate(self, prediction: int, plans: np.ndarray) -> dict:
        return encode_array(simulate_plans(self.env, self.arrays.snapshot[prediction], plans))

    def _intermediate_plans(self, prediction: int) -> np.ndarray | None:
        intermediate_plans = self.arrays.intermediate_chunk
        if intermediate_plans is None:
            return None
        if is_ensemble(self.run):
            return find_members(intermediate_plans, self.arrays.prediction_step, prediction)
        return intermediate_plans[prediction]
