"""Draws the frames of a film strip.

Only these frames are rendered. As in films, a frame shows the recorded state, the current plan, and
the path taken since the last two plans. Earlier plans are left out, since they would hide the robot
in a small picture. The executed part of a plan is the recorded path of the robot. Only the rest is
simulated, from the recorded state at which the plan was abandoned, which gives the same path bit
for bit as simulating the whole plan.
"""

import numpy as np
from jaxtyping import Float64

from eval.episode_arrays import ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Drawable, require
from sim.errors import UnknownNameError
from sim.registry import family_of
from viz.episode_film import choose_views
from viz.overlay import Overlay, draw_overlay, find_trail_begin, project_path
from viz.report.strip_budget import N_FRAMES, Image
from viz.report.strip_moments import Moment, choose_moments
from viz.whiskers import find_prediction, load_planned_arrays, open_whisker_env, simulate_plans

# The viewer's camera shows the whole scene. Its views are rendered this much larger, and cropped
# around the paths of gripper and object. A policy's cameras are close already.
_ZOOM = 1.4
# Place of the middle of these paths in the crop, from the top and the left, as a share of its size.
# The arm is above its gripper.
_MIDDLE = (0.6, 0.5)

_Path = Float64[np.ndarray, "moment 3"]
type Picture = tuple[Moment, Image]


def choose_view(
    run: Run,
    task: str,
    height_px: int,
) -> tuple[str, tuple[int, int], tuple[int, int]]:
    """Return the camera that shows most of a task, the size of a frame, and the rendered size.

    A frame is cropped from a rendered picture.

    Raises:
        UnknownNameError: the run has no such task.
    """
    tasks = run.description.tasks
    if task not in tasks:
        kind = f"task of run {str(run.path)!r}"
        raise UnknownNameError(kind, task, tasks)
    views = choose_views(run, task)
    camera, (full_height_px, full_width_px) = next(iter(views.items()))
    width_px = round(height_px * full_width_px / full_height_px)
    zoom = _ZOOM if camera == family_of(tasks[task]).viewer_camera else 1.0
    rendered_size = (round(zoom * height_px), round(zoom * width_px))
    return camera, (height_px, width_px), rendered_size


class StripArtist:
    """Draws frames of the recorded episodes of a task in an environment of its own.

    The camera is the one that shows most.
    """

    def __init__(
        self,
        run: Run,
        task: str,
        height_px: int,
    ) -> None:
        self._run = run
        self._camera, self._size, self._rendered_size = choose_view(run, task, height_px)
        self._env = open_whisker_env(run, task, {self._camera: self._rendered_size})
        drawable = require(self._env, Drawable, "film strips")
        self._projection = drawable.projection

    def draw_strip(self, row: EpisodeRow) -> list[Picture]:
        """Return the moments that decided an episode, and their pictures.

        Raises:
            WhiskerError: the episode's file is lost or damaged, or nothing was planned in it.
        """
        arrays = load_planned_arrays(self._run, row)
        control_dt_s = self._env.spec.control_dt_s
        moments = choose_moments(row, arrays.prediction_step, control_dt_s, N_FRAMES)
        rests: dict[int, _Path] = {}
        images = [self._draw(arrays, moment.step, rests) for moment in moments]
        top, left = self._find_corner(arrays)
        height, width = self._size
        crops = [image[top : top + height, left : left + width] for image in images]
        return list(zip(moments, crops, strict=True))

    def close(self) -> None:
        self._env.close()

    def _draw(
        self,
        arrays: ReplayableArrays,
        step: int,
        rests: dict[int, _Path],
    ) -> Image:
        overlay = self._compute_overlay(arrays, step, rests)
        self._env.restore(arrays.step_snapshot[step])
        image = self._env.observe().images[self._camera]
        return draw_overlay(image, self._projection(self._camera), overlay)

    def _find_corner(self, arrays: ReplayableArrays) -> tuple[int, int]:
        """Return row and column of the crop that shows the episode's paths.

        The camera does not move during an episode, so the crop is the same for all frames.
        """
        paths = np.concatenate(arrays.paths_world)
        projected = project_path(self._projection(self._camera), paths)
        places = np.concatenate([np.empty((0, 2)), *projected])
        room = np.subtract(self._rendered_size, self._size)
        corner = room // 2
        if len(places):
            middle = (places.min(axis=0) + places.max(axis=0))[::-1] / 2
            corner = np.rint(middle - np.multiply(self._size, _MIDDLE)).clip(0, room)
        row, column = corner.astype(int).tolist()
        return row, column

    def _compute_overlay(
        self,
        arrays: ReplayableArrays,
        step: int,
        rests: dict[int, _Path],
    ) -> Overlay:
        """Return the current plan and the path taken.

        Args:
            rests: prediction → the part of its plan that was not executed. New ones are added.
        """
        current = find_prediction(arrays.prediction_step, step)
        n_executed = int(arrays.n_executed[current])
        abandoned = int(arrays.prediction_step[current]) + n_executed
        if current not in rests:
            rest = arrays.chunk[current, n_executed:]
            snapshot = arrays.step_snapshot[abandoned]
            rests[current] = simulate_plans(self._env, snapshot, rest[None])[0]
        begin = find_trail_begin(arrays.prediction_step, step, self._env.spec.control_dt_s)
        executed = arrays.ee_pos_world[step:abandoned]
        return Overlay(
            tool=arrays.ee_pos_world[step],
            plan=np.concatenate([executed, rests[current]]),
            n_to_execute=abandoned - step,
            taken=arrays.ee_pos_world[begin : step + 1],
        )
