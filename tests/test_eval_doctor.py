"""Tests that plant each known bug in a good checkpoint or environment.

The doctor must name the bug, and must report no problem in a healthy setup.
"""

import json
import re
import shutil
from collections import deque
from contextlib import closing
from copy import copy
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file, save_file

from eval.config import AdapterConfig, SubjectConfig
from eval.doctor import diagnosis
from eval.doctor.agreement import check_agreement
from eval.doctor.diagnosis import run_checks
from eval.doctor.machine_checks import check_horizon
from eval.doctor.scene_checks import check_expert
from eval.drivers import run_episode
from eval.evaluation import set_up
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.subject import make_adapters
from policies.action_chunk import ActionChunk
from policies.checkpoint_lookup import find_checkpoint
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.so101.goals import declare_goal
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE
from tests.bug_plants import (
    as_differences,
    at,
    identity,
    images,
    mirrored_gripper,
    normalised,
    settings,
    statistics,
    statistics_of,
    weights,
)
from tests.check_contexts import open_check_context
from tests.processes import only_run
from tests.small_checkpoints import CAMERAS, save_small_act

ACT = make_config(SubjectConfig, policy="act")

STAGES = tuple(PICK_AND_PLACE.stages)

slow = partial(pytest.param, marks=pytest.mark.slow)


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


def findings_of(setup=None, config=ACT, *, compares=True):
    """Return the problems that the doctor finds, by (check, finding).

    Args:
        compares: whether to compare with the expert. The comparison makes some eighty predictions
            if the policy disagrees, so tests of a bug that another check names leave it out.
    """
    if setup is None:
        with closing((setup := set_up(config)).env):
            return findings_of(setup, config, compares=compares)
    checks = diagnosis._FOR_LEARNED_POLICIES
    if not compares:
        checks = tuple(check for check in checks if check is not check_agreement)
    with patch.object(diagnosis, "_FOR_LEARNED_POLICIES", checks):
        return {(f.check, f.finding): f for f in run_checks(config, setup) if f.is_problem}


quick_findings = partial(findings_of, compares=False)


def named(found, check, words):
    """Return the finding with these words. Fail if the doctor did not report it."""
    hits = [f for (c, text), f in found.items() if c == check and words in text]
    assert hits, f"the doctor said: {sorted(found)}"
    assert hits[0].hint
    return hits[0]


def config_of(folder, **flags):
    return replace_flags(ACT, checkpoint=str(folder), **flags)


def examine_copy(folder, **flags):
    return findings_of(config=config_of(folder, **flags))


def glance_at_copy(folder, **flags):
    return quick_findings(config=config_of(folder, **flags))


def wrapped(setup, **members):
    """Return the setup with a policy whose methods are replaced."""
    policy = copy(setup.policy)
    vars(policy).update(members)
    return replace(setup, policy=policy)


def in_env(setup, env):
    return replace(setup, env=env)


def seen(setup, spoil):
    """Return the setup in an environment whose observations `spoil` changes."""
    env = copy(setup.env)
    env.observe = lambda: spoil(type(env).observe(env))
    return in_env(setup, env)


def planned(setup, change):
    """Return the setup with plans that are changed by `change(plans, states)`.

    Plans have the shape `(batch, horizon, action_dim)`, and states `(batch, state_dim)`.
    """

    def predict(memories, rngs):
        states = np.stack([memory.present.state for memory in memories])
        plans = setup.policy.predict(memories, rngs).actions.copy()
        return ActionChunk(change(plans, states).astype(np.float32))

    return wrapped(setup, predict=predict)


def in_scene(setup, **changes):
    scene = replace(DEFAULT_SCENE, **changes)
    sizes = setup.policy.spec.image_sizes
    return in_env(setup, PickPlace("so101/pick_place", scene, image_sizes=sizes))


def test_the_shipped_checkpoint_is_healthy(act):
    assert findings_of(act) == {}


def test_the_visit_changes_no_episode(act):
    def roll_out():
        settings = RolloutSettings(act.n_action_steps, 60)
        return run_episode(act.env, act.policy, 3, EpisodeRecorder(), settings).arrays

    before = roll_out()
    run_checks(ACT, act)
    after = roll_out()
    assert_array_equal(after.step_snapshot, before.step_snapshot)
    assert_array_equal(after.chunk, before.chunk)


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
                actions = [network.select_action(dict(batch)) for _ in range(15)]
                chunks.append(act.policy._postprocessor(torch.stack(actions, dim=1)).numpy())
        return ActionChunk(np.concatenate(chunks).astype(np.float32))

    network.reset()
    stale = wrapped(
        replace(act, n_action_steps=15),
        reset=make_memory,
        predict=predict,
    )
    named(quick_findings(stale), "reset", "different plans")
    network.reset()


