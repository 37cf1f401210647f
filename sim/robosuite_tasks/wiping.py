"""Measures the progress of robosuite's Wipe, whose markers disappear where the tool passes."""

from contextlib import redirect_stdout
from io import StringIO

import mujoco
import numpy as np
from jaxtyping import Float64, Int64

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.wipe import WIPE
from sim.robosuite.held_object import make_mask
from sim.robosuite_tasks.goal_thresholds import AT_MARKER_M, WIPE_THRESHOLDS


class WipeGoal:
    """Tracks the markers of Wipe and the force of its tool.

    robosuite keeps the wiped markers in a list beside the simulator's state. The goal therefore
    remembers them in `start`, from which `RobosuiteEnv.restore` brings them back.
    """

    def __init__(self, env, model: mujoco.MjModel) -> None:
        self.declared = WIPE.goal("wipe table", WIPE_THRESHOLDS)
        self._env = env
        self._model = model
        self._geoms = find_markers(env, model)
        self._bodies = model.geom_bodyid[self._geoms]
        self._is_tool = make_mask(model, env.robots[0].gripper.contact_geoms)
        self._force_n = 0.0

    @property
    def start(self) -> Float64[np.ndarray, " n"]:
        """Return the force [N], and the opacity of each marker."""
        return np.append(self._force_n, self._model.geom_rgba[self._geoms, 3])

    @start.setter
    def start(self, value: Float64[np.ndarray, " n"]) -> None:
        self._force_n = float(value[0])
        self._model.geom_rgba[self._geoms, 3] = value[1:]
        markers = zip(self._env.model.mujoco_arena.markers, self._is_left(), strict=True)
        self._env.wiped_markers = [marker for marker, is_left in markers if not is_left]

    def begin(self, data: mujoco.MjData) -> None:
        """Measure nothing, because a reset puts every marker back."""

    def wipe(self, data: mujoco.MjData) -> None:
        """Wipe off the markers under the tool, which robosuite does while it computes its reward.

        It comes after the last physics step, whose contacts and forces `data` still has.
        """
        # robosuite prints every joint at its limit, where it wipes nothing off.
        with redirect_stdout(StringIO()):
            self._env.reward()
        self._force_n = self._measure_force(data)

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
        met: bool,
    ) -> Progress:
        is_left = self._is_left()
        n_left = int(is_left.sum())
        n_markers = len(is_left)
        shown = self._bodies[is_left] if n_left else self._bodies
        to_marker_m = np.linalg.norm(data.xpos[self._bodies] - ee_pos, axis=1)
        return Progress(
            met,
            stages={
                "reached": bool(to_marker_m.min() < AT_MARKER_M),
                "begun": n_left < n_markers,
                "half": 2 * n_left <= n_markers,
                "cleaned": met,
            },
            measures={"markers_left": float(n_left), "force_n": self._force_n},
            object_pos_world=data.xpos[shown].mean(axis=0),
        )

    def _is_left(self) -> np.ndarray:
        """Return the mask of the markers that are not wiped off."""
        return self._model.geom_rgba[self._geoms, 3] > 0.0

    def _measure_force(self, data: mujoco.MjData) -> float:
        """Return the sum of the normal forces of the tool's contacts, N."""
        first, second = data.contact.geom.T
        force = np.zeros(6)
        total_n = 0.0
        for index in np.flatnonzero(self._is_tool[first] | self._is_tool[second]):
            mujoco.mj_contactForce(self._model, data, index, force)
            total_n += float(force[0])
        return total_n


def find_markers(env, model: mujoco.MjModel) -> Int64[np.ndarray, " marker"]:
    """Return the ids of the geoms that show the markers; none in other tasks than Wipe."""
    markers = getattr(env.model.mujoco_arena, "markers", ())
    return np.array([model.geom(marker.visual_geoms[0]).id for marker in markers], dtype=int)
