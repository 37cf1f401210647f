"""Tests every conversion against numbers computed by hand.

The policy returns the actions that the test gives to it.
"""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
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
from policies.policy import EpisodeMemory, NetworkPolicy, PolicySpec, WeightsAudit, make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.observation import Observation
from sim.spec import ActionSpec, CameraSpec, EnvSpec
from tests.small_checkpoints import (
    CAMERAS,
    IMAGE_PX,
    save_small_act,
    save_small_checkpoint,
    shrunken_paligemma,
)

NAMES = ("shoulder.pos", "gripper.pos", "wrist.pos")
GRIPPER = 1  # is not last, since the last could be found by accident

ENV = EnvSpec(
    name="table",
    task="table",
    instruction="tidy up",
    cameras=(CameraSpec("top", 4, 6, 45.0), CameraSpec("hand", 3, 5, 60.0)),
    state_names=NAMES,
    state_units=("deg", "range_0_100", "deg"),
    action=ActionSpec(
        names=NAMES,
        units=("deg", "range_0_100", "deg"),
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
IN_DELTAS = replace(
    ENV,
    action=replace(ENV.action, mode="delta"),
)


class FakePolicy:
    """A policy that plans `chunk` for every observation.

    It keeps the observations that it was shown, and counts its predictions in the episode's memory.
    """

    def __init__(self, chunk, **changes):
        self.chunk = np.float32(chunk)
        if self.chunk.ndim == 2:
            self.chunk = self.chunk[None]
        spec = PolicySpec(
            type="act",
            image_sizes={
                "top": (4, 6),
                "hand": (3, 5),
            },
            state_dim=3,
            action_dim=self.chunk.shape[-1],
            chunk_size=self.chunk.shape[1],
            n_action_steps=1,
            max_action_steps=self.chunk.shape[1],
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
        return ActionChunk(
            np.broadcast_to(
                self.chunk,
                (len(memories), *self.chunk.shape[1:]),
            ).copy()
        )

    def sample(self, memory, rngs):
        return self.predict(
            [replace(memory) for _ in rngs],
            rngs,
        )

    def network_inputs(self, observation):
        return {
            "state": observation.state[None],
            **{name: image[None] for name, image in observation.images.items()},
        }

    def out_of_range_inputs(self, observation):
        return {"state": (float(observation.state.min()), float(observation.state.max()))}

    def audit(self):
        return WeightsAudit(7, 0, 0, ())


def seen(state=(10.0, 20.0, 30.0), brightness=0):
    """Return one observation; each camera is grey, and the hand's is ten levels brighter."""
    images = {
        "top": np.full((4, 6, 3), brightness, np.uint8),
        "hand": np.full((3, 5, 3), brightness + 10, np.uint8),
    }
    return Observation(images, np.float32(state), "tidy up")


def rngs(n=1):
    return [np.random.default_rng(i) for i in range(n)]


def adapt(policy, env=ENV, **adapters):
    return AdaptedPolicy(policy, Adapters(**adapters), env)


def plan(chunk, state=(10.0, 20.0, 30.0), env=ENV, **adapters):
    """Return the adapted actions of one prediction of `chunk`."""
    return adapt(FakePolicy(chunk), env, **adapters).predict([make_memory(seen(state))], rngs())[0]


def shown_state(state, env=ENV, policy=None, **adapters):
    """Return the state that the policy receives for this state of the environment."""
    policy = policy or FakePolicy([[0, 0, 0]])
    adapt(policy, env, **adapters).predict([make_memory(seen(state))], rngs())
    return policy.shown[0][0].state


def test_the_adapted_policy_keeps_the_contract():
    assert isinstance(adapt(FakePolicy([[0, 0, 0]])), NetworkPolicy)
    assert adapt(FakePolicy([[0, 0, 0]])).audit().n_parameters == 7


@pytest.mark.parametrize("n_obs_steps", [1, 2])
def test_with_no_adapter_asked_for_nothing_changes_bit_for_bit(n_obs_steps):
    random = np.random.default_rng(0)
    for _ in range(20):
        chunk = random.normal(0, 10.0 ** random.integers(-6, 6), (3, 5, 3)).astype(np.float32)
        policy = FakePolicy(chunk, n_obs_steps=n_obs_steps)
        observations = [
            seen(random.normal(0, 50, 3), int(random.integers(200))) for _ in range(3 * n_obs_steps)
        ]
        histories = [observations[i::3] for i in range(3)]
        memories = [make_memory(*history, n_obs_steps=n_obs_steps) for history in histories]
        adapted = adapt(policy)
        given = rngs(3)
        assert adapted.predict(memories, given).actions.tobytes() == chunk.tobytes()
        assert all(ours is theirs for ours, theirs in zip(policy.rngs, given, strict=True))
        for history, shown in zip(histories, policy.shown, strict=True):
            for before, after in zip(history, shown, strict=True):
                assert (
                    after.state.dtype == np.float32
                    and after.state.tobytes() == before.state.tobytes()
                )
                assert (
                    after.images.keys() == before.images.keys()
                    and after.instruction == before.instruction
                )
                assert all(np.array_equal(after.images[c], before.images[c]) for c in before.images)
        assert adapted.spec == replace(
            policy.spec,
            image_sizes={
                "top": (4, 6),
                "hand": (3, 5),
            },
        )


def test_the_spec_is_the_environments_side():
    policy = FakePolicy(
        np.zeros((5, 7)),
        image_sizes={
            "base_0_rgb": (224, 224),
            "wrist": (96, 96),
            "third": (8, 8),
        },
        state_dim=32,
    )
    adapters = {
        "camera_map": {"top": "base_0_rgb", "hand": "wrist"},
        "allow_missing_camera": True,
    }
    spec = adapt(policy, allow_padding=True, **adapters).spec
    assert spec.image_sizes == {
        "top": (4, 6),
        "hand": (3, 5),
    }
    assert (spec.state_dim, spec.action_dim) == (3, 3)
    kept = {name: getattr(policy.spec, name) for name in ("image_sizes", "state_dim", "action_dim")}
    assert replace(spec, **kept) == policy.spec
    blind = FakePolicy(
        [[0, 0, 0]],
        image_sizes={},
        state_dim=None,
    )
    assert adapt(blind).spec.state_dim is None and adapt(blind).spec.image_sizes == {}


def test_cameras_are_renamed_and_swapped():
    policy = FakePolicy(
        [[0, 0, 0]],
        image_sizes={
            "base_0_rgb": (4, 6),
            "left_wrist_0_rgb": (3, 5),
        },
    )
    adapt(
        policy,
        camera_map={"top": "base_0_rgb", "hand": "left_wrist_0_rgb"},
    ).predict([make_memory(seen())], rngs())
    (((observation,),)) = policy.shown
    assert {name: int(image[0, 0, 0]) for name, image in observation.images.items()} == {
        "base_0_rgb": 0,
        "left_wrist_0_rgb": 10,
    }
    swapped = FakePolicy([[0, 0, 0]])
    adapted = adapt(
        swapped,
        camera_map={
            "top": "hand",
            "hand": "top",
        },
    )
    before = seen()
    adapted.predict([make_memory(before)], rngs())
    images = swapped.shown[0][0].images
    assert {name: int(image[0, 0, 0]) for name, image in images.items()} == {
        "top": 10,
        "hand": 0,
    }
    assert {name: int(image[0, 0, 0]) for name, image in before.images.items()} == {
        "top": 0,
        "hand": 10,
    }


@pytest.mark.parametrize("policy_type", LEROBOT_TYPES)
def test_a_camera_that_is_missing_is_left_out_where_the_type_masks_it_else_black(policy_type):
    masks = LEROBOT_TYPES[policy_type].masks_missing_views
    sizes = {
        "top": (4, 6),
        "hand": (3, 5),
        "left": (8, 9),
    }
    policy = FakePolicy(
        [[0, 0, 0]],
        type=policy_type,
        image_sizes=sizes,
        masks_missing_views=masks,
    )
    adapt(policy, allow_missing_camera=True).predict(
        [make_memory(seen(brightness=50))],
        rngs(),
    )
    images = policy.shown[0][0].images
    if policy_type in ("smolvla", "pi0", "pi05", "pi0_fast", "xvla"):
        assert images.keys() == {"top", "hand"}
    else:
        assert images.keys() == {"top", "hand", "left"}
        assert (
            images["left"].shape == (8, 9, 3)
            and images["left"].dtype == np.uint8
            and not images["left"].any()
        )
    assert images["top"].min() == 50 and images["hand"].min() == 60


def test_a_narrow_state_is_filled_up_with_zeros_and_a_wide_action_cut():
    policy = FakePolicy([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], state_dim=8)
    chunk = (
        adapt(policy, allow_padding=True)
        .predict([make_memory(seen((10.0, 20.0, 30.0)))], rngs())
        .actions
    )
    np.testing.assert_array_equal(policy.shown[0][0].state, [10, 20, 30, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(chunk, [[[1, 2, 3], [6, 7, 8]]])
    assert chunk.dtype == np.float32


def test_a_policy_that_reads_no_state_gets_it_as_it_is():
    assert shown_state(
        (1, 2, 3),
        policy=FakePolicy([[0, 0, 0]], state_dim=None),
    ).tolist() == [
        1,
        2,
        3,
    ]


def test_differences_are_added_to_the_state_of_the_prediction_not_to_one_another():
    """Differences are added to the state at the time of the prediction.

    The gripper's value is a target in every convention.
    """
    np.testing.assert_array_equal(
        plan(
            [[1, 2, 3], [4, 5, 6], [-7, 8, -9]],
            state=(10.0, 20.0, 30.0),
            policy_actions="delta",
        ),
        [[11, 2, 33], [14, 5, 36], [3, 8, 21]],
    )


def test_each_row_of_a_batch_starts_at_its_own_state():
    chunk = np.arange(12).reshape(2, 2, 3)
    memories = [
        make_memory(seen((100.0, 0.0, 200.0))),
        make_memory(seen((-100.0, 50.0, -200.0))),
    ]
    actions = adapt(FakePolicy(chunk), policy_actions="delta").predict(memories, rngs(2)).actions
    np.testing.assert_array_equal(
        actions, [[[100, 1, 202], [103, 4, 205]], [[-94, 7, -192], [-91, 10, -189]]]
    )


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
    np.testing.assert_array_equal(
        plan(
            [[1, 2, 3]],
            env=env,
            policy_actions=asked,
        ),
        [[1, 2, 3]],
    )


@pytest.mark.parametrize(
    ("closed_open", "pairs"),
    [
        (
            (0.0, 1.0),
            [
                (0, 0),
                (0.25, 25),
                (1, 100),
                (1.5, 150),
            ],
        ),
        (
            (1.0, -1.0),
            [
                (1, 0),
                (0.5, 25),
                (0, 50),
                (-1, 100),
            ],
        ),
        (
            (0.0, 97.0),
            [
                (0, 0),
                (97, 100),
                (48.5, 50),
            ],
        ),
        (
            (100.0, 0.0),
            [
                (100, 0),
                (0, 100),
                (75, 25),
            ],
        ),
        (
            (-1.0, 1.0),
            [
                (-1, 0),
                (0, 50),
                (1, 100),
            ],
        ),
    ],
)
def test_the_gripper_is_converted_both_ways(closed_open, pairs):
    """The gripper is converted in actions and in states.

    Each pair is (the policy's value, the environment's value).
    """
    for theirs, ours in pairs:
        action = plan([[7, theirs, 9]], gripper_range=closed_open)
        np.testing.assert_allclose(action, [[7, ours, 9]], rtol=1e-6)
        state = shown_state((7, ours, 9), gripper_range=closed_open)
        np.testing.assert_allclose(
            state,
            [7, theirs, 9],
            rtol=1e-6,
            atol=1e-7,
        )
        assert action.dtype == state.dtype == np.float32


def test_a_conversion_and_its_inverse_cancel():
    random = np.random.default_rng(0)
    values = random.uniform(-200, 200, 100).astype(np.float32)
    for _ in range(20):
        source, target = (tuple(random.uniform(-100, 100, 2).tolist()) for _ in range(2))
        back = convert_gripper(
            convert_gripper(values, source, target),
            target,
            source,
        )
        width = abs((source[1] - source[0]) / (target[1] - target[0]))
        np.testing.assert_allclose(back, values, atol=1e-3 * max(1.0, width))


def test_the_grippers_place_in_the_state_is_found_by_its_name():
    last = replace(ENV, state_names=("a", "b", "gripper.pos"))
    assert shown_state(
        (10, 20, 25),
        env=last,
        gripper_range=(0.0, 1.0),
    ).tolist() == [10, 20, 0.25]
    first = replace(ENV, state_names=("gripper.pos", "a", "b"))
    assert shown_state(
        (25, 20, 30),
        env=first,
        gripper_range=(0.0, 1.0),
    ).tolist() == [0.25, 20, 30]
    without = replace(ENV, state_names=("a", "b", "c"))
    assert shown_state(
        (10, 20, 30),
        env=without,
        gripper_range=(0.0, 1.0),
    ).tolist() == [10, 20, 30]
    np.testing.assert_array_equal(
        plan(
            [[1, 0.5, 3]],
            env=without,
            gripper_range=(0.0, 1.0),
        ),
        [[1, 50, 3]],
    )


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
    chunk = [[1, 1, 3, 99], [1, 0.6, 3, 99], [1, 0, 3, 99], [1, -1, 3, 99]]
    # The value 1 is closed and gives 0 - 20, and 0.6 gives 20 - 20: both are raised to 5. The value
    # 0 gives 50 - 20. The value -1 is wide open and gives 100 - 20.
    expected = [[11, 5, 33], [11, 5, 33], [11, 30, 33], [11, 80, 33]]
    np.testing.assert_allclose(
        plan(
            chunk,
            state=(10, 50, 30),
            **everything,
        ),
        expected,
        rtol=1e-6,
    )
    assert shown_state((10, 50, 30), **everything).tolist() == [10, 0, 30]


def test_offset_and_minimum_without_a_range():
    np.testing.assert_array_equal(
        plan([[1, 2, 3], [1, 40, 3]], gripper_offset=5.0), [[1, 7, 3], [1, 45, 3]]
    )
    np.testing.assert_array_equal(
        plan([[1, 2, 3], [1, 40, 3]], gripper_min=10.0), [[1, 10, 3], [1, 40, 3]]
    )
    np.testing.assert_array_equal(
        plan([[1, -4, 3]], gripper_min=0.0),
        [[1, 0, 3]],
    )


def test_the_wrong_instruction_is_the_opposite_one():
    env = replace(ENV, instructions=("tidy up", "go", "stop", "make a mess"))
    for is_wrong, told in ((True, "make a mess"), (False, "tidy up")):
        policy = FakePolicy([[0, 0, 0]])
        adapt(policy, env, wrong_instruction=is_wrong).predict([make_memory(seen())], rngs())
        assert policy.shown[0][0].instruction == told


def test_a_minimum_hides_no_nan():
    """A minimum leaves NaN in the plan, since the rollout must see it to refuse the plan."""
    assert np.isnan(
        plan(
            [[1, np.nan, 3]],
            gripper_min=10.0,
            gripper_range=(0.0, 1.0),
        )[0, GRIPPER]
    )


def test_what_the_policy_carries_survives_and_belongs_to_the_episode():
    policy = FakePolicy([[1, 2, 3]])
    adapted = adapt(policy, gripper_offset=1.0)
    first = adapted.reset()
    second = adapted.reset()
    for memory in (first, second):
        memory.observations.append(seen())
    adapted.predict([first], rngs())
    adapted.predict([first, second], rngs(2))
    assert (first.recurrent_state, second.recurrent_state) == (2, 1)


def test_a_history_is_adapted_as_a_whole_and_the_present_is_what_differences_start_from():
    policy = FakePolicy(
        [[1, 2, 3]],
        n_obs_steps=2,
        image_sizes={
            "hand": (4, 6),
            "top": (3, 5),
            "left": (2, 2),
        },
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
    for i in range(3):
        memory.observations.append(seen((i, 10 * i, 100 * i), brightness=i))
    before = list(memory.observations)
    actions = adapted.predict([memory], rngs())[0]
    np.testing.assert_allclose(
        [o.state for o in policy.shown[0]], [[1, 0.1, 100, 0], [2, 0.2, 200, 0]], rtol=1e-6
    )
    assert [int(o.images["hand"][0, 0, 0]) for o in policy.shown[0]] == [1, 2]
    assert [int(o.images["top"][0, 0, 0]) for o in policy.shown[0]] == [11, 12]
    assert all(o.images["left"].shape == (2, 2, 3) for o in policy.shown[0])
    np.testing.assert_allclose(actions, [[3, 200, 203]], rtol=1e-6)
    # The episode's own memory is still in the environment's terms.
    assert all(now is then for now, then in zip(memory.observations, before, strict=True))
    assert [o.state.tolist() for o in memory.observations] == [[1, 10, 100], [2, 20, 200]]


def test_alternative_plans_are_adapted_alike_and_leave_the_memory_alone():
    adapters = {
        "policy_actions": "delta",
        "gripper_range": (0.0, 1.0),
        "gripper_offset": 3.0,
    }
    policy = FakePolicy([[1, 0.5, 3]])
    adapted = adapt(policy, **adapters)
    memory = EpisodeMemory(deque([seen()], maxlen=1), recurrent_state=4)
    given = rngs(3)
    actions = adapted.sample(memory, given).actions
    np.testing.assert_array_equal(
        actions,
        np.repeat([[[11, 53, 33]]], 3, axis=0),
    )
    assert policy.shown[0][0].state.tolist() == [10, np.float32(0.2), 30]
    assert all(ours is theirs for ours, theirs in zip(policy.rngs, given, strict=True))
    assert memory.recurrent_state == 4 and memory.present.state.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(
        adapted.predict([memory], given[:1]).actions,
        actions[:1],
    )


def test_what_the_network_is_given_is_adapted_too():
    policy = FakePolicy([[0, 0, 0]], image_sizes={"base": (4, 6)})
    inputs = adapt(
        policy,
        camera_map={"top": "base"},
        gripper_range=(0.0, 1.0),
    ).network_inputs(
        Observation(
            {"top": np.full((4, 6, 3), 9, np.uint8)},
            np.float32([1, 50, 3]),
            "tidy up",
        )
    )
    assert inputs.keys() == {"state", "base"} and inputs["state"].tolist() == [[1, 0.5, 3]]


# The tests below use real checkpoints in the real environment.


def first_plan(setup, episode_index=3):
    setup.env.reset(episode_index)
    setup.env.step(setup.env.state() + np.float32([5, 5, -5, 5, 5, -5]))
    memory = make_memory(setup.env.observe())
    try:
        return memory, setup.policy.predict(
            [memory],
            [episode_rng("t", episode_index, 0)],
        )[0]
    finally:
        setup.env.close()


def test_other_camera_names_plan_what_the_same_weights_plan_under_the_environments_own(
    small_act, tmp_path
):
    folder = save_small_act(tmp_path / "renamed", cameras=("base_0_rgb", "left_wrist_0_rgb"))
    ours = load_file(small_act / "model.safetensors")
    theirs = load_file(folder / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name]) for name in ours
    )
    _, expected = first_plan(
        set_up(
            make_config(
                SubjectConfig,
                policy="act",
                checkpoint=str(small_act),
            )
        )
    )
    config = make_config(
        SubjectConfig,
        policy="act",
        checkpoint=str(folder),
    )
    mapped = set_up(
        replace_flags(config, camera_map="overhead_cam=base_0_rgb,wrist_cam=left_wrist_0_rgb")
    )
    assert mapped.policy.spec.image_sizes == dict.fromkeys(CAMERAS, (IMAGE_PX, IMAGE_PX))
    np.testing.assert_array_equal(first_plan(mapped)[1], expected)
    # ACT treats its views as a set: swapped views with equal statistics give the same plan. The
    # depth image is another picture.
    other = set_up(
        replace_flags(config, camera_map="overhead_cam_depth=base_0_rgb,wrist_cam=left_wrist_0_rgb")
    )
    assert np.abs(first_plan(other)[1] - expected).max() > 1e-2, (
        "a policy that does not look would pass"
    )


def test_a_wider_checkpoint_plans_from_zeros_and_is_cut(tmp_path):
    folder = save_small_act(tmp_path / "wide", state_dim=9, action_dim=8)
    setup = set_up(
        make_config(
            SubjectConfig,
            policy="act",
            checkpoint=str(folder),
            allow_padding=True,
        )
    )
    memory, actions = first_plan(setup)
    wide = make_memory(
        replace(
            memory.present,
            state=np.append(memory.present.state, np.zeros(3, np.float32)),
        )
    )
    direct = setup.policy.inner.predict([wide], [episode_rng("t", 3, 0)])[0]
    assert direct.shape == (10, 8) and actions.shape == (10, 6)
    np.testing.assert_array_equal(actions, direct[:, :6])


@pytest.mark.parametrize(
    "policy_type", [name for name, row in LEROBOT_TYPES.items() if row.masks_missing_views]
)
def test_a_camera_that_is_missing_is_masked_by_the_type_itself(policy_type, tmp_path):
    """The plan equals lerobot's own plan without that view.

    It differs from lerobot's plan with a black image.
    """
    folder = save_small_checkpoint(policy_type, tmp_path / policy_type)
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace("wrist_cam", "left_wrist_0_rgb"))
    config = make_config(
        SubjectConfig,
        policy=policy_type,
        checkpoint=str(folder),
        allow_missing_camera=True,
        trust_remote_code=True,
    )
    with shrunken_paligemma():
        setup = set_up(config)
    memory, actions = first_plan(setup)
    assert memory.present.images.keys() == {"overhead_cam"} and np.isfinite(actions).all()
    direct = setup.policy.inner.predict([memory], [episode_rng("t", 3, 0)])[0]
    np.testing.assert_array_equal(actions, direct)
    black = {"left_wrist_0_rgb": np.zeros((IMAGE_PX, IMAGE_PX, 3), np.uint8)}
    with_black = make_memory(
        replace(
            memory.present,
            images=dict(memory.present.images) | black,
        )
    )
    assert (
        np.abs(
            setup.policy.inner.predict([with_black], [episode_rng("t", 3, 0)])[0] - actions
        ).max()
        > 1e-3
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, None),
        ("640x480", (480, 640)),
        ("16x2048", (2048, 16)),
    ],
)
def test_an_image_size_is_read_with_its_width_first_and_written_as_it_is_read(text, size):
    assert parse_image_size(text) == size
    assert size is None or format_image_size(size) == text


NO_SIZES = (
    *(
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
    ),
    *("0x0", "8x8", "4096x480", "640x99999999999999999999", "٦٤x٤٨"),
)


@pytest.mark.parametrize("text", NO_SIZES)
def test_a_size_that_is_none_is_one_clear_error(text):
    with pytest.raises(
        WhiskerError, match="--image-size: expected WIDTHxHEIGHT, each 16 to 2048"
    ) as refusal:
        parse_image_size(text)
    assert refusal.value.got == repr(text)


def test_a_camera_that_is_missing_is_black_at_the_size_of_the_others(tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("overhead_cam", "left"))
    config = make_config(
        SubjectConfig,
        policy="act",
        checkpoint=str(folder),
        allow_missing_camera=True,
        image_size="64x48",
    )
    setup = set_up(config)
    memory, _ = first_plan(setup)
    images = setup.policy.adapt_observation(memory.present).images
    assert {camera: image.shape for camera, image in images.items()} == {
        "overhead_cam": (48, 64, 3),
        "left": (48, 64, 3),
    }
    assert images["left"].max() == 0 < images["overhead_cam"].max()