def around_zero(name, value):
    if name in ("action.mean", "action.min", "action.max", "action.q01", "action.q99"):
        value[:5] = 0 if name == "action.mean" else np.sign(value[:5]) * 8
    return value


def untrained_norms(name, value):
    if "norm" in name and name.endswith(("weight", "bias")):
        value[:] = name.endswith("weight")
    return value


@pytest.mark.parametrize(
    ("damage", "check", "words", "evidence"),
    [
        (
            statistics(lambda n, v: v * 255 if "wrist_cam" in n and "count" not in n else v),
            "statistics",
            "statistics of 0-255 pixels",
            "",
        ),
        (identity("postprocessor", "ACTION"), "postprocessor", "left normalised", ""),
        (
            statistics_of(
                "action",
                lambda v: v * 3,
                "std",
                part="postprocessor",
            ),
            "postprocessor",
            "other statistics",
            "",
        ),
        (statistics(around_zero), "delta or absolute", "look like differences", ""),
        # Missing files and keys are reported by the loader, which cannot detect random weights
        # (tests/test_policies_lerobot_loading.py).
        (weights(untrained_norms), "weights", "look random", ""),
        (
            weights(lambda n, v: at(0, np.nan)(v) if n == "model.action_head.bias" else v),
            "weights",
            "NaN",
            "",
        ),
        (
            settings(
                "config.json",
                lambda c: c.update(n_action_steps=c["chunk_size"]),
            ),
            "n_action_steps",
            "as the checkpoint says",
            "40 of 40",
        ),
    ],
)
def test_damaged_files_are_named(checkpoint, damage, check, words, evidence):
    damage(checkpoint)
    assert evidence in named(glance_at_copy(checkpoint), check, words).evidence


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("VISUAL", "is not normalised at all"),
        ("STATE", "observation.state is not normalised at all"),
    ],
)
def test_2_a_processor_that_leaves_out_what_config_json_says(checkpoint, kind, words):
    identity("preprocessor", kind)(checkpoint)
    found = named(glance_at_copy(checkpoint), "statistics", words)
    assert found.level == "error"
    assert found.evidence == "processor IDENTITY, config.json MEAN_STD"


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
    settings(
        "config.json",
        lambda c: c["normalization_mapping"].update({kind: mode}),
    )(checkpoint)
    found = examine_copy(checkpoint)
    evidence = named(found, "statistics", "in another way than config.json says").evidence
    assert evidence == f"processor MEAN_STD, config.json {mode}"
    assert {finding.level for finding in found.values()} == {"warning"}


def rename_statistics(folder, old, new, part="policy_*processor"):
    for path in folder.glob(f"{part}_step_*.safetensors"):
        tensors = load_file(path)
        save_file(
            {name.replace(old, new): value for name, value in tensors.items()},
            path,
        )


def test_2_statistics_under_other_names(checkpoint):
    """The loader refuses the checkpoint, since lerobot would leave the feature unnormalised."""
    rename_statistics(checkpoint, "observation.state", "observation.joints", "policy_preprocessor")
    said = r"statistics of 'observation\.state'.*would not be normalised"
    with pytest.raises(WhiskerError, match=said):
        set_up(config_of(checkpoint))


def test_3_an_image_std_near_zero(checkpoint):
    statistics_of("observation.images.overhead_cam", lambda v: v * 0 + 0.002, "std")(checkpoint)
    found = glance_at_copy(checkpoint)
    assert "0.0020" in named(found, "statistics", "standard deviation is far too small").evidence
    words = "overhead_cam of a real frame is far outside"
    assert "-" in named(found, "normalised observation", words).evidence


def test_4_depth_where_colour_was_trained(checkpoint):
    found = glance_at_copy(checkpoint, camera_map="overhead_cam_depth=overhead_cam")
    hint = named(found, "depth or colour", "trained on colour is shown depth").hint
    assert hint == "Leave --camera-map out."


def test_5_swapped_cameras(checkpoint):
    swapped = "overhead_cam=wrist_cam,wrist_cam=overhead_cam"
    named(glance_at_copy(checkpoint, camera_map=swapped), "cameras", "swapped")


