"""Describes the shapes of a scene, small enough for a web page.

Together with one pose per body, it is enough to draw any state of the scene.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: m, in the shape's frame.
        colours: sRGB of each vertex, averaged from a texture. None: the shape's colour everywhere.
    """

    vertices: Float32[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    colours: UInt8[np.ndarray, "vertex 3"] | None = None


@dataclass(frozen=True)
class Shape:
    """One visible shape, fixed to a body.

    Attributes:
        body_index: into `SceneGeometry.body_names`.
        kind: plane, sphere, capsule, ellipsoid, cylinder, box or mesh.
        size_m: as in MuJoCo's `geom_size`: half lengths, radii. 0 of a plane means infinite.
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
    """Everything that stays constant during an episode. Body 0 is the world."""

    body_names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    meshes: tuple[Mesh, ...]
