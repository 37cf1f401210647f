"""Tests of SimplerEnv's Bridge tasks, against numbers of the original SimplerEnv.

They need the extra and its assets:
`./run --extra simpler pytest -m slow tests/test_sim_simpler.py`.
"""

import json
import re
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sim.check_env import check_env
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import expand_env, make_env, packages_of, resolve
from sim.simpler_bench import installation
from sim.simpler_bench.conventions import CAMERA
from sim.simpler_bench.env_spec import make_spec
from sim.simpler_bench.installation import check_assets, find_driver
from sim.simpler_bench.tasks import PADDED_STATE, TASKS

ORIGINAL = Path(__file__).parents[2] / "shared/data/simpler_original"
# Their own names in the original.
ORIGINAL_NAMES = {
    "carrot_on_plate": "widowx_carrot_on_plate",
    "spoon_on_towel": "widowx_spoon_on_towel",
    "stack_cube": "widowx_stack_cube",
    "eggplant_in_basket": "widowx_put_eggplant_in_basket",
}
CARROT = TASKS["carrot_on_plate"]


def test_an_unknown_task_is_refused_with_the_closest_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'simpler/carrot_on_plate'"):
        expand_env("simpler/carot_on_plate")


def test_other_environments_do_not_depend_on_the_extra():
    assert "sapien" not in packages_of("so101/pick_place")
    assert "sapien" in packages_of("simpler/stack_cube")


def test_a_driver_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "lvp.json"))
    with pytest.raises(WhiskerError, match=r"lavapipe, 25.0 or later, got no file .*Unset VK_"):
        find_driver()


def test_the_check_of_the_installation_says_what_is_missing(run_here, monkeypatch, tmp_path):
    """Either the packages are missing, or the driver that this test names."""
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "lvp.json"))
    done = run_here(installation.main, "")
    assert done.returncode == 2
    assert " for SimplerEnv: expected " in done.stderr and "--extra simpler" in done.stderr


def test_missing_and_half_copied_assets_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MS_ASSET_DIR", str(tmp_path))
    database = tmp_path / "data/tasks/bridge_v2_real2sim_dataset/custom" / CARROT.model_file
    with pytest.raises(WhiskerError, match=rf"{CARROT.model_file}, got none. Download it: "):
        check_assets(CARROT)
    database.parent.mkdir(parents=True)
    database.touch()
    with pytest.raises(WhiskerError, match=rf"{CARROT.model_file}, got an empty file"):
        check_assets(CARROT)


def test_assets_of_another_version_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MS_ASSET_DIR", str(tmp_path))
    dataset = tmp_path / "data/tasks/bridge_v2_real2sim_dataset"
    files = {
        dataset / "custom" / CARROT.model_file: json.dumps({"bridge_carrot": {}}).encode(),
        dataset / "real_inpainting" / CARROT.photograph: iio.imwrite(
            "<bytes>", np.zeros((2, 2, 3), np.uint8), extension=".png"
        ),
        dataset / "stages" / CARROT.stage: b"glTF" + np.array([2, 12], np.uint32).tobytes(),
        tmp_path / "data/robots/widowx/wx250s.urdf": b"<robot></robot>",
    }
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with pytest.raises(WhiskerError, match=rf"{CARROT.models[0]}.*files of another version"):
        check_assets(CARROT)


ASSETS = Path(__file__).parents[2] / "shared/data/simpler_bridge/data"


