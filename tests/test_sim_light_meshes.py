import numpy as np

from sim.light_meshes import cluster_index, cluster_vertices, load_light_mesh, load_stl


def sphere(n_rings=60, n_segments=120, radius_m=0.05):
    """Return vertices and faces of a closed triangulated sphere."""
    theta = np.linspace(0, np.pi, n_rings)
    phi = np.linspace(
        0,
        2 * np.pi,
        n_segments,
        endpoint=False,
    )
    t, p = np.meshgrid(theta, phi, indexing="ij")
    vertices = radius_m * np.stack(
        [np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], -1
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(n_rings - 1), np.arange(n_segments), indexing="ij")
    a = i * n_segments + j
    b = i * n_segments + (j + 1) % n_segments
    faces = np.concatenate(
        [
            np.stack([a, a + n_segments, b], -1),
            np.stack(
                [b, a + n_segments, b + n_segments],
                -1,
            ),
        ]
    )
    return vertices, faces.reshape(-1, 3)


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


def area(vertices, faces):
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def test_clustering_keeps_the_surface_and_drops_most_faces():
    vertices, faces = sphere()
    light_vertices, light_faces = cluster_vertices(vertices, faces, cell_m=0.01)
    assert len(light_faces) < len(faces) / 5
    assert np.abs(np.linalg.norm(light_vertices, axis=1) - 0.05).max() < 0.01
    np.testing.assert_allclose(
        area(light_vertices, light_faces),
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
    np.testing.assert_array_equal(cluster_index(vertices, 0.25), expected)
    faces = rng.integers(0, 40, (500, 3))
    corners = 10.0 * rng.normal(size=(40, 3))  # each in a cell of its own
    number = cluster_index(corners, 0.25)
    merged = number[faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]]
    _, first = np.unique(
        np.sort(merged, axis=1),
        axis=0,
        return_index=True,
    )
    np.testing.assert_array_equal(
        cluster_vertices(corners, faces, 0.25)[1],
        merged[np.sort(first)],
    )
    assert len(first) < len(merged)


def test_cells_smaller_than_every_edge_change_nothing_but_the_order():
    vertices = np.eye(3)
    faces = np.array([[0, 1, 2]])
    light_vertices, light_faces = cluster_vertices(vertices, faces, cell_m=1e-6)
    assert sorted(map(tuple, light_vertices[light_faces[0]])) == sorted(map(tuple, vertices))


def test_no_face_is_degenerate_or_twice():
    _, faces = cluster_vertices(*sphere(), cell_m=0.01)
    corners = np.sort(faces, axis=1)
    assert (np.diff(corners, axis=1) > 0).all()
    assert len(np.unique(corners, axis=0)) == len(corners)


def test_stl_round_trip(tmp_path):
    vertices, faces = sphere(n_rings=6, n_segments=8)
    write_stl(tmp_path / "sphere.stl", vertices, faces)
    read_vertices, read_faces = load_stl(tmp_path / "sphere.stl")
    np.testing.assert_allclose(read_vertices[read_faces], vertices[faces], atol=1e-7)


def test_the_cache_gives_the_same_mesh_and_survives_damage(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_stl(tmp_path / "sphere.stl", *sphere())
    made = load_light_mesh(tmp_path / "sphere.stl", 0.01)
    (cached,) = (tmp_path / "cache").rglob("*.npz")
    read = load_light_mesh(tmp_path / "sphere.stl", 0.01)
    cached.write_bytes(cached.read_bytes()[:100])
    remade = load_light_mesh(tmp_path / "sphere.stl", 0.01)
    for other in (read, remade):
        assert all(np.array_equal(a, b) for a, b in zip(made, other, strict=True))


def test_an_unwritable_cache_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_stl(tmp_path / "sphere.stl", *sphere())
    assert len(load_light_mesh(tmp_path / "sphere.stl", 0.01)[1])
