"""Extracts `SceneGeometry` from a MuJoCo model."""

from collections.abc import Callable, Collection

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

_GEOM = mujoco.mjtGeom
_KINDS = {
    int(_GEOM.mjGEOM_PLANE): "plane",
    int(_GEOM.mjGEOM_SPHERE): "sphere",
    int(_GEOM.mjGEOM_CAPSULE): "capsule",
    int(_GEOM.mjGEOM_ELLIPSOID): "ellipsoid",
    int(_GEOM.mjGEOM_CYLINDER): "cylinder",
    int(_GEOM.mjGEOM_BOX): "box",
    int(_GEOM.mjGEOM_MESH): "mesh",
}
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
    colours = _MaterialColours(model)
    meshes = _MeshTable()
    shapes = []
    for geom in range(model.ngeom):
        kind = _KINDS.get(int(model.geom_type[geom]))
        rgba = colours.of_geom(geom)
        is_visible = model.geom_group[geom] in groups and rgba[3] > 0
        if kind is None or not is_visible or not is_shown(model.geom(geom).name):
            continue
        mesh_index = None
        if kind == "mesh":
            mesh = _extract_mesh(model, geom)
            mesh_index = meshes.add(mesh)
            if mesh.colours is not None:
                rgba = np.array([1, 1, 1, rgba[3]], np.float32)
        pose = np.concatenate([model.geom_pos[geom], model.geom_quat[geom]]).astype(np.float32)
        size = model.geom_size[geom].astype(np.float32)
        body = int(model.geom_bodyid[geom])
        shapes.append(Shape(body, kind, size, pose, rgba, mesh_index))
    body_names = tuple(model.body(i).name for i in range(model.nbody))
    return SceneGeometry(body_names, tuple(shapes), tuple(meshes.meshes))


class _MeshTable:
    """Collects meshes. Equal meshes, as of several objects of a kind, share one entry."""

    def __init__(self) -> None:
        self.meshes: list[Mesh] = []
        self._index_of: dict[bytes, int] = {}

    def add(self, mesh: Mesh) -> int:
        """Return the index of the mesh, which is added if it is new."""
        key = mesh.vertices.tobytes() + mesh.faces.tobytes()
        if mesh.colours is not None:
            key += mesh.colours.tobytes()
        if key not in self._index_of:
            self._index_of[key] = len(self.meshes)
            self.meshes.append(mesh)
        return self._index_of[key]


def compute_body_poses(data: mujoco.MjData) -> BodyPoses:
    """Return position [m] and quaternion wxyz of every body in the world.

    Kinematics must be up to date.
    """
    return np.concatenate([data.xpos, data.xquat], axis=1).astype(np.float32)


