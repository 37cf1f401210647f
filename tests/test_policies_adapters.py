"""Tests every conversion against numbers computed by hand.

The policy returns the actions that the test gives to it.
"""

import operator
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file

from eval.config import SubjectConfig
from eval.evaluation import set_up
from policies.action_chunk import ActionChunk
from policies.adapters import (
    AdaptedPolicy,
    Adapters,
    convert_gripper,
    format_image_size,
    parse_image_size,
)
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import NetworkPolicy, PolicySpec, WeightsAudit, make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from sim.spec import ActionSpec, CameraSpec, EnvSpec
from tests.small_checkpoints import CAMERAS, IMAGE_PX, save_small_act, shrunken_paligemma

NAMES = ("shoulder.pos", "gripper.pos", "wrist.pos")
GRIPPER = 1  # is not last, since the last could be found by accident
UNITS = ("deg", "range_0_100", "deg")
SIZES = {"top": (4, 6), "hand": (3, 5)}

ENV = EnvSpec(
    name="table",
    task="table",
    instruction="tidy up",
    cameras=(CameraSpec("top", 4, 6, 45.0), CameraSpec("hand", 3, 5, 60.0)),
    state_names=NAMES,
    state_units=UNITS,
    action=ActionSpec(
        names=NAMES,
        units=UNITS,
        low=(-90.0, 0.0, -90.0),
        high=(90.0, 100.0, 90.0),
        mode="absolute",
        rotation="none",
        gripper_index=GRIPPER,
        gripper_closed=0.0,
        gripper_open=100.0,
    ),
    control_dt_s=0.1,
    physics_dt_s=0.01,
    max_steps=10,
    camera_names=("top", "hand"),
)
IN_DELTAS = replace(ENV, action=replace(ENV.action, mode="delta"))


class FakePolicy:
    """A policy that plans `chunk` for every observation.

    It keeps the observations that it was shown, and counts its predictions in the episode's memory.
    """

    def __init__(
        self,
        chunk=((0, 0, 0),),
        **changes,
    ):
        self.chunk = np.float32(chunk)
        if self.chunk.ndim == 2:
            self.chunk = self.chunk[None]
        _, chunk_size, action_dim = self.chunk.shape
        spec = PolicySpec(
            type="act",
            image_sizes=SIZES,
            state_dim=3,
            action_dim=action_dim,
            chunk_size=chunk_size,
            n_action_steps=1,
            max_action_steps=chunk_size,
            stochastic=False,
            checkpoint="somewhere",
        )
        self.spec = replace(spec, **changes)
        self.shown = []
        self.rngs = []

    def reset(self):
        return make_memory(n_obs_steps=self.spec.n_obs_steps)

    def predict(self, memories, rngs):
        self.shown = [list(memory.observations) for memory in memories]
        self.rngs = list(rngs)
        for memory in memories:
            memory.recurrent_state = (memory.recurrent_state or 0) + 1
        shape = (len(memories), *self.chunk.shape[1:])
        return ActionChunk(np.broadcast_to(self.chunk, shape).copy())

    def sample(self, memory, rngs):
        return self.predict([replace(memory) for _ in rngs], rngs)

    def network_inputs(self, observation):
        images = {name: image[None] for name, image in observation.images.items()}
        return {"state": observation.state[None], **images}

    def out_of_range_inputs(self, observation):
        return {}

    def audit(self):
        return WeightsAudit(7, 0, 0, ())


def seen(state=(10, 20, 30), brightness=0):
    """Return one observation; each camera is grey, and the hand's is ten levels brighter."""
    top = np.full((4, 6, 3), brightness, np.uint8)
    hand = np.full(
        (3, 5, 3),
        brightness + 10,
        np.uint8,
    )
    return Observation({"top": top, "hand": hand}, np.float32(state), "tidy up")


def brightness_of(observation):
    return {camera: int(image.max()) for camera, image in observation.images.items()}


def rngs(n):
    return [np.random.default_rng(i) for i in range(n)]


def predict(policy, *memories):
    return policy.predict(list(memories), rngs(len(memories))).actions


