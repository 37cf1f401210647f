"""Tests of the doctor's findings on cameras and image sizes.

The findings come from the training's own files. The tests also apply the proposed flags.
"""

import json

import numpy as np
import pytest

from eval.config import EvalConfig
from eval.doctor.camera_checks import check_cameras, propose_map_change
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Level
from eval.doctor.findings_output import sort_findings
from eval.doctor.image_sizes import check_image_sizes
from eval.evaluation import set_up
from eval.provenance import describe
from eval.subject import add_to_camera_map, name_policy
from policies.checkpoint_files import find_checkpoint, load_training_env
from policies.normalisation import load_normalisation
from sim.flags import make_config
from tests.small_checkpoints import IMAGE_PX, MEAN_STD, save_small_act, save_small_diffusion
from tests.training_files import create_dataset, dataset_stats, rename_cameras, save_train_config

SQUARE = f"{IMAGE_PX}x{IMAGE_PX}"
NAMES = {"overhead_cam": "camera1", "wrist_cam": "camera2"}


@pytest.fixture
def look():
    """Yield a function that maps a checkpoint and flags to (findings by check, check context)."""
    opened = []

    def look(checkpoint, **flags):
        config = name_policy(
            make_config(
                EvalConfig,
                checkpoint=str(checkpoint),
                **flags,
            )
        )
        setup = set_up(config)
        opened.append(setup)
        folder = find_checkpoint(str(checkpoint))
        config = add_to_camera_map(config, dict(setup.renamed_cameras))
        context = CheckContext(
            config,
            setup,
            load_normalisation(folder),
            load_training_env(folder),
        )
        findings = sort_findings([*check_cameras(context), *check_image_sizes(context)])
        return {finding.check: finding for finding in reversed(findings)}, context

    yield look
    for setup in opened:
        setup.env.close()


def rendered(context):
    return {(camera.width_px, camera.height_px) for camera in context.env.cameras}


def test_a_size_that_differs_from_the_datasets_is_said_and_the_flag_mends_it(look, tmp_path):
    root = create_dataset(
        tmp_path / "dataset",
        overhead_cam=(480, 640),
        wrist_cam=(480, 640),
    )
    folder = save_train_config(save_small_act(tmp_path / "act"), root)
    said, context = look(folder)
    assert said["image sizes"].level is Level.WARNING and rendered(context) == {
        (IMAGE_PX, IMAGE_PX)
    }
    assert f"rendered overhead_cam {SQUARE}" in said["image sizes"].evidence
    assert "overhead_cam 640x480" in said["image sizes"].evidence
    assert said["image sizes"].hint == "Give --image-size 640x480."
    said, context = look(folder, image_size="640x480")
    assert (said["image sizes"].level, said["image sizes"].finding) == (
        Level.OK,
        "as in training",
    )
    assert rendered(context) == {(640, 480)}
    images = context.first_memory.present.images
    assert {image.shape for image in images.values()} == {(480, 640, 3)}
    assert np.isfinite(context.first_plan).all()


def test_the_size_of_a_base_is_not_taken_for_the_trainings(look, tmp_path):
    """The dataset is not on this machine, so the size of the training's images is unknown."""
    folder = save_train_config(save_small_act(tmp_path / "act"), None)
    said, _ = look(folder)
    assert (
        said["image sizes"].level is Level.WARNING
        and "somebody/base" in said["image sizes"].evidence
    )
    assert "--image-size 640x480" in said["image sizes"].hint
    assert "somebody/pick-place" in said["training images"].finding
    said, _ = look(folder, image_size=SQUARE)
    assert said["image sizes"].level is Level.UNKNOWN and "not known" in said["image sizes"].finding


def test_a_size_that_nothing_doubts_is_fine(look, tmp_path, small_act):
    said, _ = look(small_act)
    assert said["image sizes"].level is Level.OK and "declares" in said["image sizes"].finding
    said, _ = look(
        save_train_config(
            save_small_diffusion(tmp_path / "diffusion"),
            None,
        )
    )
    assert said["image sizes"].level is Level.OK and "layers need" in said["image sizes"].finding
    said, _ = look("act")
    assert said["image sizes"].finding == "as in training"


