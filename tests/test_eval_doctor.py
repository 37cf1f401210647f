"""Tests that plant each known bug in a good checkpoint or environment.

The doctor must name the bug, and must report no problem in a healthy setup.
"""

import json
import re
import shutil
from contextlib import closing
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from eval.cli import main, main_doctor
from eval.config import AdapterConfig, SubjectConfig
from eval.doctor import diagnosis
from eval.doctor.agreement import check_agreement
from eval.doctor.check_context import CheckContext
from eval.doctor.diagnosis import run_checks
from eval.doctor.finding import Level
from eval.doctor.machine_checks import check_horizon
from eval.doctor.scene_checks import check_expert
from eval.drivers import run_episode
from eval.evaluation import set_up
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.subject import make_adapters
from policies.action_chunk import ActionChunk
from policies.checkpoint_lookup import find_checkpoint
from policies.policy import EpisodeMemory, make_memory
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.so101.goals import declare_goal
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE
from tests.small_checkpoints import CAMERAS, save_small_act

ACT = make_config(SubjectConfig, policy="act")

STAGES = tuple(PICK_AND_PLACE.stages)


@pytest.fixture(scope="module")
def act():
    setup = set_up(ACT)
    yield setup
    setup.env.close()


@pytest.fixture
def checkpoint(tmp_path):
    """Return a copy of the shipped ACT that a test may damage.

    The copy does not record the environment that it was trained in.
    """
    folder = shutil.copytree(find_checkpoint("act"), tmp_path / "act")
    (folder / "training_env.json").unlink()
    return folder


def findings_of(config, setup=None, *, compares=True):
    """Return the problems that the doctor finds, by (check, finding).

    Args:
        compares: whether to compare with the expert. The comparison makes some eighty predictions
            if the policy disagrees, so tests of a bug that another check names leave it out.
    """
    setup = setup or set_up(config)
    checks = tuple(
        c for c in diagnosis._FOR_LEARNED_POLICIES if compares or c is not check_agreement
    )
    with patch.object(diagnosis, "_FOR_LEARNED_POLICIES", checks):
        return {(f.check, f.finding): f for f in run_checks(config, setup) if f.is_problem}


def named(found, check, words):
    """Return the finding with these words. Fail if the doctor did not report it."""
    hits = [f for (c, text), f in found.items() if c == check and words in text]
    assert hits, f"the doctor said: {sorted(found)}"
    assert hits[0].hint
    print(*found.values(), sep="\n")
    return hits[0]


def examine_copy(folder, *, compares=True, **flags):
    config = replace_flags(ACT, checkpoint=str(folder), **flags)
    setup = set_up(config)
    try:
        return findings_of(config, setup, compares=compares)
    finally:
        setup.env.close()


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def edit_stats(folder, edit, part="policy_*processor"):
    """Change the normalisers' tensors. `edit(name, value)` returns the new value."""
    for path in folder.glob(f"{part}_step_*.safetensors"):
        save_file(
            {name: np.asarray(edit(name, value)) for name, value in load_file(path).items()}, path
        )


def wrapped(setup, **methods):
    """Return the setup with a policy whose methods are replaced."""

    class Wrapped:
        spec = setup.policy.spec
        network_inputs = setup.policy.network_inputs
        out_of_range_inputs = setup.policy.out_of_range_inputs
        audit = setup.policy.audit
        reset = methods.get("reset", setup.policy.reset)
        predict = methods.get("predict", setup.policy.predict)
        sample = setup.policy.sample

    for name, method in methods.items():
        setattr(Wrapped, name, staticmethod(method))
    return replace(setup, policy=Wrapped())


def in_env(setup, env):
    return replace(setup, env=env)


class OtherEyes(PickPlace):
    """An environment with a bug in the images that it returns."""

    see = staticmethod(lambda image: image)

    def observe(self):
        seen = super().observe()
        return replace(
            seen, images={n: np.ascontiguousarray(self.see(i)) for n, i in seen.images.items()}
        )


def other_eyes(setup, see):
    env = OtherEyes("so101/pick_place", image_sizes=setup.policy.spec.image_sizes)
    env.see = see
    return in_env(setup, env)


