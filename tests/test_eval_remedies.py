"""Tests that the flags which a refusal proposes make the command run.

They cover every refusal before a run that proposes flags.
"""

import re
from contextlib import closing
from functools import cache

import pytest
import tyro

from eval.config import EvalConfig
from eval.evaluation import set_up
from sim.errors import WhiskerError
from tests.small_checkpoints import CAMERAS, save_small_act, save_small_diffusion
from tests.training_files import rename_cameras

_FLAG = re.compile(r"--([a-z-]+)(?: ([^\s-][^\s]*[^\s.,;:]))?")


def parse(flags):
    arguments = []
    for flag, value in flags.items():
        arguments += [f"--{flag}", value] if value else [f"--{flag}"]
    return tyro.cli(
        EvalConfig,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def flags_of(advice):
    """Return (names of flags to leave out, flag to give → its value)."""
    left_out = dict.fromkeys(re.findall(r"Leave --([a-z-]+) out", advice))
    given = dict(_FLAG.findall(re.sub(r"Leave --[a-z-]+ out", "", advice)))
    return left_out, given


@cache
def act(*cameras, **dims):
    return lambda folder: save_small_act(
        folder,
        cameras=cameras or CAMERAS,
        **dims,
    )


def renamed(*cameras):
    save = act(*cameras)
    return lambda folder: rename_cameras(
        save(folder),
        {"hand": "camera1", "front": "camera2"},
    )


CAMERA_MAP = "camera-map"
POSE = {"state_dim": 7, "action_dim": 7}
CASES = {
    "names that say it": (act("base_0_rgb", "left_wrist_0_rgb"), {}),
    "a neutral name and the wrist": (act("image", "wrist_image"), {}),
    "names that say nothing": (act("camera1", "camera2"), {}),
    "one more than there are": (act("camera1", "camera2", "camera3"), {}),
    "a wrist more than there are": (act("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"), {}),
    "half a map": (
        act("image", "image2"),
        {CAMERA_MAP: "wrist_cam=image"},
    ),
    "half a map and leave to miss one": (
        act("image"),
        {CAMERA_MAP: "wrist_cam_depth=x", "allow-missing-camera": ""},
    ),
    "a misspelt camera": (act("front", "wrist"), {CAMERA_MAP: "overhed_cam=front,wrist_cam=wrist"}),
    "a map that is not needed": (act(), {CAMERA_MAP: "overhead_cam=base"}),
    "one camera for two": (act(), {CAMERA_MAP: "wrist_cam=overhead_cam"}),
    "renamed in training": (renamed("camera1", "camera2", "camera3"), {}),
    "renamed in training, half of it given": (
        renamed("camera1", "camera2"),
        {CAMERA_MAP: "wrist_cam=camera1"},
    ),
    "a wider state": (act(state_dim=8), {}),
    "a wider action": (
        act(
            state_dim=8,
            action_dim=7,
        ),
        {},
    ),
    "a size that the layers do not take": (save_small_diffusion, {"image-size": "640x480"}),
    "differences for targets": (
        act(**POSE),
        {"env": "so101/pick_place_ee", "policy-actions": "delta"},
    ),
    "targets for differences": (
        act(**POSE),
        {"env": "so101/pick_place_ee_delta", "policy-actions": "absolute"},
    ),
    "an old calibration in other units": (
        act(),
        {"env": "so101/pick_place_range", "calibration": "so100-old"},
    ),
    "an old calibration of poses": (
        act(**POSE),
        {"env": "so101/pick_place_ee", "calibration": "so100-old"},
    ),
    "alternatives of one plan": (act(), {"samples": "2"}),
    "intermediate plans of a plan that has none": (act(), {"intermediate-plans": ""}),
    "the wrist in LIBERO": (
        act("image", "wrist_image", state_dim=8, action_dim=7),
        {"env": "libero_spatial/0"},
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a function that saves a checkpoint, once for all cases that use it."""
    return cache(lambda save: save(tmp_path_factory.mktemp("checkpoint") / "act"))


@pytest.mark.parametrize(
    "case",
    [
        *(case for case in CASES if "LIBERO" not in case),
        pytest.param("the wrist in LIBERO", marks=pytest.mark.slow),
    ],
)
def test_what_is_advised_is_accepted_and_complete(case, saved):
    save, flags = CASES[case]
    flags = {"checkpoint": str(saved(save))} | flags
    with pytest.raises(WhiskerError) as refusal:
        set_up(parse(flags))
    advice = refusal.value.hint
    left_out, given = flags_of(advice)
    assert left_out or given, f"no flag in {advice!r}"
    mended = {name: value for name, value in (flags | given).items() if name not in left_out}
    assert mended != flags
    setup = set_up(parse(mended))
    with closing(setup.env):
        policy = getattr(setup.policy, "inner", setup.policy).spec
        shown = setup.env.spec.cameras
        lost = re.search(r"goes on without (.*)\.", advice)
        n_lost = len(lost[1].split(", ")) if lost else 0
        n_untrained = sum(setup.training.lacked(camera) for camera in policy.image_sizes)
        assert len(shown) == len(policy.image_sizes) - n_lost - n_untrained
        for pair in flags.get(CAMERA_MAP, "").split(","):
            camera, _, name = pair.partition("=")
            if camera in setup.env.spec.camera_names and name in policy.image_sizes:
                assert pair in mended[CAMERA_MAP].split(","), "what the user gave was dropped"
