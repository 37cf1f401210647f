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

    Images are turned by 180 degrees against OpenGL's: upright, but mirrored left to right. Every
    published LIBERO policy was trained with such images (lerobot/processor/env_processor.py,
    LiberoProcessorStep).
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[CameraSpec],
        model_cameras: Mapping[str, str],
    ) -> None:
        """Allocate a scene for each camera; a GL context is made at the first image.

        Args:
            model_cameras: camera name in the spec → camera name in the model, if they differ.
        """
        self._model = model
        self._cameras = tuple(cameras)
        self._scenes: dict[str, mujoco.MjvScene] = {}
        self._views: dict[str, mujoco.MjvCamera] = {}
        for camera in cameras:
            model_camera = model_cameras.get(camera.name, camera.name)
            self._scenes[camera.name] = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
            view = self._views[camera.name] = mujoco.MjvCamera()
            view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            view.fixedcamid = model.camera(model_camera).id
        self._option = mujoco.MjvOption()
        self._option.geomgroup[_COLLISION_GROUP] = 0
        self._option.geomgroup[VISUAL_GROUP] = 1
        self._perturb = mujoco.MjvPerturb()
        self._images: dict[str, np.ndarray] = {}
        self._gl: mujoco.GLContext | None = None
        self._context: mujoco.MjrContext | None = None
        self.gl_renderer = ""

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
        left, right = self._scenes[camera.name].camera
        position = (left.pos.astype(np.float64) + right.pos) / 2
        forward = left.forward.astype(np.float64)
        up = left.up.astype(np.float64)
        # The image is mirrored: the right of the camera is the left of the image.
        axes = np.stack([-np.cross(forward, up), -up, forward])
        return compute_intrinsics(camera) @ np.column_stack([axes, -axes @ position])

    def close(self) -> None:
        """Free the GL context; a later `render` makes a new one."""
        if self._context is not None and self._gl is not None:
            # `free` acts on the current context, which could be another one.
            self._gl.make_current()
            self._context.free()
            self._gl.free()
        self._gl = None
        self._context = None

    def _draw(self, camera: CameraSpec) -> Image:
        context = self._activate_context()
        viewport = mujoco.MjrRect(0, 0, camera.width_px, camera.height_px)
        mujoco.mjr_render(viewport, self._scenes[camera.name], context)
        pixels = np.empty((camera.height_px, camera.width_px, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, context)
        return np.ascontiguousarray(pixels[::-1, ::-1])

    def _activate_context(self) -> mujoco.MjrContext:
        """Make the GL context current; create it at the first image.

        The upload of textures and meshes takes seconds, which a run without images never spends.
        """
        if self._context is None or self._gl is None:
            size = self._model.vis.global_
            for camera in self._cameras:
                size.offwidth = max(size.offwidth, camera.width_px)
                size.offheight = max(size.offheight, camera.height_px)
            self._gl = mujoco.GLContext(size.offwidth, size.offheight)
            self._gl.make_current()
            self.gl_renderer = name_renderer()
            self._context = mujoco.MjrContext(self._model, _FONT_SCALE)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._gl.make_current()
        return self._context
