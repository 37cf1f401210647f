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

SIZES = {"overhead_cam": (32, 32), "wrist_cam": (32, 32)}
RADIANS = ("rad",) * 6


@pytest.fixture
def spec(blind_env):
    return blind_env.spec


def check(env_spec, adapters=None, **declared):
    policy = SimplePolicy("toy", env_spec, **declared)
    check_conventions(policy.spec, env_spec, adapters or Adapters())


def refusal_of(env_spec, adapters=None, **declared):
    with pytest.raises(WhiskerError) as refusal:
        check(env_spec, adapters, **declared)
    return refusal.value


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


def test_what_agrees_and_what_is_not_declared_passes(spec):
    for env_spec in (spec, pose_env(spec)):
        check(env_spec)
        check(replace(env_spec, name="so101/pick_place"), **agreeing(env_spec))


@pytest.mark.parametrize(
    ("declared", "env_has", "policy_has"),
    [
        ({"action_mode": "delta"}, "absolute actions", "delta actions"),
        ({"rotation": "axis_angle"}, "rotation 'none'", "rotation 'axis_angle'"),
        ({"rotation_frame": "tool"}, "rotation frame 'none'", "rotation frame 'tool'"),
        (
            {"gripper_range": (1.0, -1.0)},
            "gripper 0 closed, 100 open",
            "gripper 1 closed, -1 open",
        ),
        ({"state_names": tuple("abcdef")}, "state: shoulder_pan", "state: a, b, c, d, e, f"),
        ({"state_units": RADIANS}, "units of the state: deg, deg", "units of the state: rad, rad"),
        (
            {"camera_roles": {"wrist_cam": "scene"}},
            "its 'wrist_cam': wrist",
            "camera 'wrist_cam': scene",
        ),
    ],
)
def test_each_convention_that_disagrees_is_refused_with_both_sides_named(
    spec, declared, env_has, policy_has
):
    refusal = refusal_of(spec, **(agreeing(spec) | declared))
    assert refusal.subject == "conventions of policy 'toy' in 'so101/pick_place'"
    assert refusal.expected.startswith(f"what the environment has ({env_has}")
    assert refusal.got.startswith(f"what the policy declares ({policy_has}")
    assert ";" not in refusal.expected


@pytest.mark.parametrize(
    ("declared", "there"),
    [("tool", "base"), ("base", "tool")],
)
def test_the_frame_of_a_rotation_is_compared(spec, declared, there):
    """Rotation vectors of the same names, units and width mean another motion in another frame."""
    refusal = refusal_of(
        pose_env(spec, there),
        rotation="axis_angle",
        rotation_frame=declared,
    )
    assert f"rotation frame '{there}'" in refusal.expected
    assert f"rotation frame '{declared}'" in refusal.got


def test_all_that_disagrees_is_in_one_refusal(spec):
    declared = {
        "action_mode": "delta",
        "gripper_range": (0.0, 1.0),
        "state_units": RADIANS,
    }
    refusal = refusal_of(spec, **declared)
    assert refusal.got.count(";") == refusal.expected.count(";") == 2
    assert refusal.hint.count("Give") + refusal.hint.count("give") == 2


def test_the_flags_that_are_advised_are_accepted(spec):
    assert "--policy-actions delta." in refusal_of(spec, action_mode="delta").hint
    check(spec, Adapters(policy_actions="delta"), action_mode="delta")
    gripper = {"gripper_range": (1.0, -1.0)}
    assert refusal_of(spec, **gripper).hint == "Give --gripper-range 1 -1."
    check(spec, Adapters(**gripper), **gripper)
    roles = {"overhead_cam": "wrist", "wrist_cam": "scene"}
    hint = refusal_of(spec, camera_roles=roles, image_sizes=SIZES).hint
    assert hint.startswith("Give --camera-map ")
    pairs = parse_camera_map(hint.removeprefix("Give --camera-map ").removesuffix("."))
    check(
        spec,
        Adapters(camera_map=pairs),
        camera_roles=roles,
        image_sizes=SIZES,
    )


def test_where_no_flag_mends_it_the_other_environment_is_named():
    with closing(make_env("so101/pick_place_ee", {})) as env:
        hint = refusal_of(env.spec, action_mode="delta").hint
    assert hint == "Evaluate with --env so101/pick_place_ee_delta."
    with closing(make_env("so101/pick_place_ee_delta", {})) as other:
        check(other.spec, action_mode="delta")


@pytest.mark.parametrize(
    ("adapters", "declared"),
    [
        ({"policy_actions": "delta"}, {"action_mode": "absolute"}),
        ({"gripper_range": (0.0, 1.0)}, {"gripper_range": (0.0, 100.0)}),
        (
            {"camera_map": {"wrist_cam": "overhead_cam", "overhead_cam": "wrist_cam"}},
            {"camera_roles": {"wrist_cam": "wrist"}},
        ),
    ],
)
def test_a_flag_that_contradicts_what_is_declared_is_refused(spec, adapters, declared):
    check(spec, **declared)
    refusal = refusal_of(spec, Adapters(**adapters), **declared)
    assert refusal.subject.startswith("conventions of policy 'toy'")


def test_padding_is_of_a_wider_state_only(spec):
    wider = (*spec.state_names, "padding")
    padded = Adapters(allow_padding=True)
    check(spec, padded, state_names=wider)
    assert "state: " in refusal_of(spec, state_names=wider).got
    assert "state: " in refusal_of(spec, padded, state_names=wider[::-1]).got
