"""Renders camera images of a captured moment, only if they are asked for.

robosuite renders every camera in every control step. This takes 95 % of the step, although a policy
that executes a chunk needs one observation per chunk. The content of an image is fixed when MuJoCo
fills its abstract scene, which takes microseconds. The drawing can wait, and the pixels are equal.
"""

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from sim.arrays import Image, ProjectionMatrix
from sim.gl import name_renderer
from sim.rendering import compute_intrinsics
from sim.spec import CameraSpec

# The same as in robosuite.utils.binding_utils.MjRenderContext: another size of the buffer or the
# scene could change a pixel.
_MAX_GEOMS = 1000
_FONT_SCALE = mujoco.mjtFontScale.mjFONTSCALE_150
_COLLISION_GROUP = 0
VISUAL_GROUP = 1


class DeferredRenderer:
    """Renders the cameras of one model: `capture` fixes the moment, `render` draws it.

    Images are upright, while those of OpenGL begin with the bottom row.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[CameraSpec],
        model_cameras: Mapping[str, str],
        *,
        is_mirrored: bool,
    ) -> None:
        """Allocate a scene for each camera; a GL context is made at the first image.

        Args:
            model_cameras: camera name in the spec → camera name in the model, if they differ.
            is_mirrored: whether images are mirrored left to right.
        """
        self._cameras = tuple(cameras)
        self._model_cameras = model_cameras
        self._is_mirrored = is_mirrored
        self._option = mujoco.MjvOption()
        self._option.geomgroup[_COLLISION_GROUP] = 0
        self._option.geomgroup[VISUAL_GROUP] = 1
        self._perturb = mujoco.MjvPerturb()
        self._images: dict[str, np.ndarray] = {}
        self._gl: mujoco.GLContext | None = None
        self._context: mujoco.MjrContext | None = None
        self.gl_renderer = ""
        self.load(model)

    def load(self, model: mujoco.MjModel) -> None:
        """Draw this model from now on, beginning with the next `capture`."""
        self._free_context()
        self._model = model
        self._scenes: dict[str, mujoco.MjvScene] = {}
        self._views: dict[str, mujoco.MjvCamera] = {}
        for camera in self._cameras:
            model_camera = self._model_cameras.get(camera.name, camera.name)
            self._scenes[camera.name] = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
            view = self._views[camera.name] = mujoco.MjvCamera()
            view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            view.fixedcamid = model.camera(model_camera).id

    def capture(self, data: mujoco.MjData) -> None:
        """Make every camera show the present moment from now on. `data` may change afterwards."""
        self._images.clear()
        for camera, scene in self._scenes.items():
            mujoco.mjv_updateScene(
                self._model,
                data,
                self._option,
                self._perturb,
                self._views[camera],
                mujoco.mjtCatBit.mjCAT_ALL,
                scene,
            )

    def render(self) -> dict[str, Image]:
        """Return the images of the captured moment. Each is drawn once, at the first call."""
        for camera in self._cameras:
            if camera.name not in self._images:
                self._images[camera.name] = self._draw(camera)
        return {name: image.copy() for name, image in self._images.items()}

    def projection(self, camera: CameraSpec) -> ProjectionMatrix:
        """Return the matrix of `Drawable.projection` at the captured moment."""
        left_eye, right_eye = self._scenes[camera.name].camera
        position = (left_eye.pos.astype(np.float64) + right_eye.pos) / 2
        forward = left_eye.forward.astype(np.float64)
        up = left_eye.up.astype(np.float64)
        right = np.cross(forward, up)
        if self._is_mirrored:
            right = -right
        axes = np.stack([right, -up, forward])
        return compute_intrinsics(camera) @ np.column_stack([axes, -axes @ position])

    def close(self) -> None:
        """Free the GL context; a later `render` makes a new one."""
        self._free_context()
        if self._gl is not None:
            self._gl.free()
        self._gl = None

    def _free_context(self) -> None:
        """Free the textures and meshes of the model."""
        if self._context is not None and self._gl is not None:
            # `free` acts on the current context, which could be another one.
            self._gl.make_current()
            self._context.free()
        self._context = None

    def _draw(self, camera: CameraSpec) -> Image:
        context = self._activate_context()
        viewport = mujoco.MjrRect(0, 0, camera.width_px, camera.height_px)
        mujoco.mjr_render(viewport, self._scenes[camera.name], context)
        pixels = np.empty((camera.height_px, camera.width_px, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, context)
        upright = pixels[::-1]
        return np.ascontiguousarray(upright[:, ::-1] if self._is_mirrored else upright)

    def _activate_context(self) -> mujoco.MjrContext:
        """Make the GL context current; create it at the first image.

        The upload of textures and meshes takes seconds, which a run without images never spends.
        """
        size = self._model.vis.global_
        for camera in self._cameras:
            size.offwidth = max(size.offwidth, camera.width_px)
            size.offheight = max(size.offheight, camera.height_px)
        if self._gl is None:
            self._gl = mujoco.GLContext(size.offwidth, size.offheight)
        self._gl.make_current()
        if self._context is None:
            self.gl_renderer = name_renderer()
            self._context = mujoco.MjrContext(self._model, _FONT_SCALE)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        return self._context