class _MaterialColours:
    """Computes the colours of geoms.

    Texture means are cached, because many geoms share a texture and a large one takes 0.1 s.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._texture_mean: dict[int, np.ndarray | None] = {}

    def of_geom(self, geom: int) -> Float32[np.ndarray, "4"]:
        """Return the colour of a geom, computed as MuJoCo's renderer does.

        It combines the geom's colour, its material and the mean of its texture.
        """
        model = self._model
        rgba = model.geom_rgba[geom].copy()
        material = int(model.geom_matid[geom])
        if material < 0:
            return rgba
        if np.array_equal(rgba, _NO_COLOUR):
            rgba = model.mat_rgba[material].copy()
        mean = self._mean_of_texture(material)
        if mean is not None:
            rgba[:3] *= mean / 255
        return rgba

    def _mean_of_texture(self, material: int) -> Float[np.ndarray, "3"] | None:
        texture = int(self._model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
        if texture not in self._texture_mean:
            pixels = _texture_of(self._model, material)
            self._texture_mean[texture] = None if pixels is None else _mean_colour(pixels)
        return self._texture_mean[texture]


def _mean_colour(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "3"]:
    """Return the mean over all pixels.

    Columns are summed first, because that is many times faster.
    """
    height, width, _ = pixels.shape
    of_rows = pixels.reshape(height, 3 * width).sum(
        axis=0,
        dtype=np.uint64,
    )
    return of_rows.reshape(width, 3).sum(axis=0) / (height * width)


def _texture_of(model: mujoco.MjModel, material: int) -> UInt8[np.ndarray, "height width 3"] | None:
    texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
    if texture < 0:
        return None
    height = int(model.tex_height[texture])
    width = int(model.tex_width[texture])
    n_channels = int(model.tex_nchannel[texture])
    start = int(model.tex_adr[texture])
    flat = model.tex_data[start : start + height * width * n_channels]
    pixels = flat.reshape(height, width, n_channels)
    if n_channels >= 3:
        return pixels[..., :3]
    return np.repeat(
        pixels[..., :1],
        3,
        axis=-1,
    )


def _extract_mesh(model: mujoco.MjModel, geom: int) -> Mesh:
    mesh = int(model.geom_dataid[geom])
    first_vertex = int(model.mesh_vertadr[mesh])
    n_vertices = int(model.mesh_vertnum[mesh])
    faces = _faces_of(model, mesh)
    vertices = model.mesh_vert[first_vertex : first_vertex + n_vertices].astype(np.float64)
    colours = _vertex_colours(model, geom)
    if len(faces) > _LIGHT_ENOUGH_FACES:
        vertices, faces, colours = _simplify(vertices, faces, colours)
    used, corners = np.unique(faces, return_inverse=True)
    if colours is not None:
        colours = np.rint(colours[used]).astype(np.uint8)
    return Mesh(
        vertices[used].astype(np.float32),
        corners.reshape(-1, 3).astype(np.int32),
        colours,
    )


def _faces_of(model: mujoco.MjModel, mesh: int) -> Int32[np.ndarray, "face 3"]:
    first = int(model.mesh_faceadr[mesh])
    return model.mesh_face[first : first + int(model.mesh_facenum[mesh])]


def _simplify(
    vertices: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Cluster the vertices of a mesh; unchanged if no face would remain."""
    extent_m = float(np.ptp(vertices, axis=0).max())
    cell_m = max(_CELL_M, _CELL_SHARE * extent_m)
    means, kept = cluster_vertices(vertices, faces, cell_m)
    if not len(kept):
        return vertices, faces, colours
    if colours is not None:
        colours = mean_of_groups(colours, cluster_index(vertices, cell_m))
    return means, kept, colours


def _vertex_colours(model: mujoco.MjModel, geom: int) -> Float[np.ndarray, "vertex 3"] | None:
    """Return the texture's colour at each vertex, 0..255, as the mean over the faces' corners.

    None without a texture or without texture coordinates.
    """
    mesh = int(model.geom_dataid[geom])
    material = int(model.geom_matid[geom])
    texture = _texture_of(model, material) if material >= 0 else None
    start = int(model.mesh_texcoordadr[mesh])
    if texture is None or start < 0:
        return None
    faces = _faces_of(model, mesh)
    first_face = int(model.mesh_faceadr[mesh])
    corners = model.mesh_facetexcoord[first_face : first_face + len(faces)]
    uv = model.mesh_texcoord[start + corners].reshape(-1, 2)
    height, width = texture.shape[:2]
    column = np.minimum((uv[:, 0] % 1.0 * width).astype(int), width - 1)
    row = np.minimum((uv[:, 1] % 1.0 * height).astype(int), height - 1)
    tint = _tint_of(model, geom, material)
    return mean_of_groups(texture[row, column] * tint, faces.ravel())


def _tint_of(
    model: mujoco.MjModel,
    geom: int,
    material: int,
) -> Float32[np.ndarray, "3"]:
    rgba = model.geom_rgba[geom]
    if np.array_equal(rgba, _NO_COLOUR):
        rgba = model.mat_rgba[material]
    return rgba[:3]
