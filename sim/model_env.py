"""Draws an environment that simulates one MuJoCo model."""

import mujoco

from sim.arrays import BodyPoses, ProjectionMatrix
from sim.model_geometry import compute_body_poses, extract_geometry
from sim.rendering import CameraRenderer, compute_projection
from sim.scene_geometry import SceneGeometry
from sim.spec import EnvSpec

# The geom groups that MuJoCo's own viewer draws by default.
VISUAL_GROUPS = (0, 1, 2)


class DrawableModel:
    """Implements `Drawable` and `NamesRenderer` (`sim.capabilities`) for a subclass."""

    model: mujoco.MjModel
    data: mujoco.MjData
    spec: EnvSpec
    _renderer: CameraRenderer

    def geometry(self) -> SceneGeometry:
        return extract_geometry(self.model, VISUAL_GROUPS)

    def body_poses(self) -> BodyPoses:
        return compute_body_poses(self.data)

    def projection(self, camera: str) -> ProjectionMatrix:
        return compute_projection(
            self.model,
            self.data,
            self.spec.camera(camera),
        )

    def gl_renderer(self) -> str:
        return self._renderer.gl_renderer

    def close(self) -> None:
        self._renderer.close()
