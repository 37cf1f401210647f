"""`SceneGeometry` of a MuJoCo model."""

from collections.abc import Callable, Collection

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt8

from sim.light_meshes import cluster_index, cluster_vertices, mean_of_groups
from sim.scene_geometry import Mesh, SceneGeometry, Shape

# Grid on which a mesh's vertices are clustered: this, or this share of its extent where that is
# more.
_CELL_M = 0.004
_CELL_SHARE = 1 / 30
# Meshes of fewer faces are drawn as they are.
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
# A geom whose colour is this one, MuJoCo's default, shows its material's.
_NO_COLOUR = np.array([0.5, 0.5, 0.5, 1], np.float32)


def extract_geometry(
    model: mujoco.MjModel,
    groups: Collection[int],
    is_shown: Callable[[str], bool] = lambda _: True,
) -> SceneGeometry:
    """The visible geoms of a model.

    Args:
        groups: of geoms that are for eyes.
        is_shown: by the geom's name.
    """
    colours = _MaterialColours(model)
    meshes: list[Mesh] = []
    index_of: dict[bytes, int] = {}
    shapes = []
    for geom in range(model.ngeom):
        kind = _KINDS.get(int(model.geom_type[geom]))
        rgba = colours.of_geom(geom)
        is_visible = (
            model.geom_group[geom] in groups and rgba[3] > 0 and is_shown(model.geom(geom).name)
        )
        if kind is None or not is_visible:
            continue
        mesh_index = None
        if kind == "mesh":
            mesh = _extract_mesh(model, geom)
            # Several objects of a kind share one.
            key = b"".join(
                part.tobytes()
                for part in (mesh.vertices, mesh.faces, mesh.colours)
                if part is not None
            )
            mesh_index = index_of.setdefault(key, len(meshes))
            meshes += [mesh] if mesh_index == len(meshes) else []
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
        tuple(model.body(i).name for i in range(model.nbody)),
        tuple(shapes),
        tuple(meshes),
    )


def compute_body_poses(data: mujoco.MjData) -> Float32[np.ndarray, "body 7"]:
    """Position [m] and quaternion wxyz of every body in the world; kinematics must be up to date."""
    return np.concatenate([data.xpos, data.xquat], axis=1).astype(np.float32)


class _MaterialColours:
    """Mixes the colours of geoms.

    Many geoms share a texture, and the mean of a large one takes a tenth of a second.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._texture_mean: dict[int, np.ndarray | None] = {}

    def of_geom(self, geom: int) -> Float32[np.ndarray, "4"]:
        """Return the colour of the geom, its material and the mean of its texture, as MuJoCo's renderer mixes them."""
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
    """Return the mean over all pixels. To add whole rows first is many times faster."""
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
    height, width, n_channels = (
        int(a[texture]) for a in (model.tex_height, model.tex_width, model.tex_nchannel)
    )
    start = int(model.tex_adr[texture])
    pixels = model.tex_data[start : start + height * width * n_channels].reshape(
        height,
        width,
        n_channels,
    )
    return (
        pixels[..., :3]
        if n_channels >= 3
        else np.repeat(
            pixels[..., :1],
            3,
            axis=-1,
        )
    )


def _extract_mesh(model: mujoco.MjModel, geom: int) -> Mesh:
    mesh = int(model.geom_dataid[geom])
    first_face = int(model.mesh_faceadr[mesh])
    n_faces = int(model.mesh_facenum[mesh])
    first_vertex = int(model.mesh_vertadr[mesh])
    n_vertices = int(model.mesh_vertnum[mesh])
    faces = model.mesh_face[first_face : first_face + n_faces]
    vertices = model.mesh_vert[first_vertex : first_vertex + n_vertices].astype(np.float64)
    colours = _vertex_colours(model, geom, faces)
    if n_faces > _LIGHT_ENOUGH_FACES:
        cell_m = max(_CELL_M, _CELL_SHARE * float(np.ptp(vertices, axis=0).max()))
        means, kept = cluster_vertices(vertices, faces, cell_m)
        if len(kept):
            colours = (
                None
                if colours is None
                else mean_of_groups(colours, cluster_index(vertices, cell_m))
            )
            vertices = means
            faces = kept
    used, faces = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], faces.reshape(-1, 3)
    colours = None if colours is None else colours[used]
    painted = None if colours is None else np.rint(colours).astype(np.uint8)
    return Mesh(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        painted,
    )


def _vertex_colours(
    model: mujoco.MjModel,
    geom: int,
    faces: Int32[np.ndarray, "face 3"],
) -> Float[np.ndarray, "vertex 3"] | None:
    """The texture where the corners of the faces lie in it, 0..255; None without a texture and coordinates in it."""
    mesh = int(model.geom_dataid[geom])
    material = int(model.geom_matid[geom])
    texture = _texture_of(model, material) if material >= 0 else None
    start = int(model.mesh_texcoordadr[mesh])
    if texture is None or start < 0:
        return None
    first_face = int(model.mesh_faceadr[mesh])
    uv = model.mesh_texcoord[
        start + model.mesh_facetexcoord[first_face : first_face + len(faces)]
    ].reshape(-1, 2)
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
    return (model.mat_rgba[material] if np.array_equal(rgba, _NO_COLOUR) else rgba)[:3]
