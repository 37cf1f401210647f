"""The SO-101 keeps the contract of every environment."""

from contextlib import closing

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sim.contract_trial import step_through
from sim.errors import WhiskerError
from sim.registry import make_env
from sim.so101.expert import PickPlaceExpert
from sim.so101.scene_config import DEFAULT_SCENE

CAMERA_POS_M = DEFAULT_SCENE.overhead_pos_m
HALF_VIEW_M = CAMERA_POS_M[2] * np.tan(np.deg2rad(DEFAULT_SCENE.overhead_fovy_deg / 2))


@pytest.fixture(scope="module")
def env():
    sizes = dict.fromkeys(("overhead_cam", "overhead_cam_depth"), (48, 64))
    with closing(
        make_env(
            "so101/pick_place",
            sizes,
        )
    ) as env:
        yield env


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
    other = make_env(
        "so101/pick_place_range",
        image_sizes={},
    )
    for env in (blind_env, other):
        env.reset(4)
    assert_array_equal(
        blind_env.snapshot(),
        other.snapshot(),
    )
    target_rad = np.array([0.3, -0.5, 0.4, 1.2, 0.1, 0.6])
    for env in (blind_env, other):
        for _ in range(30):
            env.step(env.units.from_rad(target_rad))
    assert_allclose(
        blind_env.snapshot(),
        other.snapshot(),
        atol=1e-9,
    )


def test_a_restored_grasp_continues_bit_for_bit(env):
    """It continues with its contacts and warm starts."""
    env.reset(5)
    expert = PickPlaceExpert(env)
    for _ in range(70):
        env.step(expert.action())
    snapshot = env.snapshot()
    actions = env.state() + np.random.default_rng(0).normal(0, 6, (40, 6)).astype(np.float32)
    went_on = step_through(env, actions)
    end = env.snapshot()
    env.reset(9)
    step_through(env, actions[:7])
    env.restore(snapshot)
    assert step_through(env, actions) == went_on
    assert_array_equal(env.snapshot(), end)


def test_the_image_is_upright(env):
    """The overhead image shows +x upwards.

    The block at y < 0 is on the robot's right. The bowl is at y > 0.
    """
    env.reset(0)
    image = env.observe().images["overhead_cam"]
    blue = (image[..., 2] > 100) & (image[..., 0] < 80)
    rows, columns = np.nonzero((image[..., 0] > 120) & (image[..., 1] < 80))
    u = columns.mean() + 0.5
    v = rows.mean() + 0.5
    assert u > 32 > np.nonzero(blue)[1].mean()
    x, y, _ = env.progress()[0].object_pos_world
    row = 24 - 24 * (x - CAMERA_POS_M[0]) / HALF_VIEW_M
    column = 32 - 24 * (y - CAMERA_POS_M[1]) / HALF_VIEW_M
    assert_allclose(
        [u, v],
        [column, row],
        atol=1.0,
    )


@pytest.fixture(scope="module")
def looking_env():
    """Return an environment with three cameras of different image shapes."""
    sizes = {
        "overhead_cam": (48, 64),
        "wrist_cam": (60, 100),
        "viewer_cam": (40, 90),
    }
    with closing(
        make_env(
            "so101/pick_place",
            sizes,
        )
    ) as env:
        yield env


def segmented_middle(env, camera, geom, finer=8):
    """Return the mean pixel (u, v) of a geom in MuJoCo's own segmentation.

    Pixels are those of the observed image. The gripper above the geom is not drawn.
    """
    renderer = mujoco.Renderer(
        env.model,
        camera.height_px * finer,
        camera.width_px * finer,
    )
    renderer.enable_segmentation_rendering()
    shown = mujoco.MjvOption()
    shown.geomgroup[:] = np.arange(6) == geom.group[0]
    renderer.update_scene(
        env.data,
        camera.name,
        shown,
    )
    rows, columns = np.nonzero(renderer.render()[..., 0] == geom.id)
    renderer.close()
    assert len(rows) > 3, f"{camera.name} does not see it"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / finer


@pytest.mark.parametrize(
    "offset_m",
    [
        (0.0, 0.0, 0.06),
        (0.02, -0.02, 0.08),
        (-0.02, 0.02, 0.07),
    ],
)
def test_the_projection_is_where_mujoco_draws(looking_env, offset_m):
    """MuJoCo's own segmentation shows where a block of 3 mm is, seen from all sides."""
    env = looking_env
    env.reset(3)
    block = env.model.geom("block")
    size = block.size.copy()
    env.place_arm(PickPlaceExpert(env).pose_above_block(np.array(offset_m)))
    block.size[:] = 0.0015
    pos = env.data.geom("block").xpos
    for camera in env.spec.cameras:
        seen = segmented_middle(env, camera, block)
        u, v, depth_m = env.projection(camera.name) @ np.append(
            pos,
            1.0,
        )
        assert_allclose(
            [u / depth_m, v / depth_m],
            seen,
            atol=0.1,
        )
        assert 0 < depth_m <= np.linalg.norm(pos - env.data.camera(camera.name).xpos)
    block.size[:] = size


def test_the_edges_of_an_image_are_its_field_of_view(looking_env):
    """The field of view ends at the edges of the image.

    A point at half the field of view from the overhead camera's axis is at v = 0, the far edge.
    """
    x, y, _ = CAMERA_POS_M
    projection = looking_env.projection("overhead_cam")
    for point, pixel in (
        ((x, y), (32, 24)),
        ((x + HALF_VIEW_M, y), (32, 0)),
        ((x, y - HALF_VIEW_M * 4 / 3), (64, 24)),
    ):
        u, v, depth_m = projection @ (*point, 0.0, 1.0)
        assert depth_m == pytest.approx(
            CAMERA_POS_M[2],
            abs=1e-6,
        )
        assert_allclose(
            (u / depth_m, v / depth_m),
            pixel,
            atol=1e-9,
        )


