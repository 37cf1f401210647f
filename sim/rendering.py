"""Renders camera images of a MuJoCo model."""

from collections.abc import Sequence

import cv2
import mujoco
import numpy as np
from jaxtyping import Float32, Float64

from sim.arrays import Image, ProjectionMatrix
from sim.errors import WhiskerError
from sim.gl import name_renderer
from sim.spec import CameraSpec

DEPTH_SUFFIX = "_depth"


class _Renderer(mujoco.Renderer):
    """MuJoCo's renderer, whose `close` leaves the other renderers of this process as they are.

    MuJoCo 3.3 frees the GL context first, and its textures and buffers afterwards, by number. In
    the context that is then the current one, these numbers belong to another renderer, whose images
    changed from then on.
    """

    _mjr_context: mujoco.MjrContext | None

    def close(self) -> None:
        if self._gl_context and self._mjr_context:
            self._gl_context.make_current()
            self._mjr_context.free()
            self._mjr_context = None
        super().close()


class CameraRenderer:
    """Renders the cameras of one model, each in its own size, with one GL context per size.

    Images are rendered `supersampling` times larger and averaged. That gives smooth edges without
    multisampling, which costs far more in software OpenGL.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[CameraSpec],
        supersampling: int,
        shadows: bool,
    ) -> None:
        self._model = model
        self._cameras = tuple(cameras)
        self._supersampling = supersampling
        self._shadows = shadows
        self._renderers: dict[tuple[int, int], _Renderer] = {}
        self.gl_renderer = ""

    def render(self, data: mujoco.MjData) -> dict[str, Image]:
        """Return every camera's image of `data`, whose kinematics must be up to date."""
        return {camera.name: self._render_camera(camera, data) for camera in self._cameras}

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _render_camera(
        self,
        camera: CameraSpec,
        data: mujoco.MjData,
    ) -> Image:
        size = (camera.height_px * self._supersampling, camera.width_px * self._supersampling)
        if size not in self._renderers:
            height_px, width_px = size
            buffer = self._model.vis.global_
            buffer.offheight = max(buffer.offheight, height_px)
            buffer.offwidth = max(buffer.offwidth, width_px)
            self._renderers[size] = _Renderer(self._model, height_px, width_px)
            self.gl_renderer = name_renderer()  # the new renderer's context is the current one
        renderer = self._renderers[size]
        renderer.update_scene(data, camera=camera.name.removesuffix(DEPTH_SUFFIX))
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._shadows
        if camera.depth_range_m is not None:
            renderer.enable_depth_rendering()
        pixels = cv2.resize(
            renderer.render(), (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA
        )
        renderer.disable_depth_rendering()
        if camera.depth_range_m is None:
            return pixels
        return grey_of_depth(pixels, camera.depth_range_m)


def compute_projection(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    camera: CameraSpec,
) -> ProjectionMatrix:
    """Return the matrix of `Drawable.projection` for MuJoCo's upright image of a camera.

        P = [[f, 0, W/2], [0, f, H/2], [0, 0, 1]] diag(1, -1, -1) [Rᵀ | -Rᵀ c]
        f = H / (2 tan(fovy / 2))

    W and H are the image size [px], c the camera's position [m], and the columns of R its axes in
    the world: x to the right, y up, -z into the scene.

    Args:
        data: positions must be up to date.

    Raises:
        WhiskerError: the camera is not a pinhole camera with a vertical field of view.
    """
    index = model.camera(camera.name.removesuffix(DEPTH_SUFFIX)).id
    if model.cam_sensorsize[index].any() or model.cam_orthographic[index]:
        raise WhiskerError(
            f"projection of camera {camera.name!r}",
            expected="a perspective camera with a fovy",
            got="one that is orthographic or has a sensor size",
        )
    axes = data.cam_xmat[index].reshape(3, 3)
    return (
        compute_intrinsics(camera)
        @ np.diag([1.0, -1.0, -1.0])
        @ np.column_stack([axes.T, -axes.T @ data.cam_xpos[index]])
    )


def compute_intrinsics(camera: CameraSpec) -> Float64[np.ndarray, "3 3"]:
    """Return [[f, 0, W/2], [0, f, H/2], [0, 0, 1]], in px, of a camera's upright image."""
    focal_px = camera.height_px / (2 * np.tan(np.deg2rad(camera.fovy_deg) / 2))
    return np.array(
        [
            [focal_px, 0, camera.width_px / 2],
            [0, focal_px, camera.height_px / 2],
            [0, 0, 1],
        ]
    )


def grey_of_depth(
    depth_m: Float32[np.ndarray, "height width"],
    range_m: tuple[float, float],
) -> Image:
    """Map distances along the optical axis linearly to 0..255, equal in three channels.

    Distances outside of the range are clipped.
    """
    near, far = range_m
    grey = np.rint(np.clip((depth_m - near) / (far - near), 0.0, 1.0) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
