"""Extracted geometry agrees with MuJoCo's own kinematics and with a model made by hand."""

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from sim.model_geometry import compute_body_poses, extract_geometry
from sim.registry import make_env
from tests.spheres import make_sphere

SCENE = """
<mujoco>
  <asset>
    <texture name="halves" type="2d" builtin="flat" rgb1="1 0 0" width="2" height="2"/>
    <material name="painted" texture="halves" rgba="1 1 1 1"/>
    <material name="green" rgba="0 1 0 1"/>
    <mesh name="quad" vertex="0 0 0  1 0 0  1 1 0  0 1 0  0 0 1" texcoord="0 0  1 0  1 1  0 1  0 0"
      face="0 1 2  0 2 3  0 1 4  1 2 4  2 3 4  3 0 4"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1" rgba="0.2 0.3 0.4 1"/>
    <body name="arm" pos="1 2 3" euler="0 0 90">
      <joint type="hinge"/>
      <geom name="own" type="box" size="0.1 0.2 0.3" pos="0.5 0 0" rgba="0.9 0.1 0.1 0.5"/>
      <geom name="of_material" type="sphere" size="0.1" material="green"/>
      <geom name="hull" type="sphere" size="0.1" group="3"/>
      <geom name="glass" type="sphere" size="0.1" rgba="1 1 1 0"/>
      <geom name="textured" type="mesh" mesh="quad" material="painted"/>
      <geom name="textured_too" type="mesh" mesh="quad" material="painted" pos="0 0 2"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(SCENE)


def rotation_of(pose):
    return Rotation.from_quat(pose[3:], scalar_first=True)


def test_visible_geoms_alone_in_the_colour_that_they_have(model):
    geometry = extract_geometry(model, groups=(0,))
    assert [shape.kind for shape in geometry.shapes] == ["plane", "box", "sphere", "mesh", "mesh"]
    floor, box, sphere, *_ = geometry.shapes
    assert_allclose(floor.rgba, [0.2, 0.3, 0.4, 1])
    assert_allclose(box.rgba, [0.9, 0.1, 0.1, 0.5])
    assert_allclose(sphere.rgba, [0, 1, 0, 1])
    assert_allclose(box.size_m, [0.1, 0.2, 0.3], rtol=1e-6)
    assert geometry.body_names == ("world", "arm") and box.body_index == 1
    shown = extract_geometry(model, (0,), is_shown=lambda name: name != "floor")
    assert len(shown.shapes) == 4


def test_two_of_a_kind_share_a_mesh_whose_vertices_have_the_textures_colour(model):
    geometry = extract_geometry(model, groups=(0,))
    assert [shape.mesh_index for shape in geometry.shapes[3:]] == [0, 0] and len(
        geometry.meshes
    ) == 1
    (mesh,) = geometry.meshes
    assert mesh.colours is not None and (mesh.colours == [255, 0, 0]).all()
    assert mesh.faces.max() < len(mesh.vertices)


def test_a_vertex_has_the_pixel_of_the_texture_that_it_lies_on():
    model = mujoco.MjModel.from_xml_string(SCENE)
    pixels = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    model.tex_data[:] = pixels.ravel()
    # Each vertex has a texture coordinate in the middle of a pixel. In MuJoCo's memory, u points
    # right and v points down.
    model.mesh_facetexcoord[:] = model.mesh_face
    model.mesh_texcoord[:] = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75], [1.25, -0.75]]
    (mesh,) = extract_geometry(model, (0,)).meshes
    assert_array_equal(mesh.colours, pixels[[0, 1, 2, 3, 0]])


@pytest.mark.parametrize(
    "name",
    ["so101/pick_place", "so101/pick_place_brick"],
)
def test_shapes_on_their_bodies_are_where_mujoco_has_the_geoms(name):
    env = make_env(name, {})
    env.reset(4)
    for _ in range(5):
        env.step(np.linspace(-20, 40, 6))
    geometry = env.geometry()
    poses = env.body_poses()
    (visible,) = np.nonzero((env.model.geom_group <= 2) & (env.model.geom_rgba[:, 3] > 0))
    assert len(visible) == len(geometry.shapes) > 20
    for geom, shape in zip(visible, geometry.shapes, strict=True):
        body = poses[shape.body_index]
        turn = rotation_of(body)
        pos = body[:3] + turn.apply(shape.pose[:3])
        assert_allclose(pos, env.data.geom_xpos[geom], atol=1e-6)
        matrix = (turn * rotation_of(shape.pose)).as_matrix()
        assert_allclose(matrix.ravel(), env.data.geom_xmat[geom], atol=1e-5)


def test_a_light_mesh_is_as_large_as_the_heavy_one():
    """A sphere of many faces keeps its extent to within a cell, and loses most of its faces."""
    spec = mujoco.MjSpec()
    ball = spec.add_mesh(
        name="ball",
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    vertices, faces = make_sphere(20_000)
    ball.uservert = vertices.ravel()
    ball.userface = faces.ravel()
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname="ball",
    )
    model = spec.compile()
    (mesh,) = extract_geometry(model, (0,)).meshes
    assert len(mesh.faces) < 0.3 * model.mesh_facenum[0]
    assert_allclose(
        np.ptp(mesh.vertices, axis=0),
        np.ptp(model.mesh_vert, axis=0),
        rtol=0.06,
    )


def test_a_textured_geom_has_the_mean_colour_of_its_texture():
    """Two geoms share the texture, and one of them is tinted."""
    model = mujoco.MjModel.from_xml_string("""
    <mujoco>
      <asset>
        <texture name="shades" type="2d" builtin="gradient" rgb1="1 0.2 0" rgb2="0 0.9 0.4"\
 width="37" height="23"/>
        <material name="plain" texture="shades"/>
        <material name="tinted" texture="shades" rgba="0.5 1 0.25 1"/>
      </asset>
      <worldbody>
        <geom type="box" size="1 1 1" material="plain"/>
        <geom type="box" size="1 1 1" material="tinted"/>
      </worldbody>
    </mujoco>""")
    mean = model.tex_data.reshape(-1, 3).astype(float).mean(axis=0) / 255
    plain, tinted = extract_geometry(model, (0,)).shapes
    assert_allclose(plain.rgba[:3], mean, rtol=1e-6)
    assert_allclose(
        tinted.rgba[:3],
        mean * [0.5, 1, 0.25],
        rtol=1e-6,
    )
    assert 0.1 < plain.rgba[1] < 0.9


def test_poses_follow_a_restored_snapshot(blind_env):
    blind_env.reset(2)
    then = blind_env.body_poses()
    snapshot = blind_env.snapshot()
    blind_env.step(np.full(6, 10.0))
    assert not np.array_equal(blind_env.body_poses(), then)
    blind_env.restore(snapshot)
    assert_array_equal(blind_env.body_poses(), then)
    assert_array_equal(
        compute_body_poses(blind_env.data),
        then,
    )