@pytest.mark.skipif(not ASSETS.is_dir(), reason=f"no assets in {ASSETS}")
def test_each_asset_that_is_cut_in_half_is_named(monkeypatch, tmp_path):
    """SAPIEN makes an object without a body from half a mesh, and hangs on half a scene."""
    spoon = TASKS["spoon_on_towel"]
    monkeypatch.setenv("MS_ASSET_DIR", str(tmp_path))
    copies = tmp_path / "data"
    for file in filter(Path.is_file, ASSETS.rglob("*")):
        copy = copies / file.relative_to(ASSETS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    check_assets(spoon)
    models = "tasks/bridge_v2_real2sim_dataset/custom/models/bridge_spoon_generated_modified"
    scene = "tasks/bridge_v2_real2sim_dataset"
    for name in (
        f"{models}/collision.obj",
        f"{models}/textured.dae",
        f"{models}/Image_0.003.jpg",
        f"{scene}/custom/{spoon.model_file}",
        f"{scene}/real_inpainting/{spoon.photograph}",
        f"{scene}/stages/{spoon.stage}",
        "robots/widowx/wx250s.urdf",
        "robots/widowx/meshes_wx250s/WXSA-250-M-10-Finger.stl",
    ):
        content = (ASSETS / name).read_bytes()
        (copies / name).unlink()
        (copies / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(WhiskerError, match=rf"{re.escape(name)}, got a file that was cut off"):
            check_assets(spoon)
        (copies / name).write_bytes(content)
    check_assets(spoon)


@pytest.mark.slow
def test_an_episode_follows_the_original_simpler(simpler):
    recorded = np.load(ORIGINAL / "carrot_trajectories.npz")
    with closing(make_env(CARROT.task_name)) as env:
        for episode_index in (0, 3):
            env.reset(episode_index)
            _expect_image(env, recorded[f"im{episode_index}"])
            positions = [env.state()[:3]]
            for action in recorded["actions"]:
                env.step(action.astype(np.float32))
                positions.append(env.state()[:3])
            _expect_image(env, recorded[f"imend{episode_index}"])
            # The record has the joints (8), and then the end effector in the base of the robot.
            original = recorded[f"rec{episode_index}"][:, 8:11]
            assert np.linalg.norm(positions - original, axis=1).max() < 1e-3


def _expect_image(env, original):
    image = env.observe().images[CAMERA]
    difference = np.abs(image.astype(int) - original.astype(int))
    assert difference.mean() < 0.5
    # The difference is an edge here and there.
    assert (difference.max(axis=2) > 8).mean() < 0.01


@pytest.mark.slow
def test_the_green_block_is_drawn_where_the_image_shows_it(simpler):
    """Shapes, poses and projection agree with the image, here in half of its size."""
    with closing(make_env("simpler/stack_cube", image_sizes={CAMERA: (240, 320)})) as env:
        env.reset(1)
        geometry, poses = env.geometry(), env.body_poses()
        corners = _find_corners(geometry, poses, "baked_green_cube_3cm")
        u, v, w = env.projection(CAMERA) @ np.vstack([corners.T, np.ones(len(corners))])
        red, green, blue = env.observe().images[CAMERA].astype(int).transpose(2, 0, 1)
        object_pos_world = env.progress()[0].object_pos_world
    # Nothing else in this image is green.
    rows, columns = np.nonzero((green > red + 12) & (green > blue + 5))
    shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    projected = [(u / w).min(), (v / w).min(), (u / w).max(), (v / w).max()]
    np.testing.assert_allclose(projected, shown, atol=1.5)
    np.testing.assert_allclose(corners.mean(axis=0), object_pos_world, atol=2e-3)
    assert np.ptp(corners, axis=0).max() < 0.05
    seen = [s.rgba for s in geometry.shapes if "green" in geometry.body_names[s.body_index]]
    assert all(rgba[1] > max(rgba[0], rgba[2]) for rgba in seen)


def _find_corners(geometry, poses, name):
    """Return the vertices of a body, m, world."""
    (body,) = (i for i, each in enumerate(geometry.body_names) if each.endswith(name))
    corners = []
    for shape in geometry.shapes:
        if shape.body_index == body:
            points = geometry.meshes[shape.mesh_index].vertices
            for pose in (shape.pose, poses[body]):
                rotation = Rotation.from_quat(pose[3:], scalar_first=True)
                points = rotation.apply(points) + pose[:3]
            corners.append(points)
    return np.concatenate(corners)


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(WhiskerError, match="expected 640x480, or another size of the same shape"):
        make_spec(CARROT, {CAMERA: (224, 224)}, False)
    (camera,) = make_spec(CARROT, {CAMERA: (150, 200)}, False).cameras
    assert (camera.height_px, camera.width_px) == (150, 200)


def test_the_viewer_asks_for_an_image_that_is_not_distorted():
    """It does so for policies without cameras, such as the expert."""
    size_px = resolve(CARROT.task_name).family.preview_size_px
    (camera,) = make_spec(CARROT, {CAMERA: size_px}, False).cameras
    assert (camera.height_px, camera.width_px) == size_px


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_episodes_begin_as_in_the_original_simpler(simpler, task):
    original = np.load(ORIGINAL / "initial_poses.npz")
    with closing(make_env(task.task_name, image_sizes={})) as env:
        for episode_index in (0, 1, 5):
            env.reset(episode_index)
            source, target = original[f"{ORIGINAL_NAMES[task.name]}__{episode_index}"].reshape(2, 7)
            (progress,) = env.progress()
            # The spoon lies another way round on the same spot.
            within_m = 1.5e-3 if task.name == "spoon_on_towel" else 5e-4
            assert np.linalg.norm(progress.object_pos_world - source[:3]) < within_m
            distance_m = np.hypot(*(source - target)[:2])
            # The invisible target of the eggplant comes to rest 5 mm from there.
            within_m = 6e-3 if task.name == "eggplant_in_basket" else within_m
            assert abs(progress.measures["goal_distance_m"] - distance_m) < within_m
            assert not progress.met


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_contract_is_kept(simpler):
    checks = list(check_env(partial(make_env, "simpler/stack_cube" + PADDED_STATE)))
    broken = [check for check in checks if check.verdict == "failed"]
    assert not broken
    assert {"snapshot", "reset", "simulate_ee_path", "drawable"} <= {
        c.name for c in checks if c.verdict == "ok"
    }


@pytest.mark.slow
def test_fingers_and_table_are_as_rough_as_in_the_original(simpler):
    """ManiSkill has 0.3 everywhere. The scene has a process of its own, as all of them have."""
    code = (
        "from sim.simpler_bench.env import SimplerEnv\n"
        "from sim.simpler_bench.tasks import TASKS\n"
        "scene = SimplerEnv(TASKS['stack_cube'], {})._scene\n"
        "for entity in scene.scene.sub_scenes[0].entities:\n"
        "    for part in entity.components:\n"
        "        for shape in getattr(part, 'collision_shapes', ()):\n"
        "            material = shape.physical_material\n"
        "            print('|', entity.name, material.static_friction, material.dynamic_friction,\n"
        "                  round(shape.patch_radius, 3), round(shape.min_patch_radius, 3))\n"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    lines = [line.split()[1:] for line in printed.splitlines() if line.startswith("|")]
    frictions = {name: list(map(float, numbers)) for name, *numbers in lines}
    rough = [2.0, 2.0, 0.01, 0.01]
    assert frictions["left_finger_link"] == frictions["right_finger_link"] == rough
    assert frictions["scene-0_arena"][:2] == frictions["wrist_link"][:2] == [1.0, 1.0]
    assert frictions["scene-0_baked_green_cube_3cm"][:2] == [0.5, 0.5]


EXHAUSTIVE = [pytest.mark.exhaustive]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=EXHAUSTIVE if name != "stack_cube" else []) for name in TASKS],
)
def test_the_expert_has_succeeded_at_the_end(simpler, name):
    with closing(make_env(TASKS[name].task_name, image_sizes={})) as env:
        env.reset(0)
        expert = env.make_expert()
        results = [env.step(expert.action()) for _ in range(env.spec.max_steps)]
    assert results[-1].success
    assert not results[0].success
    (last,) = results[-1].progress
    assert last.stages["released"] and last.stages["placed"]
    assert any(result.progress[0].stages["lifted"] for result in results)