def rename_camera(folder, old, new):
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace(old, new))
    rename_statistics(folder, old, new)


def test_5_other_camera_names_are_refused_with_the_obvious_map(checkpoint):
    rename_camera(checkpoint, "overhead_cam", "base_0_rgb")
    rename_camera(checkpoint, "wrist_cam", "left_wrist_0_rgb")
    proposed = "overhead_cam=base_0_rgb,wrist_cam=left_wrist_0_rgb"
    with pytest.raises(WhiskerError, match=f"--camera-map {proposed}"):
        set_up(config_of(checkpoint))
    assert examine_copy(checkpoint, camera_map=proposed) == {}


def test_5_a_missing_camera(checkpoint):
    rename_camera(checkpoint, "wrist_cam", "left_wrist_0_rgb")
    found = glance_at_copy(checkpoint, allow_missing_camera=True)
    missing = named(found, "cameras", "expects cameras that are not there")
    assert "left_wrist_0_rgb" in missing.evidence


@pytest.mark.parametrize(
    ("see", "check", "words"),
    [
        slow(
            lambda i: i[::-1, ::-1],
            "image flip",
            "rotated by 180 degrees",
        ),
        slow(lambda i: i[::-1], "image flip", "upside down"),
        slow(lambda i: i[:, ::-1], "image flip", "mirrored"),
        slow(lambda i: i[..., ::-1], "channel order", "red and blue"),
        (lambda i: i // 3, "cameras", "do not look like"),
    ],
)
def test_images_that_are_not_those_of_the_training_are_named(act, see, check, words):
    named(findings_of(seen(act, images(see))), check, words)


@pytest.mark.parametrize(
    ("change", "check", "words", "hint"),
    [
        # The files are healthy, so only the predicted actions show the bug.
        slow(normalised, "postprocessor", "left normalised", ""),
        (
            lambda plans, _: mirrored_gripper(plans),
            "gripper",
            "swapped",
            "--gripper-range 100 0",
        ),
        (as_differences, "delta or absolute", "are differences", "--policy-actions delta"),
    ],
)
def test_plans_that_are_not_those_of_the_training_are_named(act, change, check, words, hint):
    assert hint in named(findings_of(planned(act, change)), check, words).hint


def test_8_a_gripper_in_0_1(checkpoint):
    def shrink(name, value):
        if name.startswith(("action.", "observation.state.")) and not name.endswith("count"):
            value[5] /= 100
        return value

    statistics(shrink)(checkpoint)
    found = glance_at_copy(checkpoint)
    assert "--gripper-range 0 1," in named(found, "gripper", "another gripper range").hint
    assert "--gripper-range" in named(found, "state", "far from any state").hint
    assert not any("another order" in text or "hardly moves" in text for _, text in found)
    assert examine_copy(checkpoint, gripper_range=(0.0, 1.0)) == {}


@pytest.mark.slow
def test_8_a_gripper_that_learned_the_mean(checkpoint):
    def forget(name, value):
        if name.startswith("model.action_head."):
            value[5] = 0
        return value

    weights(forget)(checkpoint)
    assert "mean is 19.3" in named(examine_copy(checkpoint), "gripper", "hardly moves").evidence


@pytest.mark.parametrize(
    ("flags", "check", "words", "evidence"),
    [
        ({"policy_actions": "delta"}, "delta or absolute", "targets", ""),
        (
            {"env": "so101/pick_place_range"},
            "state order and units",
            "not as in training",
            "range_m100_100",
        ),
    ],
)
def test_flags_that_do_not_fit_are_named(flags, check, words, evidence):
    found = quick_findings(config=replace_flags(ACT, **flags))
    assert evidence in named(found, check, words).evidence


def test_11_a_base_checkpoint(checkpoint):
    renamed = checkpoint.rename(checkpoint.with_name("act_base"))
    named(glance_at_copy(renamed), "origin", "base checkpoint")


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (40, "as --n-action-steps asks"),
        (1, "far fewer"),
        (2, "far fewer"),
    ],
)
def test_12_another_number_of_action_steps_that_the_user_asked_for(act, n, words):
    config = replace_flags(ACT, n_action_steps=n)
    found = quick_findings(replace(act, n_action_steps=n), config)
    named(found, "n_action_steps", words)


def test_15_a_horizon_in_which_even_the_expert_fails(act):
    found = quick_findings(replace(act, max_steps=100))
    named(found, "horizon", "even the expert")


