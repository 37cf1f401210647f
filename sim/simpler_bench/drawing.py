"""Reads what the viewer draws from a scene of SAPIEN: shapes, poses and the camera.

Body 0 is the world. The others are the scene's visible entities, in SAPIEN's order, which is the
same in all episodes of a task.
"""

from typing import Any

import numpy as np
import sapien
from jaxtyping import Float, UInt8

from sim.arrays import BodyPoses, ProjectionMatrix
from sim.scene_geometry import Mesh, SceneGeometry, Shape
from sim.simpler_bench.conventions import CAMERA, IMAGE_SIZE_PX

_WORLD_POSE = (0, 0, 0, 1, 0, 0, 0)
_GAMMA = 2.2


def extract_geometry(scene: Any) -> SceneGeometry:
    """Return all visible shapes. Those of the Bridge tasks are meshes.

    Args:
        scene: ManiSkill's environment, as elsewhere in this file.
    """
    names = ["world"]
    shapes = []
    meshes: list[Mesh] = []
    for body_index, (entity, rendered) in enumerate(_list_visible(scene), start=1):
        names.append(entity.name)
        for shape in rendered.render_shapes:
            for part in shape.parts:
                rgba = _find_colour(part.material)
                pose = _to_array(shape.local_pose)
                size_m = np.zeros(3, np.float32)
                shapes.append(Shape(body_index, "mesh", size_m, pose, rgba, len(meshes)))
                meshes.append(_make_mesh(part, np.asarray(shape.scale)))
    return SceneGeometry(tuple(names), tuple(shapes), tuple(meshes))


def read_body_poses(scene: Any) -> BodyPoses:
    """Return position [m] and quaternion wxyz of each body of `extract_geometry`, world."""
    poses = [_to_array(entity.pose) for entity, _ in _list_visible(scene)]
    return np.array([_WORLD_POSE, *poses], np.float32)


def compute_projection(scene: Any, height_px: int, width_px: int) -> ProjectionMatrix:
    """Return the matrix of `Drawable.projection` for an image of the camera in that size.

    The camera stands still. SAPIEN's intrinsics count pixels from the edge of the image too.
    """
    camera = scene._sensors[CAMERA].get_params()
    intrinsic, extrinsic = (
        camera[name][0].numpy().astype(np.float64) for name in ("intrinsic_cv", "extrinsic_cv")
    )
    full_height_px, full_width_px = IMAGE_SIZE_PX
    scale = np.diag([width_px / full_width_px, height_px / full_height_px, 1])
    return scale @ intrinsic @ extrinsic


def _list_visible(scene: Any) -> list[tuple[Any, Any]]:
    """Return each visible entity with its component that is rendered."""
    (sub_scene,) = scene.scene.sub_scenes
    found = []
    for entity in sub_scene.entities:
        rendered = entity.find_component_by_type(sapien.render.RenderBodyComponent)
        if rendered is not None and rendered.visibility > 0:
            found.append((entity, rendered))
    return found


def _find_colour(material: Any) -> Float[np.ndarray, "4"]:
    """Return the colour of a surface. The cubes are black and glow, in linear colours."""
    rgba = np.array(material.base_color, np.float32)
    glow = np.array(material.emission[:3], np.float32) ** (1 / _GAMMA)
    rgba[:3] = np.maximum(rgba[:3], glow).clip(0, 1)
    return rgba


def _make_mesh(part: Any, scale: np.ndarray) -> Mesh:
    """Return a part of a mesh, whose corners SAPIEN keeps once for each triangle."""
    corners = np.asarray(part.vertices) * scale
    colours = _sample_texture(part)
    columns = corners if colours is None else np.hstack([corners, colours])
    unique, index = np.unique(columns.astype(np.float32), axis=0, return_inverse=True)
    return Mesh(
        unique[:, :3],
        index.reshape(-1)[np.asarray(part.triangles)].astype(np.int32),
        None if colours is None else unique[:, 3:].astype(np.uint8),
    )


def _sample_texture(part: Any) -> UInt8[np.ndarray, "vertex 3"] | None:
    """Return the texture's colour at each vertex; None if there is no texture."""
    texture = part.material.base_color_texture
    if texture is None:
        return None
    pixels = np.asarray(texture.download())
    u, v = np.asarray(part.get_vertex_uv()).T % 1
    rows = ((1 - v) * (texture.height - 1)).round().astype(int)
    columns = (u * (texture.width - 1)).round().astype(int)
    return pixels[rows, columns, :3]


def _to_array(pose: Any) -> Float[np.ndarray, "7"]:
    return np.concatenate([pose.p, pose.q]).astype(np.float32)
