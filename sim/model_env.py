"""The shared part of environments that simulate one MuJoCo model."""

from typing import Any

import mujoco
import numpy as np

from sim.arrays import (
    Action,
    BodyPoses,
    Chunk,
    EePath,
    ProjectionMatrix,
    SnapshotVector,
    Vector3,
)
from sim.model_geometry import compute_body_poses, extract_geometry
from sim.rendering import compute_projection
from sim.scene_geometry import SceneGeometry
from sim.spec import EnvSpec

# The geom groups that MuJoCo's own viewer draws by default.
VISUAL_GROUPS = (0, 1, 2)
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class ModelEnv:
    """Implements `Snapshots`, `Drawable` and `NamesRenderer` (`sim.capabilities`) for a subclass.

    A snapshot is `mjSTATE_INTEGRATION`. A subclass with more memory appends to it.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    spec: EnvSpec
    # The site that is the tool centre point.
    _tool: int
    # Has `gl_renderer` and `close`.
    _renderer: Any

    def ee_pos_world(self) -> Vector3:
        return self.data.site_xpos[self._tool].copy()

    def snapshot(self) -> SnapshotVector:
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def restore(self, snapshot: SnapshotVector) -> None:
        mujoco.mj_setState(self.model, self.data, np.ascontiguousarray(snapshot), _STATE)
        mujoco.mj_fwdPosition(self.model, self.data)

    def simulate_ee_path(self, chunk: Chunk) -> EePath:
        path = np.full((len(chunk) + 1, 3), np.nan)
        path[0] = self.ee_pos_world()
        for step, action in enumerate(chunk, start=1):
            self._advance(action)
            if self._has_diverged():
                break
            mujoco.mj_kinematics(self.model, self.data)
            path[step] = self.ee_pos_world()
        return path

    def geometry(self) -> SceneGeometry:
        return extract_geometry(self.model, VISUAL_GROUPS)

    def body_poses(self) -> BodyPoses:
        return compute_body_poses(self.data)

    def projection(self, camera: str) -> ProjectionMatrix:
        return compute_projection(self.model, self.data, self.spec.camera(camera))

    def gl_renderer(self) -> str:
        return self._renderer.gl_renderer

    def close(self) -> None:
        self._renderer.close()

    def _advance(self, action: Action) -> Any:
        """Run the physics of one control step; return what the subclass needs of it."""
        raise NotImplementedError

    def _has_diverged(self) -> bool:
        return not np.isfinite(self.data.qpos).all()

    def _check_physics(self) -> None:
        if self._has_diverged():
            raise RuntimeError(f"the physics of {self.spec.name!r} diverged")