def test_16_another_field_of_view(act):
    found = quick_findings(in_scene(act, overhead_fovy_deg=52.0))
    evidence = named(found, "field of view", "another field of view").evidence
    assert "trained at 42°, here 52°" in evidence


@pytest.mark.slow
def test_16_a_checkpoint_that_does_not_tell_its_field_of_view(checkpoint):
    config = config_of(checkpoint)
    found = findings_of(in_scene(set_up(config), overhead_fovy_deg=60.0), config)
    named(found, "camera pose", "overhead_cam sees more")


def test_17_end_effector_targets_out_of_reach(tmp_path):
    """The targets are one metre away.

    An evaluation shows a policy that fails, but the cause is the inverse kinematics.
    """
    folder = save_small_act(tmp_path / "ee", state_dim=7, action_dim=7)
    middles = {
        "action": np.float32([1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 50.0]),
        "observation.state": np.float32([0.25, 0.0, 0.15, 3.1, 0.0, 0.0, 20.0]),
    }
    width = np.float32([0.05, 0.05, 0.05, 0.3, 0.3, 0.3, 20.0])

    def edit(name, value):
        key, _, kind = name.rpartition(".")
        if key not in middles:
            return value
        middle = middles[key]
        change = {
            "std": width,
            "min": middle - 2 * width,
            "max": middle + 2 * width,
        }
        return change.get(kind, middle)

    statistics(edit)(folder)
    config = config_of(folder, env="so101/pick_place_ee")
    found = quick_findings(config=config)
    evidence = named(found, "inverse kinematics", "out of reach").evidence
    assert "100% of the first plan" in evidence


def test_state_in_another_order(act):
    env = copy(act.env)
    env.state = lambda: type(env).state(env)[[3, 1, 2, 0, 4, 5]]
    found = quick_findings(in_env(act, env))
    # Only the values show the bug, since the names are still in the training's order.
    order = "wrist_flex.pos, shoulder_lift.pos, elbow_flex.pos, shoulder_pan.pos, wrist_roll.pos"
    assert order in named(found, "state", "another order").hint


def at_goal(env):
    """Return the progress of the environment's goal, as if it were met."""
    (now,) = type(env).progress(env)
    return replace(now, met=True)


def test_success_at_reset(act):
    env = copy(act.env)
    env.progress = lambda: (at_goal(env),)
    found = quick_findings(in_env(act, env))
    named(found, "start", "begin at the goal")


def test_one_of_two_goals_holds_at_reset(act):
    env = copy(act.env)
    env.spec = replace(
        env.spec,
        goals=(declare_goal("on block bowl"), declare_goal("in sink")),
    )
    env.progress = lambda: (*type(env).progress(env), at_goal(env))
    found = quick_findings(in_env(act, env))
    finding = named(found, "start", "some goals hold")
    assert finding.level == "warning"
    assert finding.evidence == "'in sink' in 3 of 3 episodes"


def test_a_block_that_hangs_in_the_air_of_a_scene_of_the_users(own_scene, tmp_path):
    scene = own_scene.read_text()
    assert scene.count('pos="0.2 -0.08 0.0125"') == 1
    hanging = tmp_path / "hanging.xml"
    hanging.write_text(scene.replace('pos="0.2 -0.08 0.0125"', 'pos="0.2 -0.08 0.4"'))
    at_rest, in_the_air = (
        findings_of(
            config=make_config(
                SubjectConfig,
                policy="zero",
                env=f"so101/pick_place@{path}",
            )
        )
        for path in (own_scene, hanging)
    )
    assert "scene at rest" not in {check for check, _ in at_rest}
    evidence = named(in_the_air, "scene at rest", "objects move before anything is done").evidence
    assert "'block', 0.40 m high" in evidence
    assert "5.1 cm in the next 0.1 s, in 3 of 3" in evidence


