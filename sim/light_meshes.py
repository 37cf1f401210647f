"""Visual meshes made light: OpenGL in software is bound by vertices, not by pixels.

Vertices are clustered on a regular grid and the faces that collapse are dropped, which keeps the
look (the SSIM is printed by `tests/benchmarks/evaluation.py`). Only what is looked at is touched:
physics never uses these.
"""

import hashlib
import os
from pathlib import Path
from zipfile import BadZipFile

import mujoco
import numpy as np
from jaxtyping import Float, Int

from sim.files import atomic_write


def cluster_vertices(
    vertices: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
    cell_m: float,
) -> tuple[Float[np.ndarray, "cluster 3"], Int[np.ndarray, "kept 3"]]:
    """Merge all vertices of a grid cell into their mean.

    Args:
        vertices: m.
        faces: indices into `vertices`.
        cell_m: edge of a cell.

    Returns:
        The means, and the faces that still have three different corners, each once. A mesh
        smaller than one cell loses every face.
    """
    cluster = cluster_index(vertices, cell_m)
    means = mean_of_groups(vertices, cluster)
    merged = cluster[faces]
    a, b, c = merged.T
    merged = merged[(a != b) & (b != c) & (a != c)]
    _, first = np.unique(_number_rows(np.sort(merged, axis=1)), return_index=True)
    return means, merged[np.sort(first)]


def cluster_index(
    vertices: Float[np.ndarray, "vertex 3"],
    cell_m: float,
) -> Int[np.ndarray, " vertex"]:
    """Which of the occupied cells each vertex lies in; they are numbered from 0."""
    cells = np.floor(vertices / cell_m).astype(np.int64)
    return np.unique(_number_rows(cells), return_inverse=True)[1].reshape(-1)


def _number_rows(rows: Int[np.ndarray, "row 3"]) -> Int[np.ndarray, " row"]:
    """Return a number for each row that sorts as the row does. Numbers sort many times faster."""
    if not len(rows):
        return np.empty(0, np.int64)
    from_zero = rows - rows.min(axis=0)
    return np.ravel_multi_index(tuple(from_zero.T), tuple(from_zero.max(axis=0) + 1))


def mean_of_groups(
    values: Float[np.ndarray, "value 3"],
    group: Int[np.ndarray, " value"],
) -> Float[np.ndarray, "group 3"]:
    """Row g is the mean of the values whose group is g; 0 of a group without any."""
    count = np.maximum(np.bincount(group), 1)
    return (
        np.stack([np.bincount(group, values[:, axis]) for axis in range(3)], axis=1)
        / count[:, None]
    )


def load_stl(path: Path) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
    """Read a binary STL: vertices in the file's unit (three a face, none shared) and faces."""
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    with path.open("rb") as file:
        file.seek(80)
        n_faces = int(np.fromfile(file, "<u4", 1)[0])
        corners = np.fromfile(file, record, n_faces)["corners"]
    return corners.reshape(-1, 3).astype(np.float64), np.arange(3 * n_faces).reshape(-1, 3)


def cache_folder() -> Path:
    """Where light meshes are kept between runs: `$XDG_CACHE_HOME/whisker-eval`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisker-eval"


def load_light_mesh(path: Path, cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """The clustered mesh of an STL file, from the cache when it was made before.

    The key is the file's content and the cell, so a changed file is made anew. An unwritable cache
    costs time and nothing else.
    """
    key = hashlib.sha256(path.read_bytes() + f"{cell_m!r} cluster-v1".encode()).hexdigest()[:24]
    cached = cache_folder() / "light_meshes" / f"{path.stem}-{key}.npz"
    try:
        with np.load(cached, allow_pickle=False) as arrays:
            return arrays["vertices"], arrays["faces"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # not there, or cut short by a crash: made anew
    vertices, faces = cluster_vertices(*load_stl(path), cell_m)
    try:
        with atomic_write(cached) as file:
            np.savez(
                file,
                vertices=vertices,
                faces=faces,
            )
    except OSError:
        pass
    return vertices, faces


def lighten_visual_meshes(
    spec: mujoco.MjSpec,
    mesh_folder: Path,
    cell_m: float,
) -> None:
    """Replace every mesh of `spec` by its light version, in place.

    The geoms that use them must not collide: clustering changes the hull.
    """
    for mesh in spec.meshes:
        vertices, faces = load_light_mesh(mesh_folder / mesh.file, cell_m)
        if not mesh.name:
            mesh.name = Path(mesh.file).stem
        mesh.file = ""
        mesh.uservert = (vertices * mesh.scale).ravel().tolist()
        mesh.userface = faces.ravel().tolist()
        mesh.scale = [1, 1, 1]
        # The clustered surface need not be closed; a volume inertia could fail, and nothing uses
        # it.
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
