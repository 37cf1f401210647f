"""The SO-101 keeps the contract of every environment."""

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from sim.env import Env, Expert
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import make_env
from sim.so101.expert import PickPlaceExpert
from sim.so101.scene_config import DEFAULT_SCENE


@pytest.fixture(scope="module")
def env():
    env = make_env(
        "so101/pick_place",
        image_sizes={
            "overhead_cam": (48, 64),
            "overhead_cam_depth": (48, 64),
        },
    )
    yield env
    env.close()


def drive(env, n_steps, seed=0):
    """Execute random actions near the present joints, and return the trajectory."""
    rng = np.random.default_rng(seed)
    trace = []
    for _ in range(n_steps):
        result = env.step(env.state() + rng.normal(0, 6, 6))
        trace.append(
            np.concatenate(
                [
                    env.snapshot(),
                    [result.progress[0].measures["object_height_m"]],
                ]
            )
        )
    return np.array(trace)


def test_an_episode_depends_on_its_index_alone(env):
    env.reset(7)
    first = env.snapshot()
    for other in (0, 3, 7, 11):
        env.reset(other)
        drive(env, 5, seed=other)
    env.reset(7)
    np.testing.assert_array_equal(env.snapshot(), first)


def test_another_process_starts_the_episode_alike(env):
    code = (
        "from sim.registry import make_env\n"
        "env = make_env('so101/pick_place', image_sizes={})\n"
        "env.reset(7)\n"
        "print(env.snapshot().tobytes().hex())"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    env.reset(7)
    assert said.strip() == env.snapshot().tobytes().hex()


def test_episodes_differ_and_cover_the_declared_range(blind_env):
    positions = []
    for index in range(200):
        blind_env.reset(index)
        positions.append(blind_env.progress()[0].object_pos_world[:2])
    x, y = np.array(positions).T
    for values, (low, high) in ((x, DEFAULT_SCENE.block_x_m), (y, DEFAULT_SCENE.block_y_m)):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high


def test_units_do_not_change_the_world(blind_env):
    other = make_env("so101/pick_place_range", image_sizes={})
    for env in (blind_env, other):
        env.reset(4)
    np.testing.assert_array_equal(blind_env.snapshot(), other.snapshot())
    target_rad = np.array([0.3, -0.5, 0.4, 1.2, 0.1, 0.6])
    for env in (blind_env, other):
        for _ in range(30):
            env.step(env.units.from_rad(target_rad))
    np.testing.assert_allclose(blind_env.snapshot(), other.snapshot(), atol=1e-9)


@pytest.mark.parametrize(
    "n_before",
    [0, 3, 70],
)
def test_restore_continues_bit_for_bit(env, n_before):
    """A restored grasp continues exactly, too, with its contacts and warm starts."""
    env.reset(5)
    expert = PickPlaceExpert(env)
    for _ in range(n_before):
        env.step(expert.action())
    snapshot, (progress,) = env.snapshot(), env.progress()
    went_on = drive(env, 40)
    env.reset(9)
    drive(env, 7)
    env.restore(snapshot)
    assert env.progress()[0].stages == progress.stages
    np.testing.assert_array_equal(
        env.progress()[0].object_pos_world,
        progress.object_pos_world,
    )
    np.testing.assert_array_equal(drive(env, 40), went_on)


def test_looking_changes_nothing(env):
    env.reset(2)
    blind = drive(env, 20)
    env.reset(2)
    rng = np.random.default_rng(0)
    looked = []
    for _ in range(20):
        env.observe()
        result = env.step(env.state() + rng.normal(0, 6, 6))
        looked.append(
            np.concatenate(
                [
                    env.snapshot(),
                    [result.progress[0].measures["object_height_m"]],
                ]
            )
        )
    np.testing.assert_array_equal(blind, looked)


def test_nothing_but_observe_renders(env, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("rendered")

    monkeypatch.setattr(mujoco.Renderer, "render", forbidden)
    env.reset(0)
    env.step(env.state())
    env.restore(env.snapshot())
    env.progress()
    with pytest.raises(AssertionError, match="rendered"):
        env.observe()


def test_the_image_is_upright(env):
    """The overhead image shows +x upwards.

    The block at y < 0 is on the robot's right. The bowl is at y > 0.
    """
    env.reset(0)
    image = env.observe().images["overhead_cam"].astype(int)
    red = (image[..., 0] > 120) & (image[..., 1] < 80)
    blue = (image[..., 2] > 100) & (image[..., 0] < 80)
    assert np.nonzero(red)[1].mean() > 32 > np.nonzero(blue)[1].mean()
    x, y, _ = env.progress()[0].object_pos_world
    half_m = (
        np.tan(np.deg2rad(DEFAULT_SCENE.overhead_fovy_deg / 2)) * DEFAULT_SCENE.overhead_pos_m[2]
    )
    row = 24 - 24 * (x - DEFAULT_SCENE.overhead_pos_m[0]) / half_m
    column = 32 - 24 * (y - DEFAULT_SCENE.overhead_pos_m[1]) / half_m
    np.testing.assert_allclose(
        [
            np.nonzero(red)[0].mean(),
            np.nonzero(red)[1].mean(),
        ],
        [row, column],
        atol=1.5,
    )


@pytest.fixture(scope="module")
def looking_env():
    """Return an environment with three cameras of different image shapes."""
    sizes = {
        "overhead_cam": (48, 64),
        "wrist_cam": (60, 100),
        "viewer_cam": (40, 90),
    }
    env = make_env("so101/pick_place", image_sizes=sizes)
    yield env
    env.close()


def segmented_middle(env, camera, geom, finer=8):
    """Return the mean pixel (u, v) of a geom in MuJoCo's own segmentation.

    Pixels are those of the observed image. The gripper above the geom is not drawn.
    """
    renderer = mujoco.Renderer(env.model, camera.height_px * finer, camera.width_px * finer)
    renderer.enable_segmentation_rendering()
    shown = mujoco.MjvOption()
    shown.geomgroup[:] = np.arange(6) == env.model.geom(geom).group[0]
    renderer.update_scene(env.data, camera.name, shown)
    rows, columns = np.nonzero(renderer.render()[..., 0] == env.model.geom(geom).id)
    renderer.close()
    assert len(rows) > 3, f"{camera.name} does not see it"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / finer


@pytest.mark.parametrize(
    "camera_index",
    [0, 1, 2],
)
@pytest.mark.parametrize(
    "offset_m",
    [
        (0.0, 0.0, 0.06),
        (0.02, -0.02, 0.08),
        (-0.02, 0.02, 0.07),
    ],
)
def test_the_projection_is_where_mujoco_draws(looking_env, camera_index, offset_m):
    """MuJoCo's own segmentation shows where a block of 3 mm is, seen from all sides."""
    env = looking_env
    camera = looking_env.spec.cameras[camera_index]
    env.reset(3)
    block = env.model.geom("block")
    size = env.model.geom("block").size.copy()
    env.place_arm(PickPlaceExpert(env).pose_above_block(np.array(offset_m)))
    block.size[:] = 0.0015
    try:
        seen = segmented_middle(env, camera, "block")
    finally:
        block.size[:] = size
    u, v, depth_m = env.projection(camera.name) @ np.append(env.data.geom("block").xpos, 1.0)
    np.testing.assert_allclose([u / depth_m, v / depth_m], seen, atol=0.1)
    position = env.data.camera(camera.name).xpos
    assert 0 < depth_m <= np.linalg.norm(env.data.geom("block").xpos - position)


def test_the_projection_is_of_the_image_that_is_observed(looking_env):
    """The oracle is the middle of the red pixels, without segmentation."""
    env = looking_env
    env.reset(0)
    image = env.observe().images["overhead_cam"].astype(int)
    rows, columns = np.nonzero((image[..., 0] > 120) & (image[..., 1] < 80))
    u, v, depth_m = env.projection("overhead_cam") @ np.append(
        env.progress()[0].object_pos_world, 1.0
    )
    np.testing.assert_allclose(
        [u / depth_m, v / depth_m], [columns.mean() + 0.5, rows.mean() + 0.5], atol=1.0
    )
    assert depth_m == pytest.approx(
        DEFAULT_SCENE.overhead_pos_m[2] - 0.0125,
        abs=1e-6,
    )


def test_the_edges_of_an_image_are_its_field_of_view(looking_env):
    """The field of view ends at the edges of the image.

    A point at half the field of view from the overhead camera's axis is at v = 0, the far edge.
    """
    x, y, z = DEFAULT_SCENE.overhead_pos_m
    half_m = z * np.tan(np.deg2rad(DEFAULT_SCENE.overhead_fovy_deg / 2))
    projection = looking_env.projection("overhead_cam")
    for point, (u, v) in (
        ((x, y, 0), (32, 24)),
        ((x + half_m, y, 0), (32, 0)),
        ((x, y - half_m * 4 / 3, 0), (64, 24)),
    ):
        homogeneous = projection @ (*point, 1.0)
        np.testing.assert_allclose(
            homogeneous[:2] / homogeneous[2],
            (u, v),
            atol=1e-9,
        )


def test_a_wrist_camera_moves_with_the_arm_and_an_unobserved_one_has_no_projection(
    env, looking_env
):
    looking_env.reset(0)
    before = looking_env.projection("wrist_cam")
    looking_env.place_arm(np.array(DEFAULT_SCENE.home_rad) + 0.2)
    assert np.abs(looking_env.projection("wrist_cam") - before).max() > 0.1
    np.testing.assert_array_equal(
        env.projection("overhead_cam"), env.projection("overhead_cam_depth")
    )
    with pytest.raises(
        WhiskerError, match="camera 'wrist_cam': expected one that is observed: overhead_cam, over"
    ):
        env.projection("wrist_cam")


def test_a_camera_with_a_sensor_has_no_fovy_to_project_by(looking_env):
    model = looking_env.model
    sensor = model.cam_sensorsize[model.camera("overhead_cam").id]
    sensor[:] = 0.01
    with pytest.raises(WhiskerError, match="orthographic or has a sensor size"):
        looking_env.projection("overhead_cam")
    sensor[:] = 0


def test_its_goal_is_one_and_met_when_the_block_is_placed(blind_env):
    blind_env.reset(0)
    assert [goal.name for goal in blind_env.spec.goals] == [
        "in block bowl"
    ] and blind_env.spec.n_episodes is None
    (goal,) = blind_env.progress()
    assert not goal.met and set(goal.measures) == {"object_height_m", "goal_distance_m"}
    expert = blind_env.make_expert()
    results = [blind_env.step(expert.action()) for _ in range(140)]
    assert all(goal.met == goal.stages["placed"] for result in results for goal in result.progress)
    assert results[-1].success and results[-1].progress[0].met


def test_its_expert_can_be_given_a_fault_by_name(blind_env):
    assert isinstance(blind_env, Env) and isinstance(
        blind_env.make_expert("never_close"),
        Expert,
    )
    with pytest.raises(UnknownNameError, match="Did you mean 'never_close'"):
        blind_env.make_expert("never_closes")


def test_depth_is_the_distance_to_the_table(env):
    env.reset(0)
    depth = env.observe().images["overhead_cam_depth"]
    low, high = DEFAULT_SCENE.depth_range_m
    corner_m = depth[2, 60, 0] / 255 * (high - low) + low
    assert corner_m == pytest.approx(
        DEFAULT_SCENE.overhead_pos_m[2],
        abs=0.004,
    )
    assert (depth[..., 0] == depth[..., 2]).all()


def test_actions_outside_the_range_are_cut_and_said_to_be(blind_env):
    blind_env.reset(0)
    assert not blind_env.step(np.array(blind_env.spec.action.high, dtype=np.float32)).clipped
    assert blind_env.step(np.array(blind_env.spec.action.high) + 1).clipped


def test_the_grip_holds_by_friction_alone(blind_env):
    """The carried block slips a little. Without friction it stays on the table."""
    slips = []
    for friction in (None, 0.0):
        blind_env.reset(1)
        saved = blind_env.model.geom_friction.copy()
        if friction is not None:
            blind_env.model.geom_friction[:] = friction
        expert = PickPlaceExpert(blind_env)
        highest_m = 0.0
        grasp_offset = None
        for _ in range(100):
            progress = blind_env.step(expert.action()).progress[0]
            highest_m = max(highest_m, progress.measures["object_height_m"])
            if progress.stages["lifted"]:
                tcp = blind_env.data.site("tcp")
                offset = tcp.xmat.reshape(3, 3).T @ (progress.object_pos_world - tcp.xpos)
                grasp_offset = offset if grasp_offset is None else grasp_offset
                slips.append(np.linalg.norm(offset - grasp_offset))
        blind_env.model.geom_friction[:] = saved
        assert (highest_m > 0.05) == (friction is None)
    assert max(slips) < 0.005


def test_success_needs_the_block_released_and_at_rest(blind_env):
    env = blind_env
    env.reset(0)
    block = env.model.body("block").jntadr[0]
    address = env.model.jnt_qposadr[block]
    env.data.qpos[address : address + 3] = *DEFAULT_SCENE.bowl_pos_m, 0.03
    results = [env.step(env.state()) for _ in range(40)]
    first_placed = next(i for i, r in enumerate(results) if r.progress[0].stages["placed"])
    first_success = next(i for i, r in enumerate(results) if r.success)
    assert first_success == first_placed + 9
    assert (
        results[-1].progress[0].stages["over_goal"]
        and results[-1].progress[0].measures["object_height_m"] < 0.01
    )


def test_diverging_physics_is_a_crash_and_not_a_silent_reset(blind_env):
    blind_env.reset(0)
    blind_env.data.qvel[0] = 1e12
    with pytest.raises(RuntimeError, match="diverged"):
        blind_env.step(blind_env.state())
    blind_env.reset(0)
    blind_env.step(blind_env.state())


@pytest.mark.parametrize("dropped_from_m", [0.05, 0.3])
def test_heights_are_measured_from_where_the_block_rests(dropped_from_m):
    """The block starts in the air in one scene, and at rest in the default scene."""
    env = make_env("so101/pick_place", {})
    env.reset(0)
    assert env.progress()[0].measures["object_height_m"] == 0
    env.model.qpos0[env._goal.height_qpos] += dropped_from_m
    env.reset(0)
    assert env.progress()[0].measures["object_height_m"] == pytest.approx(dropped_from_m, abs=1e-3)
    hold = env.action_for(np.array(env.config.home_rad))
    for _ in range(60):
        (progress,) = env.step(hold).progress
    assert progress.measures["object_height_m"] == pytest.approx(0, abs=1e-3)
