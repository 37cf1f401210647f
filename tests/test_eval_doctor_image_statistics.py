"""Tests that conventional image statistics prove nothing about a camera.

They show neither colour nor depth, nor which camera is which.
"""

import re

import numpy as np
import pytest
from lerobot.utils.constants import IMAGENET_STATS

from eval.config import SubjectConfig
from eval.doctor.camera_checks import check_cameras
from eval.evaluation import set_up
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.check_contexts import by_check, open_check_context
from tests.small_checkpoints import edit_statistics, save_small_act


def constant(mean, std):
    """Return statistics that are the same in each of the three colours."""
    return {name: np.full((3, 1, 1), x, np.float32) for name, x in (("mean", mean), ("std", std))}


IMAGENET = {name: np.float32(IMAGENET_STATS[name]) for name in ("mean", "std")}
HALF = constant(0.5, 0.5)
NONE = constant(0, 1)
# These are the statistics of a grey rendering, as a dataset measures them.
GREY = constant(0.7, 0.3)


@pytest.fixture
def save_act(tmp_path):
    """Return a function that saves a small ACT that was trained on these cameras.

    The first camera, or every camera, gets these image statistics; the others get those of a colour
    image.
    """

    def save(images, *cameras, to_all=False):
        changed = cameras if to_all else cameras[:1]

        def edit(name, value):
            key, _, kind = name.rpartition(".")
            return images.get(kind, value) if key.endswith(changed) else value

        folder = save_small_act(tmp_path / "act", cameras=cameras)
        edit_statistics(folder, edit)
        return folder

    return save


def config_of(folder, **flags):
    return make_config(
        SubjectConfig,
        policy="act",
        checkpoint=str(folder),
        **flags,
    )


def look(folder, **flags):
    """Return the problems with the cameras by check, and all findings."""
    with open_check_context(config_of(folder, **flags)) as context:
        findings = list(check_cameras(context))
    return by_check(f for f in findings if f.is_problem), findings


@pytest.mark.parametrize(
    "camera",
    ["overhead_cam", "overhead_cam_depth"],
)
@pytest.mark.parametrize(
    ("images", "name"),
    [
        (IMAGENET, "ImageNet's"),
        (HALF, "mean 0.5"),
        (NONE, "mean 0 and std 1"),
    ],
)
def test_a_convention_says_nothing_of_colour_or_depth(save_act, camera, images, name):
    problems, (finding,) = look(save_act(images, camera, "wrist_cam", to_all=True))
    assert problems == {}
    assert finding.finding == "nothing known of the training's colours"
    assert name in finding.evidence


def test_a_convention_says_nothing_of_which_camera_is_which(save_act):
    """The doctor must not claim that the images look like the training's either.

    Swapped cameras would match or miss such statistics by chance.
    """
    folder = save_act(IMAGENET, "overhead_cam", "wrist_cam")
    problems, _ = look(folder, camera_map="overhead_cam=wrist_cam,wrist_cam=overhead_cam")
    assert problems == {}


@pytest.mark.parametrize(
    ("camera", "shown", "images", "level"),
    [
        # Only the name shows the swap, so this is a warning.
        ("overhead_cam_depth", "overhead_cam", IMAGENET, "warning"),
        ("overhead_cam", "overhead_cam_depth", HALF, "warning"),
        # The statistics were measured, so this is an error.
        ("overhead_cam", "overhead_cam_depth", {}, "error"),
        ("overhead_cam_depth", "overhead_cam", GREY, "error"),
    ],
)
def test_what_is_advised_shows_the_camera_that_was_meant(save_act, camera, shown, images, level):
    folder = save_act(images, camera, "wrist")
    problems, _ = look(
        folder,
        camera_map=f"{shown}={camera},wrist_cam=wrist",
    )
    finding = problems["depth or colour"]
    assert finding.level == level
    mended = "wrist_cam=wrist"
    assert finding.hint == f"Give --camera-map {mended}", "the other camera has the right name"
    assert "depth or colour" not in look(folder, camera_map=mended)[0]


def test_where_no_flag_is_needed_it_is_to_be_left_out(save_act):
    folder = save_act({}, "overhead_cam", "wrist_cam")
    problems, _ = look(folder, camera_map="overhead_cam_depth=overhead_cam")
    assert problems["depth or colour"].hint == "Leave --camera-map out."
    assert "depth or colour" not in look(folder)[0]


def test_a_name_that_says_depth_is_proposed_the_depth_camera(save_act):
    folder = save_act(IMAGENET, "top_depth", "wrist")
    with pytest.raises(
        WhiskerError,
        match="overhead_cam_depth=top_depth",
    ) as refusal:
        set_up(config_of(folder))
    proposed = re.search(
        r"--camera-map (\S+,\S+?)\.?$",
        refusal.value.hint,
    )[1]
    assert set(proposed.split(",")) == {"overhead_cam_depth=top_depth", "wrist_cam=wrist"}
    assert look(folder, camera_map=proposed)[0] == {}
