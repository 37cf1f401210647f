"""Extracts `SceneGeometry` from a MuJoCo model."""

from collections.abc import Callable, Collection
from math import prod

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from sim.arrays import BodyPoses
from sim.light_meshes import cluster_index, cluster_vertices, mean_of_groups
from sim.scene_geometry import Mesh, SceneGeometry, Shape

# Vertices are clustered on a grid of this size, or of this share of the mesh's extent if that is
# larger.
_CELL_M = 0.004
_CELL_SHARE = 1 / 30
# Meshes with fewer faces are not simplified.
_LIGHT_ENOUGH_FACES = 600

_KINDS = {
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind.upper()}")): kind
    for kind in ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box", "mesh")
}
_GEOM_TEXTURE = mujoco.mjtTextureRole.mjTEXROLE_RGB
# A geom with this colour, MuJoCo's default, shows the colour of its material.
_NO_COLOUR = np.array([0.5, 0.5, 0.5, 1], np.float32)


def extract_geometry(
    model: mujoco.MjModel,
    groups: Collection[int],
    is_shown: Callable[[str], bool] = lambda _: True,
) -> SceneGeometry:
    """Return the visible geoms of a model.

    Args:
        groups: the visual geom groups.
        is_shown: says whether the geom of a name is visible.
    """
    texture_means: dict[int, np.ndarray] = {}
    meshes: list[Mesh] = []
    # Equal meshes, as of several objects of a kind, share one entry.
    index_of: dict[bytes, int] = {}
    shapes = []
    for geom in range(model.ngeom):
        kind = _KINDS.get(int(model.geom_type[geom]))
        rgba = _rgba_of(model, geom).copy()
        texture = _texture_of(model, geom)
        if texture >= 0:
            # Many geoms share a texture, and the mean of a large one takes 0.1 s.
            if texture not in texture_means:
                texture_means[texture] = _mean_colour(_pixels_of(model, texture))
            rgba[:3] *= texture_means[texture] / 255
        is_visible = model.geom_group[geom] in groups and rgba[3] > 0
        if kind is None or not is_visible or not is_shown(model.geom(geom).name):
            continue
        mesh_index = None
        if kind == "mesh":
            mesh = _extract_mesh(model, geom)
            arrays = (mesh.vertices, mesh.faces, mesh.colours)
            key = b"".join(array.tobytes() for array in arrays if array is not None)
            mesh_index = index_of.setdefault(key, len(meshes))
            if mesh_index == len(meshes):
                meshes.append(mesh)
            if mesh.colours is not None:
                rgba = np.array([1, 1, 1, rgba[3]], np.float32)
        pose = np.concatenate([model.geom_pos[geom], model.geom_quat[geom]]).astype(np.float32)
        size = model.geom_size[geom].astype(np.float32)
        shapes.append(
            Shape(
                int(model.geom_bodyid[geom]),
                kind,
                size,
                pose,
                rgba,
                mesh_index,
            )
        )
    return SceneGeometry(
        tuple(model.body(i).name for i in range(model.nbody)), tuple(shapes), tuple(meshes)
    )


def compute_body_poses(data: mujoco.MjData) -> BodyPoses:
    """Return position [m] and quaternion wxyz of every body in the world.

    Kinematics must be up to date.
    """
    return np.concatenate([data.xpos, data.xquat], axis=1).astype(np.float32)


def _rgba_of(model: mujoco.MjModel, geom: int) -> Float32[np.ndarray, "4"]:
    """Return the colour of a geom without its texture: its own, or that of its material."""
    rgba = model.geom_rgba[geom]
    material = model.geom_matid[geom]
    if material >= 0 and np.array_equal(rgba, _NO_COLOUR):
        return model.mat_rgba[material]
    return rgba


def _texture_of(model: mujoco.MjModel, geom: int) -> int:
    """Return the texture of a geom's material; -1 if there is none."""
    material = int(model.geom_matid[geom])
    return int(model.mat_texid[material, _GEOM_TEXTURE]) if material >= 0 else -1


def _mean_colour(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "3"]:
    """Return the mean over all pixels.

    Columns are summed first, because that is many times faster.
    """
    height, width, _ = pixels.shape
    return pixels.reshape(height, 3 * width).sum(axis=0, dtype=np.uint64).reshape(width, 3).sum(
        axis=0
    ) / (height * width)


def _pixels_of(model: mujoco.MjModel, texture: int) -> UInt8[np.ndarray, "height width 3"]:
    shape = (model.tex_height[texture], model.tex_width[texture], model.tex_nchannel[texture])
    start = int(model.tex_adr[texture])
    pixels = model.tex_data[start : start + prod(map(int, shape))].reshape(shape)
    return pixels[..., :3] if shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def _extract_mesh(model: mujoco.MjModel, geom: int) -> Mesh:
    mesh = int(model.geom_dataid[geom])
    first = int(model.mesh_vertadr[mesh])
    vertices = model.mesh_vert[first : first + int(model.mesh_vertnum[mesh])].astype(np.float64)
    faces = _faces_of(model, mesh)
    colours = _vertex_colours(model, geom)
    if len(faces) > _LIGHT_ENOUGH_FACES:
        cell_m = max(_CELL_M, _CELL_SHARE * float(np.ptp(vertices, axis=0).max()))
        means, kept = cluster_vertices(vertices, faces, cell_m)
        if len(kept):
            if colours is not None:
                colours = mean_of_groups(colours, cluster_index(vertices, cell_m))
            vertices = means
            faces = kept
    used, corners = np.unique(faces, return_inverse=True)
    if colours is not None:
        colours = np.rint(colours[used]).astype(np.uint8)
    corners = corners.reshape(-1, 3).astype(np.int32)
    return Mesh(vertices[used].astype(np.float32), corners, colours)


def _faces_of(model: mujoco.MjModel, mesh: int) -> Int32[np.ndarray, "face 3"]:
    first = int(model.mesh_faceadr[mesh])
    return model.mesh_face[first : first + int(model.mesh_facenum[mesh])]


def _vertex_colours(model: mujoco.MjModel, geom: int) -> Float[np.ndarray, "vertex 3"] | None:
    """Return the texture's colour at each vertex, 0..255, as the mean over the faces' corners.

    None without a texture or without texture coordinates.
    """
    mesh = int(model.geom_dataid[geom])
    texture = _texture_of(model, geom)
    start = int(model.mesh_texcoordadr[mesh])
    if texture < 0 or start < 0:
        return None
    pixels = _pixels_of(model, texture)
    faces = _faces_of(model, mesh)
    first_face = int(model.mesh_faceadr[mesh])
    uv = model.mesh_texcoord[
        start + model.mesh_facetexcoord[first_face : first_face + len(faces)]
    ].reshape(-1, 2)
    size = np.array(pixels.shape[1::-1])
    column, row = np.minimum((uv % 1.0 * size.astype(np.float32)).astype(int), size - 1).T
    return mean_of_groups(pixels[row, column] * _rgba_of(model, geom)[:3], faces.ravel())
