"""Images of a moment that are drawn only if somebody looks.

robosuite renders every camera in every control step, which is 95 % of the step, though a policy
that executes a chunk looks once a chunk. What an image shows is fixed when MuJoCo fills its
abstract scene, which takes microseconds; the drawing can wait, and the pixels are the same.
"""

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from jaxtyping import Float64, UInt8

from sim.gl import name_renderer
from sim.spec import CameraSpec

# As in robosuite.utils.binding_utils.MjRenderContext: other sizes of buffer or scene could move a
# pixel.
_MAX_GEOMS = 1000
_FONT_SCALE = mujoco.mjtFontScale.mjFONTSCALE_150
_COLLISION_GROUP, VISUAL_GROUP = 0, 1


class DeferredRenderer:
    """The cameras of one model: `capture` fixes what they show, `render` draws it.

    Images are turned by 180 degrees against OpenGL's, as every published LIBERO policy was trained:
    upright, but mirrored left to right (lerobot/processor/env_processor.py, LiberoProcessorStep).
    """

    def __init__(
        self, model: mujoco.MjModel, cameras: Sequence[CameraSpec], model_cameras: Mapping[str, str]
    ) -> None:
        """Args:
        model_cameras: name of a camera in its spec → name in the model, where it is another.
        """
        self._model = model
        self._cameras = tuple(cameras)
        self._scenes = {
            camera.name: mujoco.MjvScene(model, maxgeom=_MAX_GEOMS) for camera in cameras
        }
        self._views = {
            camera.name: _view_of(model, model_cameras.get(camera.name, camera.name))
            for camera in cameras
        }
        self._option = mujoco.MjvOption()
        self._option.geomgroup[_COLLISION_GROUP], self._option.geomgroup[VISUAL_GROUP] = 0, 1
        self._perturb = mujoco.MjvPerturb()
        self._images: dict[str, np.ndarray] = {}
        self._gl: mujoco.GLContext | None = None
        self._context: mujoco.MjrContext | None = None
        self.gl_renderer = ""

    def capture(self, data: mujoco.MjData) -> None:
        """Every camera shows this moment from now on. `data` may change after."""
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

    def render(self) -> dict[str, UInt8[np.ndarray, "_height _width 3"]]:
        """The images of the captured moment; drawn once, however often they are asked for."""
        for camera in self._cameras:
            if camera.name not in self._images:
                self._images[camera.name] = self._draw(camera)
        return {name: image.copy() for name, image in self._images.items()}

    def projection(self, camera: CameraSpec) -> Float64[np.ndarray, "3 4"]:
        """Return the matrix of `Drawable.projection` at the captured moment."""
        left, right = self._scenes[camera.name].camera
        position = (np.array(left.pos, dtype=np.float64) + right.pos) / 2
        forward, up = np.array(left.forward, dtype=np.float64), np.array(left.up, dtype=np.float64)
        # Mirrored: what is on the right of the camera is on the left of the image.
        axes = np.stack([-np.cross(forward, up), -up, forward])
        focal_px = camera.height_px / 2 / np.tan(np.deg2rad(camera.fovy_deg) / 2)
        intrinsics = np.array(
            [[focal_px, 0, camera.width_px / 2], [0, focal_px, camera.height_px / 2], [0, 0, 1]]
        )
        return intrinsics @ np.column_stack([axes, -axes @ position])

    def close(self) -> None:
        """Free the GL context; a later `render` makes a new one."""
        if self._context is not None and self._gl is not None:
            self._gl.make_current()  # or what is freed would be another context's
            self._context.free()
            self._gl.free()
        self._gl = self._context = None

    def _draw(self, camera: CameraSpec) -> UInt8[np.ndarray, "height width 3"]:
        context = self._ready_context()
        viewport = mujoco.MjrRect(0, 0, camera.width_px, camera.height_px)
        mujoco.mjr_render(viewport, self._scenes[camera.name], context)
        pixels = np.empty((camera.height_px, camera.width_px, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, viewport, context)
        return np.ascontiguousarray(pixels[::-1, ::-1])

    def _ready_context(self) -> mujoco.MjrContext:
        """Made at the first image: textures and meshes take seconds to upload, and who never looks never waits."""
        if self._context is None or self._gl is None:
            size = self._model.vis.global_
            size.offwidth = max([size.offwidth, *(camera.width_px for camera in self._cameras)])
            size.offheight = max([size.offheight, *(camera.height_px for camera in self._cameras)])
            self._gl = mujoco.GLContext(size.offwidth, size.offheight)
            self._gl.make_current()
            self.gl_renderer = name_renderer()
            self._context = mujoco.MjrContext(self._model, _FONT_SCALE)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._gl.make_current()
        return self._context


def _view_of(model: mujoco.MjModel, camera: str) -> mujoco.MjvCamera:
    view = mujoco.MjvCamera()
    view.type = mujoco.mjtCamera.mjCAMERA_FIXED
    view.fixedcamid = model.camera(camera).id
    return view
