"""What a scene looks like: light enough for a web page, with one pose a body to draw a moment."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: m, in the shape's frame.
        colours: sRGB of each vertex, which a texture was averaged into; None: the shape's colour
            throughout.
    """

    vertices: Float32[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    colours: UInt8[np.ndarray, "vertex 3"] | None = None


@dataclass(frozen=True)
class Shape:
    """Something to draw, fixed to a body.

    Attributes:
        body_index: into `SceneGeometry.body_names`.
        kind: plane, sphere, capsule, ellipsoid, cylinder, box or mesh.
        size_m: as MuJoCo's `geom_size`: half lengths, radii; 0 of a plane is infinite.
        pose: position [m] and quaternion wxyz in the body's frame.
        rgba: sRGB and opacity, 0..1.
        mesh_index: into `SceneGeometry.meshes`; None for the other kinds.
    """

    body_index: int
    kind: str
    size_m: Float32[np.ndarray, "3"]
    pose: Float32[np.ndarray, "7"]
    rgba: Float32[np.ndarray, "4"]
    mesh_index: int | None = None


@dataclass(frozen=True)
class SceneGeometry:
    """All that does not change while an episode runs. The world is body 0."""

    body_names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    meshes: tuple[Mesh, ...]
