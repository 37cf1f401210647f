"""Tests of the doctor's findings on cameras and image sizes.

The findings come from the training's own files. The tests also apply the proposed flags.
"""

import json
from contextlib import ExitStack

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from eval.config import EvalConfig
from eval.doctor.camera_checks import check_cameras, propose_map_change
from eval.doctor.findings_output import sort_findings
from eval.doctor.image_sizes import check_image_sizes
from eval.evaluation import set_up
from eval.provenance import describe
from eval.subject import add_to_camera_map, name_policy
from sim.flags import make_config
from tests.check_contexts import by_check, open_check_context
from tests.processes import only_run
from tests.small_checkpoints import IMAGE_PX, MEAN_STD, save_small_act, save_small_diffusion
from tests.training_files import create_dataset, dataset_stats, rename_cameras, save_train_config

SQUARE = f"{IMAGE_PX}x{IMAGE_PX}"
NAMES = {"overhead_cam": "camera1", "wrist_cam": "camera2"}
RENAMED = ("camera1", "camera2")
STATS = dataset_stats({"overhead_cam": 0.5, "wrist_cam": 0.5})


@pytest.fixture
def look():
    """Yield a function that maps a checkpoint and flags to (findings by check, check context)."""
    with ExitStack() as opened:

        def look(checkpoint, **flags):
            config = make_config(
                EvalConfig,
                checkpoint=str(checkpoint),
                **flags,
            )
            config = name_policy(config)
            setup = set_up(config)
            config = add_to_camera_map(config, dict(setup.renamed_cameras))
            context = opened.enter_context(open_check_context(config, setup))
            findings = sort_findings([*check_cameras(context), *check_image_sizes(context)])
            return by_check(reversed(findings)), context

        yield look


def rendered(context):
    return {(camera.width_px, camera.height_px) for camera in context.env.cameras}


def seen_by(context):
    return {camera.name for camera in context.env.cameras}


def test_a_size_that_differs_from_the_datasets_is_said_and_the_flag_mends_it(look, tmp_path):
    root = create_dataset(
        tmp_path / "dataset",
        overhead_cam=(480, 640),
        wrist_cam=(480, 640),
    )
    folder = save_train_config(save_small_act(tmp_path / "act"), root)
    said, context = look(folder)
    sizes = said["image sizes"]
    assert sizes.level == "warning"
    assert rendered(context) == {(IMAGE_PX, IMAGE_PX)}
    assert f"rendered overhead_cam {SQUARE}" in sizes.evidence
    assert "overhead_cam 640x480" in sizes.evidence
    assert sizes.hint == "Give --image-size 640x480."
    said, context = look(folder, image_size="640x480")
    assert said["image sizes"].level == "fine"
    assert said["image sizes"].finding == "as in training"
    assert rendered(context) == {(640, 480)}
    images = context.first_memory.present.images
    assert {image.shape for image in images.values()} == {(480, 640, 3)}
    assert np.isfinite(context.first_plan).all()


def test_the_size_of_a_base_is_not_taken_for_the_trainings(look, tmp_path):
    """The dataset is not on this machine, so the size of the training's images is unknown."""
    folder = save_train_config(save_small_act(tmp_path / "act"), None)
    said, _ = look(folder)
    sizes = said["image sizes"]
    assert sizes.level == "warning"
    assert "somebody/base" in sizes.evidence
    assert "--image-size 640x480" in sizes.hint
    assert "somebody/pick-place" in said["training images"].finding
    said, _ = look(folder, image_size=SQUARE)
    assert said["image sizes"].level == "unknown"
    assert "not known" in said["image sizes"].finding


def test_a_size_that_nothing_doubts_is_fine(look, tmp_path, small_act):
    diffusion = save_train_config(
        save_small_diffusion(tmp_path / "diffusion"),
        None,
    )
    for checkpoint, words in (
        (small_act, "declares"),
        (diffusion, "layers need"),
        ("act", "as in training"),
    ):
        sizes = look(checkpoint)[0]["image sizes"]
        assert sizes.level == "fine"
        assert words in sizes.finding


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
    assert said["image sizes"].level == "warning"
    assert "640x480" not in said["image sizes"].hint


def test_the_checkpoints_own_rename_map_is_used_and_said(look, tmp_path):
    folder = save_small_act(
        tmp_path / "act",
        cameras=(*RENAMED, "camera3"),
    )
    said, context = look(rename_cameras(folder, NAMES))
    assert seen_by(context) == NAMES.keys()
    assert said["cameras"].level == "fine"
    # The statistics include a third camera, so this is a warning and not a missing camera.
    names = said["camera names"]
    assert names.level == "warning"
    assert names.evidence == "camera3"
    assert "without images in training" in names.finding
    assert describe(context.config, context.setup).resolved.renamed_cameras == NAMES


def test_a_camera_that_was_never_there_is_not_missing(look, tmp_path):
    folder = save_small_act(
        tmp_path / "act", cameras=(*RENAMED, "camera3"), normalization_mapping=MEAN_STD
    )
    rename_cameras(folder, NAMES, STATS)
    said, context = look(folder)
    assert said["camera names"].level == "fine"
    assert not any("expect a lower success rate" in finding.hint for finding in said.values())
    by_hand, given = look(
        folder,
        camera_map="overhead_cam=camera1,wrist_cam=camera2",
    )
    assert_array_equal(given.first_plan, context.first_plan)
    assert describe(given.config, given.setup).resolved.renamed_cameras == {}
    assert by_hand["camera names"].level == "fine"


def test_images_that_were_trained_raw_are_accepted_with_a_warning(look, tmp_path):
    modes = dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD")
    folder = save_small_act(
        tmp_path / "act",
        cameras=RENAMED,
        normalization_mapping=modes,
    )
    statistics = look(rename_cameras(folder, NAMES, STATS))[0]["image statistics"]
    assert statistics.level == "warning"
    assert statistics.evidence == "camera1 was 'overhead_cam', camera2 was 'wrist_cam'"


def test_a_proposed_change_keeps_the_other_pairs_and_is_accepted(look, tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("a", "b"))
    _, context = look(folder, camera_map="overhead_cam_depth=a,wrist_cam=b")
    assert propose_map_change(context, {"elsewhere": "a"}) == ""
    mended = "wrist_cam=b,overhead_cam=a"
    assert propose_map_change(context, {"overhead_cam": "a"}) == f"Give --camera-map {mended}"
    _, context = look(folder, camera_map=mended)
    assert seen_by(context) == {"overhead_cam", "wrist_cam"}


def test_the_size_is_kept_in_the_run_and_compared_on_resume(
    eval_succeeds, refusal_of_eval, tmp_path, small_act
):
    flags = "--max-steps 4 --quiet --episodes 1 --image-size 48x32 --no-doctor"
    eval_succeeds(
        f"--checkpoint {small_act} {flags} --run-dir",
        tmp_path,
    )
    run = only_run(tmp_path)
    written = json.loads((run / "run.json").read_text())
    assert written["config"]["adapters"]["image_size"] == "48x32"
    assert [(c["width_px"], c["height_px"]) for c in written["env"]["cameras"]] == [(48, 32)] * 2
    refusal = refusal_of_eval("--image-size 32x48 --resume", run)
    assert "--image-size with --resume: expected '48x32'" in refusal


def test_a_size_is_for_checkpoints_alone(refusal_of_eval):
    assert "no adapter" in refusal_of_eval("--policy zero --image-size 640x480")
