"""Builds a MuJoCo model for display: the bodies of a `SceneGeometry`, without any physics."""

import mujoco
import numpy as np
from jaxtyping import Float32

from sim.scene_geometry import Mesh, SceneGeometry, Shape

_TYPES = {
    "plane": mujoco.mjtGeom.mjGEOM_PLANE,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "mesh": mujoco.mjtGeom.mjGEOM_MESH,
}


class SceneModel:
    """Holds the MuJoCo model and data of a viewer.

    No simulation uses them, so changes to them affect none.
    """

    def __init__(self, geometry: SceneGeometry) -> None:
        spec = mujoco.MjSpec()
        _set_fast_visuals(spec)
        for index, mesh in enumerate(geometry.meshes):
            _add_mesh(spec, index, mesh)
        bodies = {0: spec.worldbody}
        self._body_of_mocap = sorted({shape.body_index for shape in geometry.shapes} - {0})
        for index in self._body_of_mocap:
            bodies[index] = spec.worldbody.add_body(name=f"body_{index}", mocap=True)
        for shape in geometry.shapes:
            _add_shape(bodies[shape.body_index], shape, geometry)
        self.model: mujoco.MjModel = spec.compile()
        self.data = mujoco.MjData(self.model)

    def show(self, body_poses: Float32[np.ndarray, "body 7"]) -> None:
        """Move the bodies to these poses.

        Args:
            body_poses: poses as of `Drawable.body_poses`.
        """
        poses = body_poses[self._body_of_mocap]
        self.data.mocap_pos[:] = poses[:, :3]
        self.data.mocap_quat[:] = poses[:, 3:]
        mujoco.mj_kinematics(self.model, self.data)


def _set_fast_visuals(spec: mujoco.MjSpec) -> None:
    """Set a light and a quality with which software rendering takes 1/20 of the default's time."""
    quality = spec.visual.quality
    quality.offsamples = 0
    quality.shadowsize = 0
    quality.numslices = 12
    quality.numstacks = 6
    headlight = spec.visual.headlight
    headlight.ambient = [0.45] * 3
    headlight.diffuse = [0.5] * 3
    headlight.specular = [0.05] * 3
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 20.0
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.90, 0.91, 0.93],
        rgb2=[0.70, 0.72, 0.75],
        width=64,
        height=384,
    )


def _add_mesh(
    spec: mujoco.MjSpec,
    index: int,
    mesh: Mesh,
) -> None:
    added = spec.add_mesh(name=f"mesh_{index}")
    added.uservert = mesh.vertices.ravel().tolist()
    added.userface = mesh.faces.ravel().tolist()
    # The mesh may not be closed, and its inertia has no effect here.
    added.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL


def _add_shape(
    body,
    shape: Shape,
    geometry: SceneGeometry,
) -> None:
    rgba = shape.rgba.astype(float)
    geom = body.add_geom(
        type=_TYPES[shape.kind],
        pos=shape.pose[:3].tolist(),
        quat=shape.pose[3:].tolist(),
        contype=0,
        conaffinity=0,
    )
    if shape.mesh_index is None:
        geom.size = shape.size_m.tolist()
    else:
        geom.meshname = f"mesh_{shape.mesh_index}"
        colours = geometry.meshes[shape.mesh_index].colours
        if colours is not None:
            rgba[:3] = colours.mean(axis=0) / 255
    geom.rgba = rgba.tolist()