def test_the_shipped_checkpoint_is_healthy(act):
    assert findings_of(ACT, act) == {}


def test_the_visit_changes_no_episode(act):
    def roll_out():
        return run_episode(
            act.env, act.policy, 3, EpisodeRecorder(), RolloutSettings(act.n_action_steps, 60)
        ).arrays

    before = roll_out()
    run_checks(ACT, act)
    after = roll_out()
    np.testing.assert_array_equal(after.step_snapshot, before.step_snapshot)
    np.testing.assert_array_equal(after.chunk, before.chunk)


def test_1_a_queue_that_survives_the_reset(act):
    """lerobot's own action queue holds 20 actions.

    A runner that takes chunks of 15 leaves 5 of them for the next episode.
    """
    network = act.policy.network

    def predict(memories, rngs):
        chunks = []
        for memory in memories:
            batch = act.policy._preprocess([memory.present])
            with torch.inference_mode():
                actions = torch.stack(
                    [network.select_action(dict(batch)) for _ in range(15)], dim=1
                )
                chunks.append(act.policy._postprocessor(actions).numpy())
        return ActionChunk(np.concatenate([*chunks]).astype(np.float32))

    network.reset()
    stale = wrapped(
        replace(act, n_action_steps=15),
        reset=lambda: make_memory(),
        predict=predict,
    )
    named(
        findings_of(ACT, stale, compares=False),
        "reset",
        "different plans",
    )
    network.reset()


def test_2_normalisation_that_is_skipped(checkpoint):
    def skip(pipeline):
        pipeline["steps"][-1]["config"]["norm_map"] |= {"STATE": "IDENTITY"}

    edit_json(checkpoint / "policy_preprocessor.json", skip)
    named(
        examine_copy(checkpoint, compares=False),
        "statistics",
        "observation.state is not normalised at all",
    )


@pytest.mark.parametrize("kind", ["VISUAL", "STATE"])
def test_2_a_processor_that_leaves_out_what_config_json_says(checkpoint, kind):
    def leave_out(pipeline):
        normaliser = next(
            step for step in pipeline["steps"] if step["registry_name"] == "normalizer_processor"
        )
        normaliser["config"]["norm_map"][kind] = "IDENTITY"

    edit_json(checkpoint / "policy_preprocessor.json", leave_out)
    found = named(
        examine_copy(checkpoint, compares=False), "statistics", "is not normalised at all"
    )
    assert (
        found.level is Level.ERROR and found.evidence == "processor IDENTITY, config.json MEAN_STD"
    )


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("VISUAL", "IDENTITY"),
        ("STATE", "MIN_MAX"),
        ("ACTION", "MIN_MAX"),
    ],
)
def test_2_a_config_json_that_says_another_way_than_the_processor(checkpoint, kind, mode):
    """lerobot follows the processor, which is healthy, so this is only a warning."""
    edit_json(
        checkpoint / "config.json",
        lambda c: c["normalization_mapping"].update({kind: mode}),
    )
    found = examine_copy(checkpoint)
    evidence = named(found, "statistics", "in another way than config.json says").evidence
    assert evidence == f"processor MEAN_STD, config.json {mode}"
    assert {finding.level for finding in found.values()} == {Level.WARNING}


def test_2_statistics_under_other_names(checkpoint):
    """The loader refuses the checkpoint, since lerobot would leave the feature unnormalised."""
    for path in checkpoint.glob("policy_preprocessor_step_*.safetensors"):
        save_file(
            {
                k.replace("observation.state", "observation.joints"): v
                for k, v in load_file(path).items()
            },
            path,
        )
    with pytest.raises(
        WhiskerError, match=r"statistics of 'observation\.state'.*would not be normalised"
    ):
        set_up(replace_flags(ACT, checkpoint=str(checkpoint)))