@pytest.mark.parametrize(
    ("pattern", "replacement", "stage"),
    [
        # Without gravity a released object stays in the air.
        ("<worldbody>", '<option gravity="0 0 0"/><worldbody>', "placed"),
        # If the arm is moved away, nothing is in reach.
        ('<body name="base"', '<body pos="-0.6 0 0" name="base"', "reached"),
    ],
)
def test_a_scene_in_which_the_expert_fails_is_not_one_of_little_time(
    own_scene, tmp_path, pattern, replacement, stage
):
    xml = own_scene.read_text()
    assert pattern in xml
    assert "<option" not in xml
    scene = tmp_path / "scene.xml"
    scene.write_text(xml.replace(pattern, replacement, 1))
    folder = save_small_act(tmp_path / "act", cameras=CAMERAS[:1])
    config = config_of(folder, env=f"so101/pick_place@{scene}")
    with open_check_context(config) as context:
        (found,) = check_expert(context)
        (horizon,) = check_horizon(context)
    assert found.level == "warning"
    assert "even the expert does not do the task" in found.finding
    assert horizon.level == "unknown"
    assert "does the task" in horizon.finding
    failed_at = re.search("does not meet: '(.*)'", found.evidence)[1]
    assert STAGES.index(failed_at) <= STAGES.index(stage)
    command = re.search("Watch it: (.*)", found.hint)[1]
    assert command == f"eval --policy scripted --env {config.env.name} --episodes 1 --video all"


def test_a_camera_that_is_ignored(act):
    def predict(memories, rngs):
        blind = images(np.zeros_like, "wrist_cam")
        shown = [replace(m, observations=deque(map(blind, m.observations))) for m in memories]
        return act.policy.predict(shown, rngs)

    found = quick_findings(wrapped(act, predict=predict))
    named(found, "sensitivity", "ignores its wrist_cam")


def test_the_adapters_are_those_of_the_flags():
    adapters = make_adapters(AdapterConfig(gripper_range=(1.0, -1.0), gripper_min=3.0))
    assert adapters.gripper_range == (1.0, -1.0)
    assert adapters.gripper_min == 3.0


@pytest.mark.slow
def test_the_command_prints_a_verdict_and_exits_with_the_worst(doctor_here, checkpoint):
    healthy = doctor_here("--policy act")
    assert healthy.returncode == 0
    assert "Nothing was found that would make the number wrong" in healthy.stdout
    assert "agreement" not in healthy.stdout
    complete = doctor_here("--policy act --all")
    assert complete.returncode == 0
    assert "fine: agreement" in complete.stdout
    warned = doctor_here("--n-action-steps 1 --json")
    assert warned.returncode == 1
    worst, *_ = json.loads(warned.stdout)
    assert worst["level"] == "warning"
    assert worst["check"] == "n_action_steps"
    wrong = doctor_here("--policy act --env so101/pick_place_range")
    assert wrong.returncode == 2
    assert "error" in wrong.stdout
    (checkpoint / "model.safetensors").unlink()
    refused = doctor_here("--checkpoint", checkpoint)
    assert refused.returncode == 2
    assert "model.safetensors" in refused.stderr


@pytest.mark.slow
def test_eval_refuses_on_an_error_and_runs_if_told_to(eval_succeeds, refusal_of_eval, tmp_path):
    command = "--policy act --env so101/pick_place_range --episodes 1 --max-steps 200 --quiet"
    runs = tmp_path / "runs"
    refusal = refusal_of_eval(f"{command} --run-dir", runs)
    assert "state order and units: not as in training" in refusal
    assert "--no-doctor" in refusal
    assert not runs.exists()
    eval_succeeds(f"{command} --no-doctor --run-dir", runs)
    written = json.loads((only_run(runs) / "run.json").read_text())
    assert written["config"]["doctor"] is False
    checks = {finding["check"] for finding in written["doctor"]}
    assert checks >= {"state order and units", "action order and units"}


@pytest.mark.slow
def test_a_run_folder_is_examined_after_the_run(eval_succeeds, doctor_here, tmp_path):
    eval_succeeds("--policy act --episodes 2 --quiet --run-dir", tmp_path)
    examined = doctor_here("--json", only_run(tmp_path))
    assert examined.returncode == 1
    findings = json.loads(examined.stdout)
    # Two episodes are too few to differ from a baseline. Nothing else is wrong with the run.
    problems = {f["check"] for f in findings if f["level"] in ("warning", "error")}
    assert problems == {"number of episodes", "floors"}
    assert {"following", "agreement"} <= {f["check"] for f in findings}


@pytest.mark.slow
def test_a_run_whose_checkpoint_is_gone_is_examined_all_the_same(
    eval_succeeds, doctor_here, tmp_path, checkpoint
):
    runs = tmp_path / "runs"
    flags = "--episodes 1 --max-steps 200 --quiet --run-dir"
    eval_succeeds(f"--checkpoint {checkpoint} {flags}", runs)
    shutil.rmtree(checkpoint)
    examined = doctor_here("--json", only_run(runs))
    assert examined.returncode == 1
    assert "can no longer be checked" in examined.stdout