def adapt(policy, env=ENV, **adapters):
    return AdaptedPolicy(policy, Adapters(**adapters), env)


def plan(
    chunk,
    state=(10, 20, 30),
    env=ENV,
    **adapters,
):
    """Return the adapted actions of one prediction of `chunk`."""
    adapted = adapt(FakePolicy(chunk), env, **adapters)
    memory = make_memory(seen(state))
    return predict(adapted, memory)[0]


def show(policy, observation, env=ENV, **adapters):
    """Return what the policy receives for this observation of the environment."""
    predict(adapt(policy, env, **adapters), make_memory(observation))
    return policy.shown[0][0]


def shown_state(state, env=ENV, **adapters):
    """Return the state that a policy receives for this state of the environment."""
    return show(
        FakePolicy(state_dim=len(state)),
        seen(state),
        env,
        **adapters,
    ).state


def test_the_adapted_policy_keeps_the_contract():
    adapted = adapt(FakePolicy())
    assert isinstance(adapted, NetworkPolicy)
    assert adapted.audit().n_parameters == 7


@pytest.mark.parametrize("n_obs_steps", [1, 2])
def test_with_no_adapter_asked_for_nothing_changes_bit_for_bit(n_obs_steps):
    random = np.random.default_rng(0)
    for _ in range(20):
        chunk = random.normal(
            0,
            10.0 ** random.integers(-6, 6),
            (3, 5, 3),
        ).astype(np.float32)
        policy = FakePolicy(chunk, n_obs_steps=n_obs_steps)
        adapted = adapt(policy)
        assert adapted.spec == policy.spec
        memories = [adapted.reset() for _ in range(3)]
        for memory in memories * n_obs_steps:
            brightness = int(random.integers(200))
            memory.observations.append(seen(random.normal(0, 50, 3), brightness))
        given = rngs(3)
        assert adapted.predict(memories, given).actions.tobytes() == chunk.tobytes()
        assert all(map(operator.is_, policy.rngs, given))
        shown = [each for history in policy.shown for each in history]
        before = [each for memory in memories for each in memory.observations]
        for after, observation in zip(shown, before, strict=True):
            assert after.state.dtype == np.float32
            assert after.state.tobytes() == observation.state.tobytes()
            assert after.instruction == observation.instruction
            np.testing.assert_equal(after.images, observation.images)


def test_the_spec_is_the_environments_side():
    sizes = {
        "base_0_rgb": (224, 224),
        "wrist": (96, 96),
        "third": (8, 8),
    }
    policy = FakePolicy(
        np.zeros((5, 7)),
        image_sizes=sizes,
        state_dim=32,
    )
    spec = adapt(
        policy,
        allow_padding=True,
        camera_map={"top": "base_0_rgb", "hand": "wrist"},
        allow_missing_camera=True,
    ).spec
    assert spec == replace(
        policy.spec,
        image_sizes=SIZES,
        state_dim=3,
        action_dim=3,
    )


def test_the_spec_of_a_policy_that_sees_nothing_has_no_state_and_no_camera():
    spec = adapt(FakePolicy(image_sizes={}, state_dim=None)).spec
    assert spec.state_dim is None
    assert spec.image_sizes == {}


@pytest.mark.parametrize(("top", "hand"), [("base_0_rgb", "left_wrist_0_rgb"), ("hand", "top")])
def test_cameras_are_renamed_and_swapped(top, hand):
    policy = FakePolicy(image_sizes={top: (4, 6), hand: (3, 5)})
    before = seen()
    shown = show(policy, before, camera_map={"top": top, "hand": hand})
    assert brightness_of(shown) == {top: 0, hand: 10}
    assert brightness_of(before) == {"top": 0, "hand": 10}


