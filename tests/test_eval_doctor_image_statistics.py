"""Tests that conventional image statistics prove nothing about a camera.

They show neither colour nor depth, nor which camera is which.
"""

import re

import numpy as np
import pytest
from lerobot.utils.constants import IMAGENET_STATS

from eval.config import SubjectConfig
from eval.doctor.camera_checks import check_cameras
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Level
from eval.evaluation import set_up
from policies.normalisation import load_normalisation
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from tests.small_checkpoints import edit_statistics, save_small_act

IMAGENET = {name: np.float32(IMAGENET_STATS[name]) for name in ("mean", "std")}
HALF = {name: np.full((3, 1, 1), 0.5, np.float32) for name in ("mean", "std")}
NONE = {
    "mean": np.zeros((3, 1, 1), np.float32),
    "std": np.ones((3, 1, 1), np.float32),
}
# These are the statistics of a grey rendering, as a dataset measures them.
GREY = {
    "mean": np.full((3, 1, 1), 0.7, np.float32),
    "std": np.full((3, 1, 1), 0.3, np.float32),
}


def save_act(folder, cameras, images):
    """Save a small ACT that was trained on these cameras.

    The first camera gets these image statistics; the others get those of a colour image.
    """
    save_small_act(folder, cameras=cameras)
    edit_statistics(
        folder,
        lambda name, value: (
            images.get(name.rpartition(".")[2], value) if f".{cameras[0]}." in name else value
        ),
    )
    return folder


def look(folder, **flags):
    """Return the problems with the cameras by check, and all findings."""
    config = make_config(
        SubjectConfig,
        policy="act",
        checkpoint=str(folder),
        **flags,
    )
    setup = set_up(config)
    try:
        findings = list(check_cameras(CheckContext(config, setup, load_normalisation(folder))))
    finally:
        setup.env.close()
    return {f.check: f for f in findings if f.is_problem}, findings


@pytest.mark.parametrize(
    "cameras", [("overhead_cam", "wrist_cam"), ("overhead_cam_depth", "wrist_cam")]
)
@pytest.mark.parametrize(
    ("images", "name"),
    [
        (IMAGENET, "ImageNet's"),
        (HALF, "mean 0.5"),
        (NONE, "mean 0 and std 1"),
    ],
)
def test_a_convention_says_nothing_of_colour_or_depth(tmp_path, cameras, images, name):
    folder = save_act(tmp_path / "act", cameras, images)
    edit_statistics(
        folder, lambda key, v: images.get(key.rpartition(".")[2], v) if ".wrist_cam." in key else v
    )
    wrong, findings = look(folder)
    assert wrong == {}
    (finding,) = findings
    assert finding.finding == "nothing known of the training's colours" and name in finding.evidence


def test_a_convention_says_nothing_of_which_camera_is_which(tmp_path):
    """The doctor must not claim that the images look like the training's either.

    Swapped cameras would match or miss such statistics by chance.
    """
    folder = save_act(tmp_path / "act", ("overhead_cam", "wrist_cam"), IMAGENET)
    wrong, _ = look(folder, camera_map="overhead_cam=wrist_cam,wrist_cam=overhead_cam")
    assert wrong == {}


@pytest.mark.parametrize(
    ("camera", "shown", "images", "level"),
    [
        # Only the name shows the swap, so this is a warning.
        ("overhead_cam_depth", "overhead_cam", IMAGENET, Level.WARNING),
        ("overhead_cam", "overhead_cam_depth", HALF, Level.WARNING),
        # The statistics were measured, so this is an error.
        ("overhead_cam", "overhead_cam_depth", {}, Level.ERROR),
        ("overhead_cam_depth", "overhead_cam", GREY, Level.ERROR),
    ],
)
def test_what_is_advised_shows_the_camera_that_was_meant(tmp_path, camera, shown, images, level):
    folder = save_act(tmp_path / "act", (camera, "wrist"), images)
    given = f"{shown}={camera},wrist_cam=wrist"
    wrong, _ = look(folder, camera_map=given)
    finding = wrong["depth or colour"]
    assert finding.level is level
    proposed = re.fullmatch(r"Give --camera-map (\S+)", finding.hint)[1]
    assert proposed == "wrist_cam=wrist", "the policy's other camera has the environment's name"
    wrong, _ = look(folder, camera_map=proposed)
    assert "depth or colour" not in wrong


def test_where_no_flag_is_needed_it_is_to_be_left_out(tmp_path):
    folder = save_act(tmp_path / "act", ("overhead_cam", "wrist_cam"), {})
    wrong, _ = look(folder, camera_map="overhead_cam_depth=overhead_cam")
    assert wrong["depth or colour"].hint == "Leave --camera-map out."
    assert "depth or colour" not in look(folder)[0]


def test_a_name_that_says_depth_is_proposed_the_depth_camera(tmp_path):
    folder = save_act(tmp_path / "act", ("top_depth", "wrist"), IMAGENET)
    config = make_config(
        SubjectConfig,
        policy="act",
        checkpoint=str(folder),
    )
    with pytest.raises(WhiskerError, match="overhead_cam_depth=top_depth") as refusal:
        set_up(config)
    proposed = re.search(r"--camera-map (\S+,\S+?)\.?$", refusal.value.hint)[1]
    assert set(proposed.split(",")) == {"overhead_cam_depth=top_depth", "wrist_cam=wrist"}
    assert look(folder, camera_map=proposed)[0] == {}
    set_up(replace_flags(config, camera_map=proposed)).env.close()