def test_a_wrist_camera_moves_with_the_arm_and_an_unobserved_one_has_no_projection(
    env, looking_env
):
    looking_env.reset(0)
    before = looking_env.projection("wrist_cam")
    looking_env.place_arm(np.array(DEFAULT_SCENE.home_rad) + 0.2)
    assert np.abs(looking_env.projection("wrist_cam") - before).max() > 0.1
    assert_array_equal(
        env.projection("overhead_cam"),
        env.projection("overhead_cam_depth"),
    )
    with pytest.raises(
        WhiskerError, match="camera 'wrist_cam': expected one that is observed: overhead_cam, over"
    ):
        env.projection("wrist_cam")


def test_a_camera_with_a_sensor_has_no_fovy_to_project_by(looking_env):
    model = looking_env.model
    sensor = model.cam_sensorsize[model.camera("overhead_cam").id]
    sensor[:] = 0.01
    with pytest.raises(
        WhiskerError,
        match="orthographic or has a sensor size",
    ):
        looking_env.projection("overhead_cam")
    sensor[:] = 0


def test_its_goal_is_one_and_met_when_the_block_is_placed(blind_env):
    blind_env.reset(0)
    (declared,) = blind_env.spec.goals
    assert declared.name == "in block bowl" and blind_env.spec.n_episodes is None
    (goal,) = blind_env.progress()
    assert not goal.met and set(goal.measures) == {"object_height_m", "goal_distance_m"}
    expert = blind_env.make_expert()
    for _ in range(140):
        result = blind_env.step(expert.action())
        (goal,) = result.progress
        assert goal.met == goal.stages["placed"]
    assert result.success and goal.met


def test_depth_is_the_distance_to_the_table(env):
    env.reset(0)
    depth = env.observe().images["overhead_cam_depth"]
    low, high = DEFAULT_SCENE.depth_range_m
    corner_m = depth[2, 60, 0] / 255 * (high - low) + low
    assert corner_m == pytest.approx(
        CAMERA_POS_M[2],
        abs=0.004,
    )
    assert (depth[..., 0] == depth[..., 2]).all()


def lift(env):
    """Return the block's heights, and its places in the gripper while it is lifted."""
    env.reset(1)
    expert = PickPlaceExpert(env)
    tcp = env.data.site("tcp")
    heights_m = []
    offsets = []
    for _ in range(100):
        (progress,) = env.step(expert.action()).progress
        heights_m.append(progress.measures["object_height_m"])
        if progress.stages["lifted"]:
            offsets.append(tcp.xmat.reshape(3, 3).T @ (progress.object_pos_world - tcp.xpos))
    return heights_m, np.array(offsets)


def test_the_grip_holds_by_friction_alone(blind_env):
    """The carried block slips a little. Without friction it stays on the table."""
    heights_m, offsets = lift(blind_env)
    assert max(heights_m) > 0.05
    assert (
        np.linalg.norm(
            offsets - offsets[0],
            axis=1,
        ).max()
        < 0.005
    )
    friction = blind_env.model.geom_friction
    saved = friction.copy()
    friction[:] = 0.0
    heights_m, _ = lift(blind_env)
    friction[:] = saved
    assert max(heights_m) <= 0.05


def test_success_needs_the_block_released_and_at_rest(blind_env):
    env = blind_env
    env.reset(0)
    block = env.model.body("block").jntadr[0]
    address = env.model.jnt_qposadr[block]
    env.data.qpos[address : address + 3] = *DEFAULT_SCENE.bowl_pos_m, 0.03
    results = [env.step(env.state()) for _ in range(40)]
    progress = [result.progress[0] for result in results]
    first_placed = [goal.stages["placed"] for goal in progress].index(True)
    first_success = [result.success for result in results].index(True)
    assert first_success == first_placed + 9
    assert progress[-1].stages["over_goal"] and progress[-1].measures["object_height_m"] < 0.01


def test_diverging_physics_is_a_crash_and_not_a_silent_reset(blind_env):
    blind_env.reset(0)
    blind_env.data.qvel[0] = 1e12
    with pytest.raises(
        RuntimeError,
        match="diverged",
    ):
        blind_env.step(blind_env.state())
    blind_env.reset(0)
    blind_env.step(blind_env.state())


@pytest.mark.parametrize(
    "dropped_from_m",
    [0.05, 0.3],
)
def test_heights_are_measured_from_where_the_block_rests(dropped_from_m):
    """The block starts in the air in one scene, and at rest in the default scene."""
    env = make_env("so101/pick_place", {})
    env.reset(0)
    heights_m = [env.progress()[0].measures["object_height_m"]]
    env.model.qpos0[env._goal.height_qpos] += dropped_from_m
    env.reset(0)
    heights_m.append(env.progress()[0].measures["object_height_m"])
    hold = env.action_for(np.array(env.config.home_rad))
    for _ in range(60):
        (progress,) = env.step(hold).progress
    heights_m.append(progress.measures["object_height_m"])
    assert heights_m == pytest.approx(
        [0, dropped_from_m, 0],
        abs=1e-3,
    )
    assert heights_m[0] == 0