def test_cameras_of_two_sizes_get_no_flag_that_cannot_say_so(look, tmp_path):
    root = create_dataset(
        tmp_path / "dataset",
        overhead_cam=(480, 640),
        wrist_cam=(240, 320),
    )
    said, _ = look(
        save_train_config(
            save_small_act(tmp_path / "act"),
            root,
        )
    )
    assert said["image sizes"].level is Level.WARNING and "640x480" not in said["image sizes"].hint


def test_the_checkpoints_own_rename_map_is_used_and_said(look, tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("camera1", "camera2", "camera3"))
    said, context = look(rename_cameras(folder, NAMES))
    assert {camera.name for camera in context.env.cameras} == NAMES.keys()
    assert "cameras" in said and said["cameras"].level is Level.OK
    # The statistics include a third camera, so this is a warning and not a missing camera.
    assert (
        said["camera names"].level is Level.WARNING and said["camera names"].evidence == "camera3"
    )
    assert "without images in training" in said["camera names"].finding
    written = describe(context.config, context.setup)
    assert written.resolved.renamed_cameras == NAMES


def test_a_camera_that_was_never_there_is_not_missing(look, tmp_path):
    cameras = ("camera1", "camera2", "camera3")
    folder = save_small_act(tmp_path / "act", cameras=cameras, normalization_mapping=MEAN_STD)
    rename_cameras(
        folder,
        NAMES,
        dataset_stats({"overhead_cam": 0.5, "wrist_cam": 0.5}),
    )
    said, context = look(folder)
    assert said["camera names"].level is Level.OK
    assert not any("expect a lower success rate" in finding.hint for finding in said.values())
    by_hand, given = look(folder, camera_map="overhead_cam=camera1,wrist_cam=camera2")
    np.testing.assert_array_equal(given.first_plan, context.first_plan)
    assert describe(given.config, given.setup).resolved.renamed_cameras == {}
    assert by_hand["camera names"].level is Level.OK


def test_images_that_were_trained_raw_are_accepted_with_a_warning(look, tmp_path):
    modes = dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD")
    folder = save_small_act(
        tmp_path / "act", cameras=("camera1", "camera2"), normalization_mapping=modes
    )
    rename_cameras(
        folder,
        NAMES,
        dataset_stats({"overhead_cam": 0.5, "wrist_cam": 0.5}),
    )
    said, _ = look(folder)
    assert said["image statistics"].level is Level.WARNING
    assert (
        said["image statistics"].evidence == "camera1 was 'overhead_cam', camera2 was 'wrist_cam'"
    )


def test_a_proposed_change_keeps_the_other_pairs_and_is_accepted(look, tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("a", "b"))
    _, context = look(folder, camera_map="overhead_cam_depth=a,wrist_cam=b")
    assert (
        propose_map_change(context, {"overhead_cam": "a"})
        == "Give --camera-map wrist_cam=b,overhead_cam=a"
    )
    assert propose_map_change(context, {"elsewhere": "a"}) == ""
    flag = propose_map_change(context, {"overhead_cam": "a"}).removeprefix("Give --camera-map ")
    _, context = look(folder, camera_map=flag)
    assert {camera.name for camera in context.env.cameras} == {"overhead_cam", "wrist_cam"}


def test_the_size_is_kept_in_the_run_and_compared_on_resume(
    tmp_path, small_act, monkeypatch, capsys
):
    from eval.cli import main

    def run(*flags):
        monkeypatch.setattr("sys.argv", ["eval", *map(str, flags)])
        return main()

    shared = ("--checkpoint", small_act, "--max-steps", 4, "--quiet", "--episodes", 1)
    assert (
        run(
            *shared,
            "--image-size",
            "48x32",
            "--run-dir",
            tmp_path,
            "--no-doctor",
        )
        == 0
    )
    (folder,) = tmp_path.iterdir()
    written = json.loads((folder / "run.json").read_text())
    assert written["config"]["adapters"]["image_size"] == "48x32"
    assert [(c["width_px"], c["height_px"]) for c in written["env"]["cameras"]] == [(48, 32)] * 2
    capsys.readouterr()
    assert run("--resume", folder, "--image-size", "32x48") == 2
    assert "--image-size with --resume: expected '48x32'" in capsys.readouterr().err


def test_a_size_is_for_checkpoints_alone(monkeypatch, capsys):
    from eval.cli import main

    monkeypatch.setattr("sys.argv", ["eval", "--policy", "zero", "--image-size", "640x480"])
    assert main() == 2 and "no adapter" in capsys.readouterr().err
