import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sim.light_meshes import cluster_index, cluster_vertices, load_light_mesh, load_stl
from tests.spheres import make_sphere


@pytest.fixture(scope="module")
def sphere():
    return make_sphere(7000, radius_m=0.05)


@pytest.fixture
def stl(sphere, tmp_path):
    write_stl(tmp_path / "sphere.stl", *sphere)
    return tmp_path / "sphere.stl"


def write_stl(path, vertices, faces):
    record = np.zeros(
        len(faces),
        dtype=[
            ("normal", "<f4", 3),
            ("corners", "<f4", (3, 3)),
            ("attribute", "<u2"),
        ],
    )
    record["corners"] = vertices[faces]
    path.write_bytes(b"\0" * 80 + np.uint32(len(faces)).tobytes() + record.tobytes())


def test_clustering_keeps_the_surface_and_drops_most_faces(sphere):
    _, faces = sphere
    light_vertices, light_faces = cluster_vertices(*sphere, cell_m=0.01)
    assert len(light_faces) < len(faces) / 5
    assert np.abs(np.linalg.norm(light_vertices, axis=1) - 0.05).max() < 0.01
    a, b, c = light_vertices[light_faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert_allclose(
        area,
        4 * np.pi * 0.05**2,
        rtol=0.1,
    )


def test_vertices_and_faces_are_told_apart_as_whole_rows():
    """Rows are grouped as NumPy groups them.

    Coordinates have both signs, and faces are repeated.
    """
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(3000, 3))
    cells = np.floor(vertices / 0.25).astype(int)
    expected = np.unique(
        cells,
        axis=0,
        return_inverse=True,
    )[1].reshape(-1)
    assert_array_equal(cluster_index(vertices, 0.25), expected)
    faces = rng.integers(0, 40, (500, 3))
    corners = 10.0 * rng.normal(size=(40, 3))  # each in a cell of its own
    number = cluster_index(corners, 0.25)
    merged = number[
        faces[
            (
                faces
                != np.roll(
                    faces,
                    1,
                    axis=1,
                )
            ).all(axis=1)
        ]
    ]
    _, first = np.unique(
        np.sort(merged, axis=1),
        axis=0,
        return_index=True,
    )
    assert_array_equal(
        cluster_vertices(corners, faces, 0.25)[1],
        merged[np.sort(first)],
    )
    assert len(first) < len(merged)


def test_cells_smaller_than_every_edge_change_nothing_but_the_order():
    vertices = np.eye(3)
    faces = np.array([[0, 1, 2]])
    light_vertices, light_faces = cluster_vertices(
        vertices,
        faces,
        cell_m=1e-6,
    )
    assert sorted(map(tuple, light_vertices[light_faces[0]])) == sorted(map(tuple, vertices))


def test_no_face_is_degenerate_or_twice(sphere):
    _, faces = cluster_vertices(*sphere, cell_m=0.01)
    corners = np.sort(faces, axis=1)
    assert (np.diff(corners, axis=1) > 0).all()
    assert len(np.unique(corners, axis=0)) == len(corners)


def test_stl_round_trip(sphere, stl):
    vertices, faces = sphere
    read_vertices, read_faces = load_stl(stl)
    assert_allclose(
        read_vertices[read_faces],
        vertices[faces],
        atol=1e-7,
    )


def test_the_cache_gives_the_same_mesh_and_survives_damage(stl, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = load_light_mesh(stl, 0.01)
    (cached,) = (tmp_path / "cache").rglob("*.npz")
    for damage in (lambda: None, lambda: cached.write_bytes(cached.read_bytes()[:100])):
        damage()
        for one, again in zip(
            made,
            load_light_mesh(stl, 0.01),
            strict=True,
        ):
            assert_array_equal(again, one)


def test_an_unwritable_cache_costs_nothing_but_time(stl, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_light_mesh(stl, 0.01)[1])