def test_3_an_image_std_near_zero(checkpoint):
    edit_stats(
        checkpoint, lambda name, v: v * 0 + np.float32(0.002) if "overhead_cam.std" in name else v
    )
    found = examine_copy(checkpoint, compares=False)
    assert "0.0020" in named(found, "statistics", "standard deviation is far too small").evidence
    assert (
        "-"
        in named(
            found, "normalised observation", "overhead_cam of a real frame is far outside"
        ).evidence
    )


def test_3_statistics_of_0_255_pixels(checkpoint):
    edit_stats(
        checkpoint, lambda name, v: v * 255 if "wrist_cam" in name and "count" not in name else v
    )
    named(examine_copy(checkpoint, compares=False), "statistics", "statistics of 0-255 pixels")


def test_4_depth_where_colour_was_trained(checkpoint):
    found = examine_copy(checkpoint, camera_map="overhead_cam_depth=overhead_cam", compares=False)
    assert (
        named(found, "depth or colour", "trained on colour is shown depth").hint
        == "Leave --camera-map out."
    )


def test_5_swapped_cameras(checkpoint):
    found = examine_copy(
        checkpoint, camera_map="overhead_cam=wrist_cam,wrist_cam=overhead_cam", compares=False
    )
    assert "swap" in named(found, "cameras", "swapped").finding


def rename_camera(folder, old, new):
    for path in (*folder.glob("*.json"),):
        path.write_text(path.read_text().replace(old, new))
    for path in folder.glob("policy_*_step_*.safetensors"):
        save_file(
            {name.replace(old, new): value for name, value in load_file(path).items()},
            path,
        )


def test_5_other_camera_names_are_refused_with_the_obvious_map(checkpoint):
    rename_camera(checkpoint, "overhead_cam", "base_0_rgb")
    rename_camera(checkpoint, "wrist_cam", "left_wrist_0_rgb")
    proposed = "overhead_cam=base_0_rgb,wrist_cam=left_wrist_0_rgb"
    with pytest.raises(
        WhiskerError,
        match=f"--camera-map (wrist_cam=left_wrist_0_rgb,overhead_cam=base_0_rgb|{proposed})",
    ):
        set_up(replace_flags(ACT, checkpoint=str(checkpoint)))
    assert examine_copy(checkpoint, camera_map=proposed) == {}


def test_5_a_missing_camera(checkpoint):
    rename_camera(checkpoint, "wrist_cam", "left_wrist_0_rgb")
    found = examine_copy(checkpoint, allow_missing_camera=True, compares=False)
    assert (
        "left_wrist_0_rgb" in named(found, "cameras", "expects cameras that are not there").evidence
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("see", "words"),
    [
        (lambda i: i[::-1, ::-1], "rotated by 180 degrees"),
        (lambda i: i[::-1], "upside down"),
        (lambda i: i[:, ::-1], "mirrored"),
    ],
)
def test_6_flipped_images(act, see, words):
    named(
        findings_of(ACT, other_eyes(act, see)),
        "image flip",
        words,
    )


def test_6_channel_order(act):
    named(
        findings_of(
            ACT,
            other_eyes(act, lambda i: i[..., ::-1]),
        ),
        "channel order",
        "red and blue",
    )


def test_7_actions_left_normalised(checkpoint):
    def skip(pipeline):
        pipeline["steps"][0]["config"]["norm_map"] |= {"ACTION": "IDENTITY"}

    edit_json(checkpoint / "policy_postprocessor.json", skip)
    named(examine_copy(checkpoint, compares=False), "postprocessor", "left normalised")


def test_7_actions_left_normalised_by_the_harness(act):
    """The files are healthy, so only the predicted actions show the bug."""
    action = load_file(next(find_checkpoint("act").glob("policy_postprocessor_step_*.safetensors")))
    mean = action["action.mean"]
    std = action["action.std"]

    def predict(memories, rngs):
        return ActionChunk((act.policy.predict(memories, rngs).actions - mean) / std)

    named(
        findings_of(ACT, wrapped(act, predict=predict)),
        "postprocessor",
        "left normalised",
    )


def test_7_other_statistics_after_than_before(checkpoint):
    edit_stats(
        checkpoint,
        lambda name, v: v * 3 if name == "action.std" else v,
        part="policy_postprocessor",
    )
    named(examine_copy(checkpoint, compares=False), "postprocessor", "other statistics")


