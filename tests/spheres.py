"""Meshes of spheres."""

import numpy as np
from scipy.spatial import ConvexHull


def make_sphere(n_vertices, radius_m=1.0):
    """Return vertices and outward faces of a closed triangulated sphere."""
    vertices = np.random.default_rng(0).normal(size=(n_vertices, 3))
    vertices *= radius_m / np.linalg.norm(vertices, axis=1, keepdims=True)
    hull = ConvexHull(vertices)
    faces = hull.simplices
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    is_inward = (normals * corners[:, 0]).sum(axis=1) < 0
    faces[is_inward] = faces[is_inward, ::-1]
    return vertices, faces