@pytest.mark.parametrize("policy_type", LEROBOT_TYPES)
def test_a_camera_that_is_missing_is_left_out_where_the_type_masks_it_else_black(policy_type):
    policy = FakePolicy(
        type=policy_type,
        image_sizes=SIZES | {"left": (8, 9)},
        masks_missing_views=LEROBOT_TYPES[policy_type].masks_missing_views,
    )
    shown = show(policy, seen(brightness=50), allow_missing_camera=True)
    there = {"top": 50, "hand": 60}
    if policy_type in ("smolvla", "pi0", "pi05", "pi0_fast", "xvla"):
        assert brightness_of(shown) == there
    else:
        assert brightness_of(shown) == there | {"left": 0}
        assert shown.images["left"].shape == (8, 9, 3)
        assert shown.images["left"].dtype == np.uint8


def test_a_narrow_state_is_filled_up_with_zeros():
    shown = show(
        FakePolicy(state_dim=8),
        seen((10, 20, 30)),
        allow_padding=True,
    )
    assert_array_equal(shown.state, [10, 20, 30, 0, 0, 0, 0, 0])


def test_a_wide_action_is_cut():
    actions = plan(
        [
            [1, 2, 3, 4, 5],
            [6, 7, 8, 9, 10],
        ],
        allow_padding=True,
    )
    assert_array_equal(actions, [[1, 2, 3], [6, 7, 8]])
    assert actions.dtype == np.float32


def test_a_policy_that_reads_no_state_gets_it_as_it_is():
    policy = FakePolicy(state_dim=None)
    shown = show(policy, seen((1, 2, 3)))
    assert_array_equal(shown.state, [1, 2, 3])


def test_differences_are_added_to_the_state_of_the_prediction_not_to_one_another():
    """Differences are added to the state at the time of the prediction.

    The gripper's value is a target in every convention.
    """
    chunk = [
        [1, 2, 3],
        [4, 5, 6],
        [-7, 8, -9],
    ]
    actions = plan(chunk, state=(10, 20, 30), policy_actions="delta")
    assert_array_equal(
        actions,
        [
            [11, 2, 33],
            [14, 5, 36],
            [3, 8, 21],
        ],
    )


def test_each_row_of_a_batch_starts_at_its_own_state():
    chunk = np.arange(12).reshape(2, 2, 3)
    adapted = adapt(FakePolicy(chunk), policy_actions="delta")
    memories = [
        make_memory(seen((100, 0, 200))),
        make_memory(seen((-100, 50, -200))),
    ]
    first, second = predict(adapted, *memories)
    assert_array_equal(first, [[100, 1, 202], [103, 4, 205]])
    assert_array_equal(second, [[-94, 7, -192], [-91, 10, -189]])


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        (ENV, "absolute"),
        (ENV, None),
        (IN_DELTAS, "delta"),
        (IN_DELTAS, None),
    ],
)
def test_actions_as_the_environment_takes_them_stay(env, asked):
    assert_array_equal(
        plan(
            [[1, 2, 3]],
            env=env,
            policy_actions=asked,
        ),
        [[1, 2, 3]],
    )


@pytest.mark.parametrize(
    ("closed_open", "theirs", "ours"),
    [
        (
            (0.0, 1.0),
            (0, 0.25, 1, 1.5),
            (0, 25, 100, 150),
        ),
        (
            (1.0, -1.0),
            (1, 0.5, 0, -1),
            (0, 25, 50, 100),
        ),
        (
            (0.0, 97.0),
            (0, 97, 48.5),
            (0, 100, 50),
        ),
        (
            (100.0, 0.0),
            (100, 0, 75),
            (0, 100, 25),
        ),
        (
            (-1.0, 1.0),
            (-1, 0, 1),
            (0, 50, 100),
        ),
    ],
)
def test_the_gripper_is_converted_both_ways(closed_open, theirs, ours):
    """The gripper is converted to the environment's values in actions, and back in states."""
    for policys, envs in zip(theirs, ours, strict=True):
        action = plan([[7, policys, 9]], gripper_range=closed_open)
        assert_allclose(action, [[7, envs, 9]], rtol=1e-6)
        state = shown_state((7, envs, 9), gripper_range=closed_open)
        assert_allclose(
            state,
            [7, policys, 9],
            rtol=1e-6,
            atol=1e-7,
        )
        assert action.dtype == state.dtype == np.float32