def test_8_a_gripper_in_0_1(checkpoint):
    def shrink(name, value):
        if name.startswith(("action.", "observation.state.")) and not name.endswith("count"):
            value = value.copy()
            value[5] /= 100
        return value

    edit_stats(checkpoint, shrink)
    found = examine_copy(checkpoint, compares=False)
    assert "--gripper-range 0 1," in named(found, "gripper", "another gripper range").hint
    assert "--gripper-range" in named(found, "state", "far from any state").hint
    assert not any("another order" in text or "hardly moves" in text for _, text in found)
    assert examine_copy(checkpoint, gripper_range=(0.0, 1.0)) == {}


def test_8_open_and_closed_swapped(act):
    def predict(memories, rngs):
        plan = act.policy.predict(memories, rngs).actions.copy()
        plan[..., 5] = 100 - plan[..., 5]
        return ActionChunk(plan)

    assert (
        "--gripper-range 100 0"
        in named(
            findings_of(ACT, wrapped(act, predict=predict)),
            "gripper",
            "swapped",
        ).hint
    )


def test_8_a_gripper_that_learned_the_mean(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.action_head.weight"][5] = 0
    weights["model.action_head.bias"][5] = 0
    save_file(weights, checkpoint / "model.safetensors")
    assert "mean is 19.3" in named(examine_copy(checkpoint), "gripper", "hardly moves").evidence


def test_9_differences_taken_for_targets(act):
    def predict(memories, rngs):
        plan = act.policy.predict(memories, rngs).actions.copy()
        plan[..., :5] -= np.stack([m.present.state[:5] for m in memories])[:, None]
        return ActionChunk(plan)

    found = findings_of(ACT, wrapped(act, predict=predict))
    assert "--policy-actions delta" in named(found, "delta or absolute", "are differences").hint


def test_9_statistics_of_differences(checkpoint):
    def around_zero(name, value):
        if name in ("action.mean", "action.min", "action.max", "action.q01", "action.q99"):
            value = value.copy()
            value[:5] = (
                (value[:5] - value[:5].mean()) * 0
                if name == "action.mean"
                else np.sign(value[:5]) * 8
            )
        return value

    edit_stats(checkpoint, around_zero)
    named(examine_copy(checkpoint, compares=False), "delta or absolute", "look like differences")


def test_9_targets_taken_for_differences():
    named(
        findings_of(replace_flags(ACT, policy_actions="delta"), compares=False),
        "delta or absolute",
        "targets",
    )


def test_10_random_weights(checkpoint):
    """The doctor reports weights that look random.

    Missing files and keys are reported by the loader (tests/test_policies_lerobot_loading.py),
    which cannot detect random weights.
    """
    weights = load_file(checkpoint / "model.safetensors")
    fresh = {
        n: np.ones_like(v) if "norm" in n and n.endswith("weight") else v
        for n, v in weights.items()
    }
    fresh = {
        n: np.zeros_like(v) if "norm" in n and n.endswith("bias") else v for n, v in fresh.items()
    }
    save_file(fresh, checkpoint / "model.safetensors")
    named(examine_copy(checkpoint, compares=False), "weights", "look random")


def test_10_weights_with_a_nan(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.action_head.bias"][0] = np.nan
    save_file(weights, checkpoint / "model.safetensors")
    named(examine_copy(checkpoint), "weights", "NaN")


def test_11_a_base_checkpoint(checkpoint):
    named(
        examine_copy(checkpoint.rename(checkpoint.with_name("act_base"))),
        "origin",
        "base checkpoint",
    )


def test_12_n_action_steps_left_at_the_chunk_size(checkpoint):
    edit_json(
        checkpoint / "config.json",
        lambda c: c.update(n_action_steps=c["chunk_size"]),
    )
    assert (
        "40 of 40"
        in named(
            examine_copy(checkpoint, compares=False), "n_action_steps", "as the checkpoint says"
        ).evidence
    )


def test_12_a_whole_chunk_that_the_user_asked_for(act):
    config = replace_flags(ACT, n_action_steps=40)
    named(
        findings_of(
            config,
            replace(act, n_action_steps=40),
            compares=False,
        ),
        "n_action_steps",
        "as --n-action-steps asks",
    )


@pytest.mark.parametrize("n", [1, 2])
def test_12_far_fewer_action_steps_than_trained_for(act, n):
    named(
        findings_of(
            replace_flags(ACT, n_action_steps=n),
            replace(act, n_action_steps=n),
        ),
        "n_action_steps",
        "far fewer",
    )


def test_15_a_horizon_in_which_even_the_expert_fails(act):
    named(
        findings_of(ACT, replace(act, max_steps=100)),
        "horizon",
        "even the expert",
    )


def test_16_another_field_of_view(act):
    scene = replace(DEFAULT_SCENE, overhead_fovy_deg=52.0)
    env = PickPlace("so101/pick_place", scene, image_sizes=act.policy.spec.image_sizes)
    found = named(
        findings_of(ACT, in_env(act, env), compares=False), "field of view", "another field of view"
    )
    assert "trained at 42°, here 52°" in found.evidence


@pytest.mark.slow
def test_16_a_checkpoint_that_does_not_tell_its_field_of_view(checkpoint, act):
    scene = replace(DEFAULT_SCENE, overhead_fovy_deg=60.0)
    env = PickPlace("so101/pick_place", scene, image_sizes=act.policy.spec.image_sizes)
    config = replace_flags(ACT, checkpoint=str(checkpoint))
    named(
        findings_of(config, in_env(set_up(config), env)),
        "camera pose",
        "overhead_cam sees more",
    )


def test_16_another_background(act):
    named(
        findings_of(
            ACT,
            other_eyes(act, lambda i: i // 3),
            compares=False,
        ),
        "cameras",
        "do not look like",
    )


def test_17_end_effector_targets_out_of_reach(tmp_path):
    """The targets are one metre away.

    An evaluation shows a policy that fails, but the cause is the inverse kinematics.
    """
    folder = save_small_act(tmp_path / "ee", state_dim=7, action_dim=7)
    far = np.float32([1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 50.0])
    near = np.float32([0.25, 0.0, 0.15, 3.1, 0.0, 0.0, 20.0])
    width = np.float32([0.05, 0.05, 0.05, 0.3, 0.3, 0.3, 20.0])

    def place(middle, name):
        change = {
            "mean": middle,
            "std": width,
            "min": middle - 2 * width,
            "max": middle + 2 * width,
        }
        return change.get(name.rsplit(".", 1)[1], middle)

    def edit(name, value):
        middle = (
            far
            if name.startswith("action.")
            else near
            if name.startswith("observation.state.")
            else None
        )
        return value if middle is None else place(middle, name)

    edit_stats(folder, edit)
    config = make_config(
        SubjectConfig, policy="act", checkpoint=str(folder), env="so101/pick_place_ee"
    )
    setup = set_up(config)
    found = named(
        findings_of(config, setup, compares=False),
        "inverse kinematics",
        "out of reach",
    )
    assert "100% of the first plan" in found.evidence
    setup.env.close()


def test_state_in_another_order(act):
    class OtherOrder(PickPlace):
        def state(self):
            return super().state()[[3, 1, 2, 0, 4, 5]]

    env = OtherOrder("so101/pick_place", image_sizes=act.policy.spec.image_sizes)
    found = named(
        findings_of(ACT, in_env(act, env), compares=False),
        "state",
        "another order",
    )
    # Only the values show the bug, since the names are still in the training's order.
    assert (
        "wrist_flex.pos, shoulder_lift.pos, elbow_flex.pos, shoulder_pan.pos, wrist_roll.pos"
        in found.hint
    )


def test_other_units_than_in_training(act):
    setup = set_up(replace_flags(ACT, env="so101/pick_place_range"))
    found = findings_of(
        replace_flags(ACT, env="so101/pick_place_range"),
        setup,
        compares=False,
    )
    assert "range_m100_100" in named(found, "state order and units", "not as in training").evidence


def test_success_at_reset(act):
    class AtGoal(PickPlace):
        def progress(self):
            (now,) = super().progress()
            return (replace(now, met=True),)

    env = AtGoal("so101/pick_place", image_sizes=act.policy.spec.image_sizes)
    named(
        findings_of(ACT, in_env(act, env)),
        "start",
        "begin at the goal",
    )


def test_one_of_two_goals_holds_at_reset(act):
    class HalfDone(PickPlace):
        spec = property(
            lambda self: replace(
                self._spec, goals=(declare_goal("on block bowl"), declare_goal("in sink"))
            )
        )
        spec = spec.setter(lambda self, value: setattr(self, "_spec", value))

        def progress(self):
            (now,) = super().progress()
            return (now, replace(now, met=True))

    env = HalfDone("so101/pick_place", image_sizes=act.policy.spec.image_sizes)
    found = named(
        findings_of(ACT, in_env(act, env)),
        "start",
        "some goals hold",
    )
    assert found.level is Level.WARNING and found.evidence == "'in sink' in 3 of 3 episodes"


def test_a_block_that_hangs_in_the_air_of_a_scene_of_the_users(own_scene, tmp_path):
    scene = own_scene.read_text()
    assert scene.count('pos="0.2 -0.08 0.0125"') == 1
    hanging = tmp_path / "hanging.xml"
    hanging.write_text(scene.replace('pos="0.2 -0.08 0.0125"', 'pos="0.2 -0.08 0.4"'))
    at_rest, in_the_air = (
        findings_of(
            make_config(
                SubjectConfig,
                policy="zero",
                env=f"so101/pick_place@{s}",
            )
        )
        for s in (own_scene, hanging)
    )
    assert "scene at rest" not in {check for check, _ in at_rest}
    found = named(in_the_air, "scene at rest", "objects move before anything is done")
    assert (
        "'block', 0.40 m high" in found.evidence
        and "5.1 cm in the next 0.1 s, in 3 of 3" in found.evidence
    )


def test_a_scene_in_which_the_expert_fails_is_not_one_of_little_time(own_scene, tmp_path):
    """The expert fails in both scenes for another reason than lack of time.

    Without gravity a released object stays in the air. If the arm is moved away, nothing is in
    reach.
    """
    xml = own_scene.read_text()
    weightless = re.sub("<option[^>]*/>", "", xml).replace(
        "<worldbody>", '<option gravity="0 0 0"/><worldbody>', 1
    )
    far_away = xml.replace('<body name="base"', '<body pos="-0.6 0 0" name="base"')
    folder = save_small_act(tmp_path / "act", cameras=CAMERAS[:1])
    for name, scene, stage in (
        ("weightless", weightless, "placed"),
        ("far_away", far_away, "reached"),
    ):
        assert scene != xml
        (tmp_path / name).write_text(scene)
        config = make_config(
            SubjectConfig,
            policy="act",
            checkpoint=str(folder),
            env=f"so101/pick_place@{tmp_path / name}",
        )
        setup = set_up(config)
        with closing(setup.env):
            context = CheckContext(config, setup)
            (found,) = check_expert(context)
            (horizon,) = check_horizon(context)
        assert (
            found.level is Level.WARNING and "even the expert does not do the task" in found.finding
        )
        assert horizon.level is Level.UNKNOWN and "does the task" in horizon.finding
        assert STAGES.index(re.search("does not meet: '(.*)'", found.evidence)[1]) <= STAGES.index(
            stage
        )
        command = re.search("Watch it: (.*)", found.hint)[1]
        assert command == f"eval --policy scripted --env {config.env.name} --episodes 1 --video all"


def test_a_camera_that_is_ignored(act):
    def predict(memories, rngs):
        blind = [
            EpisodeMemory(
                m.observations.__class__(
                    [
                        replace(
                            o,
                            images=dict(o.images) | {"wrist_cam": o.images["wrist_cam"] * 0},
                        )
                        for o in m.observations
                    ]
                ),
                m.recurrent_state,
            )
            for m in memories
        ]
        return act.policy.predict(blind, rngs)

    named(
        findings_of(ACT, wrapped(act, predict=predict), compares=False),
        "sensitivity",
        "ignores its wrist_cam",
    )


def test_the_adapters_are_those_of_the_flags():
    adapters = make_adapters(
        AdapterConfig(
            gripper_range=(1.0, -1.0),
            gripper_min=3.0,
        )
    )
    assert adapters.gripper_range == (1.0, -1.0) and adapters.gripper_min == 3.0


def run_command(monkeypatch, command, *arguments):
    monkeypatch.setattr("sys.argv", ["eval", *map(str, arguments)])
    return command()


@pytest.mark.slow
def test_the_command_prints_a_verdict_and_exits_with_the_worst(monkeypatch, capsys, checkpoint):
    assert run_command(monkeypatch, main_doctor, "--policy", "act") == 0
    printed = capsys.readouterr().out
    assert (
        "Nothing was found that would make the number wrong" in printed
        and "agreement" not in printed
    )
    assert run_command(monkeypatch, main_doctor, "--policy", "act", "--all") == 0
    assert "fine: agreement" in capsys.readouterr().out
    assert run_command(monkeypatch, main_doctor, "--n-action-steps", "1", "--json") == 1
    findings = json.loads(capsys.readouterr().out)
    assert findings[0]["level"] == "warning" and findings[0]["check"] == "n_action_steps"
    assert (
        run_command(monkeypatch, main_doctor, "--policy", "act", "--env", "so101/pick_place_range")
        == 2
    )
    assert "error" in capsys.readouterr().out
    (checkpoint / "model.safetensors").unlink()
    assert run_command(monkeypatch, main_doctor, "--checkpoint", checkpoint) == 2
    assert "model.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_eval_refuses_on_an_error_and_runs_if_told_to(monkeypatch, capsys, tmp_path):
    flags = [
        "--policy",
        "act",
        "--env",
        "so101/pick_place_range",
        "--episodes",
        "1",
        "--max-steps",
        "200",
        "--quiet",
    ]
    flags += ["--run-dir", tmp_path / "runs"]
    assert run_command(monkeypatch, main, *flags) == 2
    said = capsys.readouterr().err
    assert "state order and units: not as in training" in said and "--no-doctor" in said
    assert not (tmp_path / "runs").exists()
    assert run_command(monkeypatch, main, *flags, "--no-doctor") == 0
    (run,) = (tmp_path / "runs").iterdir()
    written = json.loads((run / "run.json").read_text())
    assert written["config"]["doctor"] is False
    assert {f["check"] for f in written["doctor"]} >= {
        "state order and units",
        "action order and units",
    }


@pytest.mark.slow
def test_a_run_folder_is_examined_after_the_run(monkeypatch, capsys, tmp_path):
    flags = ["--policy", "act", "--episodes", "2", "--quiet", "--run-dir", tmp_path]
    assert run_command(monkeypatch, main, *flags) == 0
    (run,) = tmp_path.iterdir()
    capsys.readouterr()
    assert run_command(monkeypatch, main_doctor, run, "--json") == 1
    findings = json.loads(capsys.readouterr().out)
    # Two episodes are too few to differ from a baseline. Nothing else is wrong with the run.
    problems = {f["check"] for f in findings if f["level"] in ("warning", "error")}
    assert problems == {"number of episodes", "floors"}
    assert {"following", "agreement"} <= {f["check"] for f in findings}


@pytest.mark.slow
def test_a_run_whose_checkpoint_is_gone_is_examined_all_the_same(
    monkeypatch, capsys, tmp_path, checkpoint
):
    flags = ["--episodes", "1", "--max-steps", "200", "--quiet", "--run-dir", tmp_path / "runs"]
    assert run_command(monkeypatch, main, "--checkpoint", checkpoint, *flags) == 0
    (run,) = (tmp_path / "runs").iterdir()
    shutil.rmtree(checkpoint)
    capsys.readouterr()
    assert run_command(monkeypatch, main_doctor, run, "--json") == 1
    assert "can no longer be checked" in capsys.readouterr().out
