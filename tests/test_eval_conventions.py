"""Tests that the policy's declared conventions are compared with the environment's.

A single refusal names everything that differs.
"""

from contextlib import closing
from dataclasses import replace

import pytest

from eval.conventions import check_conventions
from policies.adapters import Adapters, parse_camera_map
from policies.simple_policy import SimplePolicy
from sim.errors import WhiskerError
from sim.registry import make_env

SIZES = {
    "overhead_cam": (32, 32),
    "wrist_cam": (32, 32),
}


def check(env_spec, adapters=None, **declared):
    check_conventions(
        SimplePolicy("toy", env_spec, **declared).spec, env_spec, adapters or Adapters()
    )


def pose_env(env_spec, frame="base"):
    action = replace(
        env_spec.action,
        rotation="axis_angle",
        rotation_frame=frame,
        mode="delta",
    )
    return replace(env_spec, name="libero_goal/0", action=action)


def agreeing(env_spec):
    action = env_spec.action
    return {
        "action_mode": action.mode,
        "rotation": action.rotation,
        "rotation_frame": action.rotation_frame,
        "gripper_range": (action.gripper_closed, action.gripper_open),
        "state_names": env_spec.state_names,
        "state_units": env_spec.state_units,
        "camera_roles": {"overhead_cam": "scene", "wrist_cam": "wrist"},
        "image_sizes": SIZES,
    }


def test_what_agrees_and_what_is_not_declared_passes(blind_env):
    for spec in (blind_env.spec, pose_env(blind_env.spec)):
        check(spec)
        check(
            replace(spec, name="so101/pick_place"),
            **agreeing(spec),
        )


@pytest.mark.parametrize(
    ("declared", "env_has", "policy_has"),
    [
        ({"action_mode": "delta"}, "absolute actions", "delta actions"),
        ({"rotation": "axis_angle"}, "rotation 'none'", "rotation 'axis_angle'"),
        ({"rotation_frame": "tool"}, "rotation frame 'none'", "rotation frame 'tool'"),
        ({"gripper_range": (1.0, -1.0)}, "gripper 0 closed, 100 open", "gripper 1 closed, -1 open"),
        ({"state_names": tuple("abcdef")}, "state: shoulder_pan", "state: a, b, c, d, e, f"),
        (
            {"state_units": ("rad",) * 6},
            "units of the state: deg, deg",
            "units of the state: rad, rad",
        ),
        (
            {"camera_roles": {"wrist_cam": "scene"}},
            "its 'wrist_cam': wrist",
            "camera 'wrist_cam': scene",
        ),
    ],
)
def test_each_convention_that_disagrees_is_refused_with_both_sides_named(
    blind_env, declared, env_has, policy_has
):
    with pytest.raises(WhiskerError) as refusal:
        check(
            blind_env.spec,
            **(agreeing(blind_env.spec) | declared),
        )
    assert refusal.value.subject == "conventions of policy 'toy' in 'so101/pick_place'"
    assert refusal.value.expected.startswith(f"what the environment has ({env_has}")
    assert refusal.value.got.startswith(f"what the policy declares ({policy_has}")
    assert ";" not in refusal.value.expected


@pytest.mark.parametrize(
    ("declared", "there"),
    [("tool", "base"), ("base", "tool")],
)
def test_the_frame_of_a_rotation_is_compared(blind_env, declared, there):
    """Rotation vectors of the same names, units and width mean another motion in another frame."""
    with pytest.raises(
        WhiskerError, match=rf"rotation frame '{there}'.*rotation frame '{declared}'"
    ):
        check(
            pose_env(blind_env.spec, there),
            rotation="axis_angle",
            rotation_frame=declared,
        )


def test_all_that_disagrees_is_in_one_refusal(blind_env):
    with pytest.raises(WhiskerError) as refusal:
        check(
            blind_env.spec, action_mode="delta", gripper_range=(0.0, 1.0), state_units=("rad",) * 6
        )
    assert refusal.value.got.count(";") == refusal.value.expected.count(";") == 2
    assert refusal.value.hint.count("Give") + refusal.value.hint.count("give") == 2


def advised(env_spec, **declared):
    """Return the hint of the refusal. The test then follows it and expects no refusal."""
    with pytest.raises(WhiskerError) as refusal:
        check(env_spec, **declared)
    return refusal.value.hint


def test_the_flags_that_are_advised_are_accepted(blind_env):
    spec = blind_env.spec
    assert "--policy-actions delta." in advised(spec, action_mode="delta")
    check(spec, Adapters(policy_actions="delta"), action_mode="delta")
    assert advised(spec, gripper_range=(1.0, -1.0)) == "Give --gripper-range 1 -1."
    check(
        spec,
        Adapters(gripper_range=(1.0, -1.0)),
        gripper_range=(1.0, -1.0),
    )
    roles = {
        "camera_roles": {"overhead_cam": "wrist", "wrist_cam": "scene"},
        "image_sizes": SIZES,
    }
    hint = advised(spec, **roles)
    assert hint.startswith("Give --camera-map ")
    check(
        spec,
        Adapters(
            camera_map=parse_camera_map(hint.removeprefix("Give --camera-map ").removesuffix("."))
        ),
        **roles,
    )


def test_where_no_flag_mends_it_the_other_environment_is_named():
    with closing(make_env("so101/pick_place_ee", {})) as env:
        assert (
            advised(env.spec, action_mode="delta")
            == "Evaluate with --env so101/pick_place_ee_delta."
        )
        with closing(make_env("so101/pick_place_ee_delta", {})) as other:
            check(other.spec, action_mode="delta")


@pytest.mark.parametrize(
    ("adapters", "declared"),
    [
        (Adapters(policy_actions="delta"), {"action_mode": "absolute"}),
        (Adapters(gripper_range=(0.0, 1.0)), {"gripper_range": (0.0, 100.0)}),
        (
            Adapters(camera_map={"wrist_cam": "overhead_cam", "overhead_cam": "wrist_cam"}),
            {"camera_roles": {"wrist_cam": "wrist"}},
        ),
    ],
)
def test_a_flag_that_contradicts_what_is_declared_is_refused(blind_env, adapters, declared):
    check(blind_env.spec, **declared)
    with pytest.raises(WhiskerError, match="conventions of policy 'toy'"):
        check(blind_env.spec, adapters, **declared)


def test_padding_is_of_a_wider_state_only(blind_env):
    wider = (*blind_env.spec.state_names, "padding")
    check(blind_env.spec, Adapters(allow_padding=True), state_names=wider)
    with pytest.raises(WhiskerError, match="state: "):
        check(blind_env.spec, state_names=wider)
    with pytest.raises(WhiskerError, match="state: "):
        check(blind_env.spec, Adapters(allow_padding=True), state_names=wider[::-1])