def test_a_conversion_and_its_inverse_cancel():
    random = np.random.default_rng(0)
    values = random.uniform(-200, 200, 100).astype(np.float32)
    for _ in range(20):
        source, target = (tuple(ends) for ends in random.uniform(-100, 100, (2, 2)).tolist())
        there = convert_gripper(values, source, target)
        width = abs(np.diff(source) / np.diff(target)).item()
        back = convert_gripper(there, target, source)
        assert_allclose(back, values, atol=1e-3 * max(1.0, width))


@pytest.mark.parametrize(
    ("names", "state", "shown"),
    [
        (
            ("a", "b", "gripper.pos"),
            (10, 20, 25),
            [10, 20, 0.25],
        ),
        (
            ("gripper.pos", "a", "b"),
            (25, 20, 30),
            [0.25, 20, 30],
        ),
        (
            ("a", "b", "c"),
            (10, 20, 30),
            [10, 20, 30],
        ),
    ],
)
def test_the_grippers_place_in_the_state_is_found_by_its_name(names, state, shown):
    env = replace(ENV, state_names=names)
    assert_array_equal(shown_state(state, env, gripper_range=(0.0, 1.0)), shown)
    actions = plan(
        [[1, 0.5, 3]],
        env=env,
        gripper_range=(0.0, 1.0),
    )
    assert_array_equal(actions, [[1, 50, 3]])


def test_offset_and_minimum_are_in_the_environments_units_and_of_the_target_alone():
    """The gripper's target is converted, then shifted, then raised to the minimum.

    Differences do not apply to the gripper.
    """
    everything = {
        "policy_actions": "delta",
        "gripper_range": (1.0, -1.0),
        "gripper_offset": -20.0,
        "gripper_min": 5.0,
        "allow_padding": True,
    }
    chunk = [
        [1, 1, 3, 99],
        [1, 0.6, 3, 99],
        [1, 0, 3, 99],
        [1, -1, 3, 99],
    ]
    # The value 1 is closed and gives 0 - 20, and 0.6 gives 20 - 20: both are raised to 5. The value
    # 0 gives 50 - 20. The value -1 is wide open and gives 100 - 20.
    expected = [
        [11, 5, 33],
        [11, 5, 33],
        [11, 30, 33],
        [11, 80, 33],
    ]
    assert_allclose(
        plan(
            chunk,
            state=(10, 50, 30),
            **everything,
        ),
        expected,
        rtol=1e-6,
    )
    assert_array_equal(shown_state((10, 50, 30), **everything), [10, 0, 30])


@pytest.mark.parametrize(
    ("adapters", "theirs", "ours"),
    [
        ({"gripper_offset": 5.0}, 2, 7),
        ({"gripper_offset": 5.0}, 40, 45),
        ({"gripper_min": 10.0}, 2, 10),
        ({"gripper_min": 10.0}, 40, 40),
        ({"gripper_min": 0.0}, -4, 0),
        # The rollout must see NaN to refuse the plan.
        ({"gripper_min": 10.0}, np.nan, np.nan),
        (
            {"gripper_min": 10.0, "gripper_range": (0.0, 1.0)},
            np.nan,
            np.nan,
        ),
    ],
)
def test_offset_and_minimum_without_a_range_and_of_nan(adapters, theirs, ours):
    assert_array_equal(
        plan(
            [[1, theirs, 3]],
            **adapters,
        ),
        [[1, ours, 3]],
    )


@pytest.mark.parametrize(("is_wrong", "told"), [(True, "make a mess"), (False, "tidy up")])
def test_the_wrong_instruction_is_the_opposite_one(is_wrong, told):
    env = replace(ENV, instructions=("tidy up", "go", "stop", "make a mess"))
    shown = show(
        FakePolicy(),
        seen(),
        env,
        wrong_instruction=is_wrong,
    )
    assert shown.instruction == told


