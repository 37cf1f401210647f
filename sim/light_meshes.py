"""Simplifies visual meshes, because software OpenGL is limited by vertices rather than pixels.

Vertices are clustered on a regular grid, and collapsed faces are dropped. That preserves the
appearance (`tests/benchmarks/evaluation.py` prints the SSIM). Physics never uses these meshes.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import mujoco
import numpy as np
from jaxtyping import Float, Int

from sim.files import atomic_write

Vertices = Float[np.ndarray, "vertex 3"]


def cluster_vertices(
    vertices: Vertices,
    faces: Int[np.ndarray, "face 3"],
    cell_m: float,
) -> tuple[Float[np.ndarray, "cluster 3"], Int[np.ndarray, "kept 3"]]:
    """Merge all vertices of a grid cell into their mean.

    Args:
        vertices: m.
        faces: indices into `vertices`.
        cell_m: edge of a cell.

    Returns:
        The means, and the faces that still have three different corners, without duplicates. A
        mesh smaller than one cell loses every face.
    """
    cluster = cluster_index(vertices, cell_m)
    means = mean_of_groups(vertices, cluster)
    merged = cluster[faces]
    # The faces whose neighbouring corners differ, around the face.
    merged = merged[(merged != np.roll(merged, 1, axis=1)).all(axis=1)]
    _, first = np.unique(_number_rows(np.sort(merged, axis=1)), return_index=True)
    return means, merged[np.sort(first)]


def cluster_index(
    vertices: Vertices,
    cell_m: float,
) -> Int[np.ndarray, " vertex"]:
    """Return the index of each vertex's grid cell. The occupied cells are numbered from 0."""
    cells = np.floor(vertices / cell_m).astype(np.int64)
    return np.unique(_number_rows(cells), return_inverse=True)[1]


def _number_rows(rows: Int[np.ndarray, "row 3"]) -> Int[np.ndarray, " row"]:
    """Return one number per row, in the order of the rows. Numbers sort many times faster."""
    if not len(rows):
        return np.empty(0, np.int64)
    from_zero = rows - rows.min(axis=0)
    return np.ravel_multi_index(tuple(from_zero.T), tuple(from_zero.max(axis=0) + 1))


def mean_of_groups(
    values: Float[np.ndarray, "value 3"],
    group: Int[np.ndarray, " value"],
) -> Float[np.ndarray, "group 3"]:
    """Return the mean of each group's values in row `group`; 0 if a group is empty."""
    count = np.maximum(np.bincount(group), 1)
    sums = [np.bincount(group, values[:, axis]) for axis in range(3)]
    return np.stack(sums, axis=1) / count[:, None]


def load_stl(path: Path) -> tuple[Vertices, Int[np.ndarray, "face 3"]]:
    """Read a binary STL file.

    Returns:
        Vertices in the file's unit (three per face, none shared), and faces.
    """
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    with path.open("rb") as file:
        file.seek(80)
        n_faces = int(np.fromfile(file, "<u4", 1)[0])
        corners = np.fromfile(file, record, n_faces)["corners"]
    vertices = corners.reshape(-1, 3).astype(np.float64)
    return vertices, np.arange(3 * n_faces).reshape(-1, 3)


def load_light_mesh(path: Path, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and faces of a simplified STL file, from the cache if possible.

    The cache is in `$XDG_CACHE_HOME/whisker-eval`. Its key covers the file's content and the cell
    size, so that a changed file is simplified again. An unwritable cache only costs time.
    """
    key = hashlib.sha256(path.read_bytes() + f"{cell_m!r} cluster-v1".encode()).hexdigest()[:24]
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cached = caches / "whisker-eval" / "light_meshes" / f"{path.stem}-{key}.npz"
    # The file may be missing, or a crash left it incomplete.
    with (
        suppress(
            OSError,
            ValueError,
            KeyError,
            EOFError,
            BadZipFile,
        ),
        np.load(cached, allow_pickle=False) as arrays,
    ):
        return arrays["vertices"], arrays["faces"]
    vertices, faces = cluster_vertices(*load_stl(path), cell_m)
    with suppress(OSError), atomic_write(cached) as file:
        np.savez(
            file,
            vertices=vertices,
            faces=faces,
        )
    return vertices, faces


def lighten_visual_meshes(
    spec: mujoco.MjSpec,
    mesh_folder: Path,
    cell_m: float,
) -> None:
    """Replace every mesh of `spec` by its simplified version, in place.

    Geoms that use them must not collide, because clustering changes the hull.
    """
    for mesh in spec.meshes:
        vertices, faces = load_light_mesh(mesh_folder / mesh.file, cell_m)
        if not mesh.name:
            mesh.name = Path(mesh.file).stem
        mesh.file = ""
        mesh.uservert = (vertices * mesh.scale).ravel().tolist()
        mesh.userface = faces.ravel().tolist()
        mesh.scale = [1, 1, 1]
        # The simplified surface may be open, for which a volume inertia can fail. Nothing uses it.
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
