"""Tests that the flags which a refusal proposes make the command run.

They cover every refusal before a run that proposes flags.
"""

import re
from contextlib import closing

import pytest
import tyro

from eval.config import EvalConfig
from eval.evaluation import set_up
from eval.subject import name_policy
from sim.errors import WhiskerError
from tests.small_checkpoints import save_small_act, save_small_diffusion
from tests.training_files import rename_cameras

_FLAG = re.compile(r"--([a-z-]+)(?: ([^\s-][^\s]*[^\s.,;:]))?")


def parse(flags):
    arguments = [
        part for flag, value in flags.items() for part in (f"--{flag}", *([value] if value else []))
    ]
    return name_policy(
        tyro.cli(
            EvalConfig,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    )


def flags_of(advice):
    """Return (names of flags to leave out, flag to give → its value)."""
    left_out = dict.fromkeys(re.findall(r"Leave --([a-z-]+) out", advice))
    given = dict(_FLAG.findall(re.sub(r"Leave --[a-z-]+ out", "", advice)))
    return left_out, given


def act(*cameras, **dims):
    return lambda folder: save_small_act(
        folder, **dims, **({"cameras": cameras} if cameras else {})
    )


def renamed(cameras, rename_map):
    return lambda folder: rename_cameras(
        save_small_act(folder, cameras=cameras),
        rename_map,
    )


CAMERA_MAP = "camera-map"
POSE = {"state_dim": 7, "action_dim": 7}
LIBERO = {"env": "libero_spatial/0"}
CASES = {
    "names that say it": (act("base_0_rgb", "left_wrist_0_rgb"), {}),
    "a neutral name and the wrist": (act("image", "wrist_image"), {}),
    "names that say nothing": (act("camera1", "camera2"), {}),
    "one more than there are": (act("camera1", "camera2", "camera3"), {}),
    "a wrist more than there are": (act("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"), {}),
    "half a map": (act("image", "image2"), {CAMERA_MAP: "wrist_cam=image"}),
    "half a map and leave to miss one": (
        act("image"),
        {CAMERA_MAP: "wrist_cam_depth=x", "allow-missing-camera": ""},
    ),
    "a misspelt camera": (act("front", "wrist"), {CAMERA_MAP: "overhed_cam=front,wrist_cam=wrist"}),
    "a map that is not needed": (act(), {CAMERA_MAP: "overhead_cam=base"}),
    "one camera for two": (act(), {CAMERA_MAP: "wrist_cam=overhead_cam"}),
    "renamed in training": (
        renamed(
            ("camera1", "camera2", "camera3"),
            {"hand": "camera1", "front": "camera2"},
        ),
        {},
    ),
    "renamed in training, half of it given": (
        renamed(
            ("camera1", "camera2"),
            {"hand": "camera1", "front": "camera2"},
        ),
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
        act(
            "image",
            "wrist_image",
            state_dim=8,
            action_dim=7,
        ),
        LIBERO,
    ),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if "LIBERO" in case else case for case in CASES],
)
def test_what_is_advised_is_accepted_and_complete(case, tmp_path):
    build, flags = CASES[case]
    flags = {"checkpoint": str(build(tmp_path / "checkpoint"))} | flags
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
        asked = flags.get(CAMERA_MAP, "")
        valid = [
            p for p in asked.split(",") if p and p.split("=")[0] in setup.env.spec.camera_names
        ]
        for pair in valid:
            if pair.split("=")[1] in policy.image_sizes:
                assert pair in mended[CAMERA_MAP].split(","), "what the user gave was dropped"