def test_what_the_policy_carries_survives_and_belongs_to_the_episode():
    adapted = adapt(FakePolicy(), gripper_offset=1.0)
    first = adapted.reset()
    second = adapted.reset()
    for memory in (first, second):
        memory.observations.append(seen())
    predict(adapted, first)
    predict(adapted, first, second)
    assert first.recurrent_state == 2
    assert second.recurrent_state == 1


def test_a_history_is_adapted_as_a_whole_and_the_present_is_what_differences_start_from():
    sizes = {
        "hand": (4, 6),
        "top": (3, 5),
        "left": (2, 2),
    }
    policy = FakePolicy(
        [[1, 2, 3]],
        n_obs_steps=2,
        image_sizes=sizes,
        state_dim=4,
    )
    adapted = adapt(
        policy,
        camera_map={"top": "hand", "hand": "top"},
        gripper_range=(0.0, 1.0),
        policy_actions="delta",
    )
    memory = adapted.reset()
    assert memory.observations.maxlen == 2
    memory.observations += [seen((i, 10 * i, 100 * i), brightness=i) for i in range(3)]
    before = list(memory.observations)
    (actions,) = predict(adapted, memory)
    (shown,) = policy.shown
    states = [[1, 0.1, 100, 0], [2, 0.2, 200, 0]]
    assert_allclose([each.state for each in shown], states, rtol=1e-6)
    for i, each in enumerate(shown, start=1):
        assert brightness_of(each) == {"hand": i, "top": 10 + i, "left": 0}
        assert each.images["left"].shape == (2, 2, 3)
    assert_allclose(actions, [[3, 200, 203]], rtol=1e-6)
    # The episode's own memory is still in the environment's terms.
    assert all(map(operator.is_, memory.observations, before))
    assert [each.state.tolist() for each in before] == [[1, 10, 100], [2, 20, 200]]


def test_alternative_plans_are_adapted_alike_and_leave_the_memory_alone():
    policy = FakePolicy([[1, 0.5, 3]])
    adapted = adapt(
        policy,
        policy_actions="delta",
        gripper_range=(0.0, 1.0),
        gripper_offset=3.0,
    )
    memory = make_memory(seen())
    memory.recurrent_state = 4
    given = rngs(3)
    actions = adapted.sample(memory, given).actions
    assert_array_equal(actions, [[[11, 53, 33]]] * 3)
    assert_array_equal(policy.shown[0][0].state, np.float32([10, 0.2, 30]))
    assert all(map(operator.is_, policy.rngs, given))
    assert memory.recurrent_state == 4
    assert memory.present.state.tolist() == [10, 20, 30]
    assert_array_equal(predict(adapted, memory), actions[:1])


def test_what_the_network_is_given_is_adapted_too():
    policy = FakePolicy(image_sizes={"base": (4, 6)})
    adapted = adapt(policy, camera_map={"top": "base"}, gripper_range=(0.0, 1.0))
    observation = seen((1, 50, 3))
    del observation.images["hand"]
    inputs = adapted.network_inputs(observation)
    assert inputs.keys() == {"state", "base"}
    assert_array_equal(inputs["state"], [[1, 0.5, 3]])


# The tests below use real checkpoints in the real environment.


def set_up_checkpoint(folder, **flags):
    return set_up(make_config(SubjectConfig, checkpoint=str(folder), **flags))


def predict_real(policy, observation):
    return policy.predict([make_memory(observation)], [episode_rng("t", 3, 0)])[0]


def first_plan(setup):
    """Return the first observation in episode 3 and the plan, and close the environment."""
    with closing(setup.env) as env:
        env.reset(3)
        away = np.float32([5, 5, -5, 5, 5, -5])
        env.step(env.state() + away)
        observation = env.observe()
        return observation, predict_real(setup.policy, observation)


