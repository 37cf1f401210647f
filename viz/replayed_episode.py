"""Serves a recorded episode to the page: first the states, then each plan and image on demand.

Rendering the images of all decisions, or simulating all plans, takes far longer than the rest.
"""

from dataclasses import dataclass

import numpy as np

from eval.episode_arrays import ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Snapshots
from sim.errors import WhiskerError
from viz.goal_measures import add_measures
from viz.image_encoding import LOSSLESS
from viz.page_data import encode_array, recorded_header, row_key
from viz.part_data import camera_data, moments_data, outline_data
from viz.progress import Report, report_nothing
from viz.replay import compute_body_poses, override_as_recorded, render_views
from viz.whiskers import find_members, is_ensemble, load_planned_arrays, simulate_plans


@dataclass(frozen=True)
class ReplayedEpisode:
    """Holds one recorded episode and a second copy of its world.

    Attributes:
        env: an environment from `open_replay_env`. Every method changes its state.
        run: the run.
        row: the row of the episode, or of a branch.
        arrays: the recorded arrays.
    """

    env: Snapshots
    run: Run
    row: EpisodeRow
    arrays: ReplayableArrays

    @classmethod
    def load(
        cls,
        env: Snapshots,
        run: Run,
        row: EpisodeRow,
    ) -> "ReplayedEpisode":
        """Read an episode's arrays.

        Raises:
            WhiskerError: the episode file is absent, truncated, without snapshots or without a
                prediction.
        """
        arrays = load_planned_arrays(run, row, with_intermediate_plans=True)
        return cls(env, run, row, add_measures(arrays, row))

    def outline(self, report: Report = report_nothing) -> dict:
        """Return the episode for the page, without the paths of its plans and without images."""
        arrays = self.arrays
        poses = compute_body_poses(self.env, arrays.step_snapshot, report)
        header = recorded_header(self.run.description, self.env.spec, self.row, arrays)
        part = outline_data(moments_data(arrays, poses), arrays)
        return {"header": header, "parts": [part]}

    def plan(self, prediction: int) -> dict:
        """Return the paths of a prediction's plans and of its intermediate plans.

        Raises:
            WhiskerError: there is no such prediction.
        """
        self._check(prediction)
        if self.arrays.alternative_chunk is None:
            plans = self.arrays.chunk[prediction, None]
        else:
            plans = self.arrays.alternative_chunk[prediction]
        paths = self._simulate(prediction, plans)
        intermediate_paths = None
        intermediate_plans = self._intermediate_plans(prediction)
        if intermediate_plans is not None:
            intermediate_paths = self._simulate(prediction, intermediate_plans)
        return {"path": paths, "intermediate_plans": intermediate_paths}

    def images(self, prediction: int) -> dict:
        """Return the lossless image of every camera at a prediction, by camera.

        Raises:
            WhiskerError: there is no such prediction.
        """
        self._check(prediction)
        env = override_as_recorded(self.env, self.row, prediction)
        views = render_views(env, self.arrays.snapshot[prediction])
        return {name: camera_data(view, LOSSLESS) for name, view in views.items()}

    def _check(self, prediction: int) -> None:
        n_predictions = len(self.arrays.chunk)
        if not 0 <= prediction < n_predictions:
            subject = f"prediction {prediction} of {row_key(self.row)!r}"
            raise WhiskerError(subject, expected=f"0 to {n_predictions - 1}")

    def _simulate(
        self,
        prediction: int,
        plans: np.ndarray,
    ) -> dict:
        snapshot = self.arrays.snapshot[prediction]
        return encode_array(simulate_plans(self.env, snapshot, plans))

    def _intermediate_plans(self, prediction: int) -> np.ndarray | None:
        chunks = self.arrays.intermediate_chunk
        if chunks is None:
            return None
        if is_ensemble(self.run):
            return find_members(chunks, self.arrays.prediction_step, prediction)
        return chunks[prediction]