def test_other_camera_names_plan_what_the_same_weights_plan_under_the_environments_own(
    small_act, tmp_path
):
    folder = save_small_act(tmp_path / "renamed", cameras=("base_0_rgb", "left_wrist_0_rgb"))
    ours = load_file(small_act / "model.safetensors")
    np.testing.assert_equal(load_file(folder / "model.safetensors"), ours)
    _, expected = first_plan(set_up_checkpoint(small_act))
    mapped = set_up_checkpoint(
        folder,
        camera_map="overhead_cam=base_0_rgb,wrist_cam=left_wrist_0_rgb",
    )
    assert mapped.policy.spec.image_sizes == dict.fromkeys(CAMERAS, (IMAGE_PX, IMAGE_PX))
    assert_array_equal(first_plan(mapped)[1], expected)
    # ACT treats its views as a set: swapped views with equal statistics give the same plan. The
    # depth image is another picture.
    other = set_up_checkpoint(
        folder,
        camera_map="overhead_cam_depth=base_0_rgb,wrist_cam=left_wrist_0_rgb",
    )
    change = np.abs(first_plan(other)[1] - expected).max()
    assert change > 1e-2, "a policy that does not look would pass"


def test_a_wider_checkpoint_plans_from_zeros_and_is_cut(tmp_path):
    folder = save_small_act(tmp_path / "wide", state_dim=9, action_dim=8)
    setup = set_up_checkpoint(folder, allow_padding=True)
    observation, actions = first_plan(setup)
    wide = replace(
        observation,
        state=np.append(
            observation.state,
            np.float32([0, 0, 0]),
        ),
    )
    direct = predict_real(setup.policy.inner, wide)
    assert direct.shape == (10, 8)
    assert_array_equal(actions, direct[:, :6])


@pytest.mark.parametrize(
    "policy_type",
    [name for name, row in LEROBOT_TYPES.items() if row.masks_missing_views],
)
def test_a_camera_that_is_missing_is_masked_by_the_type_itself(
    policy_type, small_checkpoint, tmp_path
):
    """The plan equals lerobot's own plan without that view.

    It differs from lerobot's plan with a black image.
    """
    folder = shutil.copytree(small_checkpoint(policy_type), tmp_path / policy_type)
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace("wrist_cam", "left_wrist_0_rgb"))
    with shrunken_paligemma():
        setup = set_up_checkpoint(folder, allow_missing_camera=True, trust_remote_code=True)
    observation, actions = first_plan(setup)
    assert observation.images.keys() == {"overhead_cam"}
    assert np.isfinite(actions).all()
    lerobots = setup.policy.inner
    assert_array_equal(predict_real(lerobots, observation), actions)
    black = np.zeros((IMAGE_PX, IMAGE_PX, 3), np.uint8)
    images = {**observation.images, "left_wrist_0_rgb": black}
    with_black = predict_real(lerobots, replace(observation, images=images))
    assert np.abs(with_black - actions).max() > 1e-3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("640x480", (480, 640)),
        ("16x2048", (2048, 16)),
    ],
)
def test_an_image_size_is_read_with_its_width_first_and_written_as_it_is_read(text, size):
    assert parse_image_size(text) == size
    assert format_image_size(size) == text


def test_no_image_size_is_none():
    assert parse_image_size(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "640",
        "640x",
        "x480",
        "640x480x3",
        "640X480",
        "640 x 480",
        "-640x480",
        "640.0x480",
        "640,480",
        "0x0",
        "8x8",
        "4096x480",
        "640x99999999999999999999",
        "٦٤x٤٨",
    ],
)
def test_a_size_that_is_none_is_one_clear_error(text):
    said = "--image-size: expected WIDTHxHEIGHT, each 16 to 2048"
    with pytest.raises(WhiskerError, match=said) as refusal:
        parse_image_size(text)
    assert refusal.value.got == repr(text)


def test_a_camera_that_is_missing_is_black_at_the_size_of_the_others(tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("overhead_cam", "left"))
    setup = set_up_checkpoint(folder, allow_missing_camera=True, image_size="64x48")
    observation, _ = first_plan(setup)
    images = setup.policy.adapt_observation(observation).images
    assert images.keys() == {"overhead_cam", "left"}
    assert {image.shape for image in images.values()} == {(48, 64, 3)}
    assert images["left"].max() == 0 < images["overhead_cam"].max()
