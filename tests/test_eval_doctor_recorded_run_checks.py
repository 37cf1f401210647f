"""Tests of each check of a finished run.

Each check sees a healthy case, and a case with the fault that it must name.
"""

from dataclasses import fields, replace

import numpy as np
import pytest

from eval.doctor import recorded_run_checks
from eval.doctor.early_success import check_early_success
from eval.doctor.finding import Finding, Level
from eval.doctor.gripper_check import check_gripper
from eval.doctor.lower_bounds import LowerBound, compare_with_lower_bounds, roll_out_lower_bounds
from eval.doctor.motion_checks import (
    check_action_range,
    check_first_action,
    check_following,
    check_movement,
)
from eval.doctor.plan_checks import check_first_plan, check_hand_over, check_plan_spread
from eval.doctor.recorded_run_checks import check_run
from eval.doctor.row_checks import (
    check_crashes,
    check_inverse_kinematics,
    check_n_episodes,
    check_outcomes,
    check_start_region,
    describe_start_region,
)
from eval.drivers import run_episode
from eval.episode_arrays import EpisodeArrays, EpisodeRecord
from eval.episode_row import ROWS_FILE, make_row
from eval.outcome import Event
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder, arrays_path
from policies.baselines import BASELINES, ScriptedPolicy
from sim.errors import WhiskerError
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.registry import make_env
from sim.spec import ActionSpec
from tests.runs import describe_run, make_trajectory_of

N_JOINTS = 3
GRIPPER = 2
STATE_NAMES = ("pan.pos", "lift.pos", "gripper.pos")
ACTION = ActionSpec(
    names=STATE_NAMES,
    units=("deg", "deg", "range_0_100"),
    low=(-100.0, -100.0, 0.0),
    high=(100.0, 100.0, 100.0),
    mode="absolute",
    rotation="none",
    gripper_index=GRIPPER,
    gripper_closed=0.0,
    gripper_open=100.0,
)
N_STEPS = 120
CHUNK = 20

STAGES = tuple(PICK_AND_PLACE.stages)


def make_episode(index=0, action=None, state=None, chunk=CHUNK):
    """Return an episode of an arm that follows its targets one step behind.

    The arm starts at (50, -40, 25). Its motion depends on the index.
    """
    time_s = np.arange(N_STEPS) / 30
    if action is None:
        to = 40 + 8 * index
        path = (1 - np.cos(time_s)) / 2
        action = np.stack(
            [50 - to * path, -40 + (90 - 5 * index) * path, 25 + 24 * np.sin(2 * time_s)], axis=1
        )
    action = np.asarray(action, dtype=np.float32)
    if state is None:
        state = np.concatenate([[[50, -40, 25]], action])
    n = len(action)
    object_pos = np.repeat(
        [[0.20, -0.08 + 0.01 * index, 0.01]],
        n + 1,
        axis=0,
    )
    object_pos[n // 2 :, 1] += 0.2
    steps = np.arange(0, n, chunk)
    arrays = {
        "state": np.asarray(state, dtype=np.float32),
        "action": action,
        "clipped": np.zeros(n, dtype=bool),
        "ik_error_m": np.full(n, np.nan),
        "ee_pos_world": np.stack(
            [
                np.linspace(0, 0.5, n + 1),
                np.zeros(n + 1),
                np.zeros(n + 1),
            ],
            axis=1,
        ),
        "object_pos_world": object_pos,
        "object_height_m": np.zeros(n + 1),
        "goal_distance_m": np.full(n + 1, 0.2),
        "progress": np.zeros((n + 1, len(STAGES)), dtype=bool),
        "joint_progress": np.full(n + 1, np.nan),
        "goals_met": np.zeros((n + 1, 1), dtype=bool),
        "step_snapshot": np.zeros((n + 1, 4)),
        "prediction_step": steps,
        "chunk": action.reshape(len(steps), chunk, N_JOINTS),
        "snapshot": np.zeros((len(steps), 4)),
        "n_executed": np.full(len(steps), chunk),
    }
    return EpisodeArrays(
        **{
            field.name: arrays[field.name]
            for field in fields(EpisodeArrays)
            if field.name in arrays
        }
    )


def make_rows(n, n_success=0, error=""):
    """Return rows of hand-made episodes.

    The first `n_success` are successes. The others never pick anything up.
    """
    return [
        make_row(
            make_record(
                i,
                i < n_success,
                make_episode(),
                error,
            )
        )
        for i in range(n)
    ]


def make_record(index, success, episode, error=""):
    return EpisodeRecord(
        "task",
        index,
        success,
        error,
        1.0,
        episode,
        make_trajectory_of(episode),
    )


@pytest.fixture
def episodes():
    return [make_episode(index) for index in range(4)]


def spoil(episodes, change):
    """Return the episodes with changed actions, which the arm follows as before."""
    return [make_episode(action=change(e.action.copy())) for e in episodes]


def is_fine(finding):
    assert isinstance(finding, Finding) and finding.evidence
    return finding.level is Level.OK


def is_unknown(finding):
    assert isinstance(finding, Finding) and finding.evidence
    return finding.level is Level.UNKNOWN


def assert_named(finding, level, *words):
    assert finding.level is level, finding
    assert finding.evidence and finding.hint
    for word in words:
        assert word in f"{finding.finding}. {finding.hint}", finding


def test_executed_actions_of_a_healthy_run_are_fine(episodes):
    assert is_fine(check_action_range(episodes, ACTION))


def test_a_gripper_that_asks_for_a_little_less_than_closed_is_fine(episodes):
    """A healthy ACT also asks for a little less than closed."""
    for episode in episodes:
        episode.action[:24, GRIPPER], episode.clipped[:24] = -2, True
    assert is_fine(check_action_range(episodes, ACTION))


@pytest.mark.parametrize(
    ("share", "level"),
    [
        (0.2, Level.WARNING),
        (0.8, Level.ERROR),
    ],
)
def test_actions_far_outside_are_named(episodes, share, level):
    for episode in episodes:
        n = int(share * N_STEPS)
        episode.action[:n, 1], episode.clipped[:n] = 170, True
    finding = check_action_range(episodes, ACTION)
    assert_named(finding, level, "lift.pos", "units")
    assert f"{100 * share:.0f} % of 480 steps" in finding.evidence and "170" in finding.evidence


def test_actions_that_are_nearly_all_a_little_outside_are_named(episodes):
    for episode in episodes:
        episode.action[:, GRIPPER], episode.clipped[:] = -1.2, True
    assert_named(
        check_action_range(episodes, ACTION),
        Level.WARNING,
        "gripper.pos",
        "just outside",
    )


def test_movement_of_a_healthy_run_is_fine(episodes):
    assert is_fine(check_movement(episodes))


def test_an_arm_that_never_moves_is_named(episodes):
    still = [replace(e, ee_pos_world=e.ee_pos_world * 1e-3) for e in episodes]
    finding = check_movement(still)
    assert_named(finding, Level.WARNING, "never moves")
    assert "0.0005 m" in finding.evidence


def test_one_pose_for_ever_is_named(episodes):
    for episode in episodes:
        episode.ee_pos_world[5:] = (0.5, 0, 0)
    assert_named(check_movement(episodes), Level.WARNING, "one pose")


def check_gripper_between(episodes, low, high, n_success=0, state_names=STATE_NAMES):
    """Check the gripper of episodes in which it moves from `high` to `low`."""

    def change(action):
        action[:, GRIPPER] = np.linspace(high, low, N_STEPS)
        return action

    return check_gripper(spoil(episodes, change), ACTION, state_names, n_success)


def test_gripper_of_a_healthy_run_is_fine(episodes):
    assert is_fine(check_gripper(episodes, ACTION, STATE_NAMES, 0))
    assert is_fine(check_gripper_between(episodes, 0, 48))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (25, 90, ["never closes"]),
        (0, 20, ["never opens"]),
        (0, 0.5, ["never opens", "constant"]),
        (99, 100, ["never closes", "constant"]),
        (22, 22, ["never closes or opens", "constant between closed and open", "statistics"]),
        (20, 38, ["never closes", "narrow band between closed and open", "statistics"]),
    ],
)
def test_what_the_gripper_never_does_is_named(episodes, low, high, words):
    assert_named(
        check_gripper_between(episodes, low, high),
        Level.WARNING,
        *words,
    )


def test_a_success_shows_that_the_task_needs_no_more_of_the_gripper(episodes):
    assert is_fine(check_gripper_between(episodes, 25, 90, n_success=1))


def test_closed_may_be_the_larger_number(episodes):
    """LIBERO's gripper is open at -1 and closed at 1."""
    finger = replace(ACTION, gripper_closed=1.0, gripper_open=-1.0)

    def change(action):
        action[:, GRIPPER] = -1
        return action

    opened = check_gripper(
        spoil(episodes, change),
        finger,
        ("qpos",),
        0,
    )
    assert_named(opened, Level.WARNING, "never closes", "constant")
    assert "measured" not in opened.evidence


def test_a_gripper_that_does_not_do_as_told_is_named(episodes):
    for episode in episodes:
        episode.state[:, GRIPPER] = 25
    finding = check_gripper(episodes, ACTION, STATE_NAMES, 0)
    assert_named(finding, Level.WARNING, "does not follow its commands")
    assert "0 % of its commands" in finding.evidence


def test_following_of_a_healthy_run_is_fine(episodes):
    finding = check_following(episodes, ACTION, STATE_NAMES)
    assert is_fine(finding) and "0 steps after" in finding.evidence


def test_a_delay_is_found_and_fine(episodes):
    late = [
        make_episode(
            action=e.action,
            state=np.concatenate([np.repeat(e.state[:1], 3, axis=0), e.state[1:-2]]),
        )
        for e in episodes
    ]
    finding = check_following(late, ACTION, STATE_NAMES)
    assert is_fine(finding) and "2 steps after" in finding.evidence


def test_the_joint_that_goes_elsewhere_is_named(episodes):
    for episode in episodes:
        episode.state[:, 1] = -40 - (episode.state[:, 1] + 40)
    finding = check_following(episodes, ACTION, STATE_NAMES)
    assert_named(finding, Level.WARNING, "'lift.pos' least")
    assert "correlation -1" in finding.evidence


def test_a_constant_target_that_is_not_reached_is_named(episodes):
    for episode in episodes:
        episode.action[:, 0], episode.state[:, 0] = 90, 50
    assert_named(
        check_following(episodes, ACTION, STATE_NAMES),
        Level.WARNING,
        "'pan.pos' least",
    )


def test_an_object_between_the_jaws_is_fine(episodes):
    for episode in episodes:
        episode.state[:, GRIPPER] = 25
    assert is_fine(check_following(episodes, ACTION, STATE_NAMES))


def test_only_targets_of_the_state_are_compared_with_it(episodes):
    for finding in (
        check_following(episodes, replace(ACTION, mode="delta"), STATE_NAMES),
        check_following(episodes, ACTION, ("x", "y", "z")),
        check_first_action(episodes, ACTION, ("x", "y", "z")),
    ):
        assert is_unknown(finding) and "not compared" in finding.finding


def test_first_action_of_a_healthy_run_is_fine(episodes):
    assert is_fine(check_first_action(episodes, ACTION, STATE_NAMES))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:, [1, 0, 2]], ["another order", "'pan.pos' gets what 'lift.pos' should"]),
        (lambda a: np.radians(a), ["'pan.pos' most", "radians"]),
        (lambda a: a + np.float32([0, 70, 0]), ["'lift.pos' most"]),
        (lambda a: a / [1, 1, 100], ["far from where the arm is", "'gripper.pos' most"]),
    ],
    ids=["order", "radians", "elsewhere", "gripper of 0..1"],
)
def test_a_first_action_far_from_the_arm_is_named_with_its_reason(episodes, change, words):
    assert_named(
        check_first_action(spoil(episodes, change), ACTION, STATE_NAMES), Level.WARNING, *words
    )


def test_plan_spread_of_a_healthy_run_is_fine(episodes):
    assert is_fine(check_plan_spread(episodes, ACTION))


def test_always_the_same_plan_is_named(episodes):
    for episode in episodes:
        episode.chunk[:] = [10, 20, 20]
    assert_named(
        check_plan_spread(episodes, ACTION), Level.WARNING, "nearly the same", "learned the mean"
    )


def test_the_same_plans_wherever_the_object_is_are_named(episodes):
    for episode in episodes:
        episode.chunk[:] = episodes[0].chunk
    finding = check_plan_spread(episodes, ACTION)
    assert_named(finding, Level.WARNING, "same in every episode")
    assert "0.0 % between episodes" in finding.evidence


def test_the_same_plans_for_the_same_object_are_fine(episodes):
    assert is_fine(check_plan_spread([episodes[0]] * 3, ACTION))


def test_one_plan_is_not_compared():
    episode = make_episode(action=np.zeros((CHUNK, N_JOINTS)))
    assert "not compared" in check_plan_spread([episode], ACTION).finding


def test_hand_over_of_a_healthy_run_is_fine(episodes):
    assert is_fine(check_hand_over(episodes, ACTION))


def test_chunks_that_begin_elsewhere_are_named(episodes):
    """Every chunk starts again at the position where the first one started."""

    def change(action):
        action[:, 0] = np.tile(np.linspace(0, 40, CHUNK), N_STEPS // CHUNK)
        return action

    finding = check_hand_over(spoil(episodes, change), ACTION)
    assert_named(finding, Level.WARNING, "jumps from chunk to chunk", "stale queue")
    assert "20 hand-overs" in finding.evidence


def test_small_jumps_of_an_arm_that_hardly_moves_are_fine(episodes):
    def change(action):
        return np.repeat(np.arange(N_STEPS // CHUNK), CHUNK)[:, None] * np.ones(N_JOINTS)

    assert is_fine(check_hand_over(spoil(episodes, change), ACTION))


def test_one_action_a_chunk_is_no_hand_over(episodes):
    single = [
        make_episode(
            action=e.action,
            chunk=1,
        )
        for e in episodes
    ]
    assert "not compared" in check_hand_over(single, ACTION).finding


def test_first_plan_of_a_healthy_run_is_fine(episodes):
    assert is_fine(check_first_plan(episodes))


def test_one_first_plan_for_all_episodes_is_named(episodes):
    for episode in episodes:
        episode.chunk[0] = episodes[0].chunk[0]
    finding = check_first_plan(episodes)
    assert_named(finding, Level.ERROR, "exactly the same plan", "ignores its observation")
    assert "1 distinct first plans in 4 episodes" in finding.evidence


def test_a_first_plan_of_two_episodes_is_named(episodes):
    episodes[2].chunk[0] = episodes[1].chunk[0]
    assert_named(check_first_plan(episodes), Level.WARNING, "exactly the same plan")


def test_the_same_object_may_have_the_same_first_plan(episodes):
    assert "not compared" in check_first_plan([episodes[0]] * 3).finding


def test_crashes():
    assert is_fine(check_crashes(make_rows(4)))
    crashed = make_rows(1, error="ZeroDivisionError: spoilt")
    finding = check_crashes(make_rows(4) + crashed)
    assert_named(finding, Level.WARNING, "in no rate")
    assert "1 of 5" in finding.evidence and "ZeroDivisionError: spoilt" in finding.evidence
    assert_named(
        check_crashes(make_rows(1) + 2 * crashed),
        Level.ERROR,
    )


def test_number_of_episodes():
    assert is_fine(check_n_episodes(make_rows(10, 10)))
    finding = check_n_episodes(make_rows(4, 4) + make_rows(20, error="crash"))
    assert_named(finding, Level.WARNING, "too few")
    assert "4 of 4 succeed" in finding.evidence and "51 % to 100 %, 49 points" in finding.evidence


def test_inverse_kinematics():
    rows = make_rows(2)
    assert is_fine(check_inverse_kinematics(rows))
    for rate, level in ((0.01, Level.OK), (0.10, Level.WARNING), (0.28, Level.ERROR)):
        missed = [
            replace(
                row,
                ik_failure_rate=rate,
                ik_error_mm=8.0,
            )
            for row in rows
        ]
        finding = check_inverse_kinematics(missed)
        assert finding.level is level and f"{100 * rate:.1f} %" in finding.evidence
        assert "8.0 mm" in finding.evidence
    assert "not the policy's alone" in finding.finding


def test_outcomes():
    assert is_fine(check_outcomes(make_rows(5, 5)))
    assert is_fine(check_outcomes(make_rows(5, 1)))
    finding = check_outcomes(make_rows(5))
    assert_named(finding, Level.WARNING, "no episode succeeds", "5 of 5", "'reached'")
    assert "5 never_picked_up" in finding.evidence and "cameras" in finding.hint
    mixed = [replace(row, failed_stage="grasped") for row in make_rows(5)[:2]] + make_rows(3)
    assert is_fine(check_outcomes(mixed))


def test_outcomes_say_what_went_wrong_and_when():
    rows = [
        replace(row, decisive_step=step, decisive_event=Event.CLOSED_ON_NOTHING)
        for row, step in zip(make_rows(3), (60, 62, 90), strict=True)
    ]
    rows.append(
        replace(
            rows[0],
            decisive_step=4,
            decisive_event=Event.LOST_GRASP,
        )
    )
    evidence = check_outcomes(rows).evidence
    assert evidence.endswith(
        "what went wrong: closed_on_nothing 3 (median step 62), lost_grasp 1 (median step 4)"
    )
    older = [
        replace(
            row,
            decisive_step=None,
            decisive_event=None,
        )
        for row in rows
    ]
    assert check_outcomes(older, "outcomes by rules 1 (now 2)").evidence.endswith(
        "reached 4; outcomes by rules 1 (now 2)"
    )


def test_outcomes_say_how_many_came_through_each_stage():
    rows = make_rows(5, 2)
    rows[2:4] = [replace(row, failed_stage="lifted") for row in rows[2:4]]
    evidence = check_outcomes(rows).evidence
    assert (
        "of 5, came through reached 4, grasped 4, lifted 2, over_goal 2, released 2, placed 2"
        in evidence
    )


def test_where_the_object_begins_is_named_if_it_matters():
    """The start position of the object moves by 1 cm from one episode to the next."""
    starts = [make_episode(index).object_pos_world[0] for index in range(24)]
    rows = make_rows(24, 12)
    finding = check_start_region(rows, starts)
    assert_named(finding, Level.WARNING, "depends on where the object begins")
    assert "11 of 11 succeed where the object begins at y < 0.03 m" in finding.evidence
    assert "1 of 13 elsewhere" in finding.evidence
    shuffled = [row for pair in zip(rows[:12], rows[12:], strict=True) for row in pair]
    by_turns = [replace(row, episode_index=k) for k, row in enumerate(shuffled)]
    assert is_unknown(check_start_region(by_turns, starts))
    assert is_unknown(check_start_region(rows[:8], starts[:8]))


def test_early_success(episodes):
    rows = make_rows(4, 2)
    assert is_fine(check_early_success(rows, episodes, 1 / 30))
    assert is_unknown(check_early_success(make_rows(4), episodes, 1 / 30))
    episodes[1].object_pos_world[:] = episodes[1].object_pos_world[0]
    finding = check_early_success(rows, episodes, 1 / 30)
    assert_named(finding, Level.ERROR, "without the policy")
    assert "1 of 2 successes; episode 1 after 4.00 s, object moved 0.000 m" in finding.evidence


def test_a_success_that_is_too_fast(episodes):
    assert_named(
        check_early_success(make_rows(4, 1), episodes, 0.005), Level.ERROR, "without the policy"
    )


@pytest.mark.parametrize(
    ("furthest", "is_early"),
    [(0.05, True), (1.0, False)],
)
def test_a_success_of_a_joint_is_early_if_the_joint_did_not_move(episodes, furthest, is_early):
    """The position of the moving part does not count, because a knob turns in place."""
    rows = [replace(row, final_joint_progress=furthest) for row in make_rows(4, 2)]
    turned = []
    for episode in episodes:
        episode.object_pos_world[:] = episode.object_pos_world[0]
        turned.append(
            replace(
                episode,
                joint_progress=np.linspace(0, furthest, N_STEPS + 1),
            )
        )
    finding = check_early_success(rows, turned, 1 / 30)
    assert is_fine(finding) != is_early
    assert ("joint moved 5 % of the way" in finding.evidence) == is_early


def test_episodes_of_several_tasks_are_named_with_their_task(episodes):
    rows = [replace(row, task=f"task{i}") for i, row in enumerate(make_rows(4, 4))]
    assert "episode 0 of 'task0' after" in check_early_success(rows, episodes, 0.005).evidence
    crashed = [replace(row, task="other") for row in make_rows(1, error="boom")]
    assert "the first, episode 0 of 'other': boom" in check_crashes(make_rows(3) + crashed).evidence


def test_an_unmoved_object_is_no_news_in_a_failure(episodes):
    episodes[3].object_pos_world[:] = episodes[3].object_pos_world[0]
    assert is_fine(check_early_success(make_rows(4, 2), episodes, 1 / 30))


def test_better_than_both_floors_is_fine():
    finding = compare_with_lower_bounds(
        18,
        20,
        [
            LowerBound("zero", 0, 20),
            LowerBound("random", 3, 20),
        ],
    )
    assert is_fine(finding) and "'random'" in finding.finding
    assert (
        "18 of 20 (70 % to 97 %)" in finding.evidence
        and "random 3 of 20 (5 % to 36 %)" in finding.evidence
    )


@pytest.mark.parametrize(
    ("n_success", "n"),
    [
        (0, 20),
        (2, 20),
        (2, 3),
    ],
)
def test_a_policy_that_cannot_be_told_from_a_floor_is_named(n_success, n):
    finding = compare_with_lower_bounds(
        n_success,
        n,
        [
            LowerBound("zero", 0, n),
            LowerBound("random", 0, n),
        ],
    )
    assert_named(finding, Level.WARNING, "not shown to be better than 'zero'")


def test_worse_than_a_floor_is_not_better():
    assert compare_with_lower_bounds(0, 20, [LowerBound("zero", 20, 20)]).level is Level.WARNING


def test_floors_are_rolled_out_on_the_episodes_asked_for(blind_env):
    floors = roll_out_lower_bounds(blind_env, [7, 3], 20)
    assert floors == [
        LowerBound("zero", 0, 2),
        LowerBound("random", 0, 2),
    ]


class FaultyExpert(ScriptedPolicy):
    """A scripted expert with a failure mode.

    The doctor treats it as a policy because of its name.
    """

    def __init__(self, env, failure_mode=None, image_sizes=None):
        super().__init__(env)
        self._expert = env.make_expert(failure_mode)
        self.spec = replace(
            self.spec, type="expert", is_baseline=False, image_sizes=image_sizes or {}
        )


def write_run(folder, env, policy, n_episodes=3, max_steps=200):
    run = RunFolder.create(
        folder,
        describe_run(env, policy, max_steps),
    )
    for index in range(n_episodes):
        record = run_episode(
            env,
            policy,
            index,
            EpisodeRecorder(),
            RolloutSettings(1, max_steps),
        )
        run.append(record, make_row(record))
    run.close()
    return Run.open(run.path)


@pytest.fixture
def empty_run(tmp_path, blind_env):
    """Yield the folder of a run without episodes, open for writing."""
    run = RunFolder.create(tmp_path, describe_run(blind_env, "zero"))
    yield run
    run.close()


def test_a_run_says_where_the_object_has_to_begin(empty_run):
    """The start position of the object moves by 1 cm from one episode to the next."""
    for index in range(24):
        record = make_record(index, index < 12, make_episode(index))
        empty_run.append(record, make_row(record))
        if index == 4:
            assert describe_start_region(Run.open(empty_run.path)) == ""
    said = describe_start_region(Run.open(empty_run.path))
    assert said.startswith("Success depends on where the object begins: task: ")
    assert "11 of 11 succeed where the object begins at y < 0.03 m, 1 of 13 elsewhere; p = " in said
    (empty_run.path / arrays_path(Run.open(empty_run.path).rows[0])).unlink()
    assert describe_start_region(Run.open(empty_run.path)) == ""


@pytest.fixture
def ee_env():
    env = make_env("so101/pick_place_ee", image_sizes={})
    yield env
    env.close()


def by_check(findings):
    """Return the findings by check. Each check must give one finding, with evidence."""
    named = {finding.check: finding for finding in findings}
    assert len(named) == len(findings) and all(finding.evidence for finding in findings)
    return named


def problems_of(findings):
    return {finding.check for finding in findings if finding.is_problem}


def test_the_scripted_expert_is_healthy(blind_env, tmp_path):
    findings = check_run(
        write_run(tmp_path, blind_env, BASELINES["scripted"](blind_env)), blind_env
    )
    assert problems_of(findings) == {"number of episodes"} and len(by_check(findings)) == 16


def test_zero_never_moves(blind_env, tmp_path):
    named = by_check(
        check_run(
            write_run(tmp_path, blind_env, BASELINES["zero"](blind_env)),
            blind_env,
        )
    )
    assert_named(named["movement"], Level.WARNING, "never moves")
    assert_named(named["gripper motion"], Level.WARNING, "constant")
    assert_named(named["outcomes"], Level.WARNING, "'reached'")
    assert (
        is_unknown(named["floors"])
        and is_fine(named["executed actions"])
        and is_fine(named["following"])
    )


def test_random_moves_further_than_its_servos_can_follow(blind_env, tmp_path):
    named = by_check(
        check_run(
            write_run(tmp_path, blind_env, BASELINES["random"](blind_env)),
            blind_env,
        )
    )
    assert (
        is_fine(named["movement"])
        and is_fine(named["gripper motion"])
        and is_fine(named["executed actions"])
    )
    assert_named(named["following"], Level.WARNING, "does not go where the actions say")


@pytest.mark.slow
def test_an_expert_that_never_closes_the_gripper_is_named(blind_env, tmp_path):
    policy = FaultyExpert(blind_env, "never_close")
    findings = check_run(
        write_run(tmp_path, blind_env, policy, 4, 150),
        blind_env,
    )
    assert problems_of(findings) == {"gripper motion", "floors", "outcomes", "number of episodes"}
    named = by_check(findings)
    assert_named(named["gripper motion"], Level.WARNING, "never closes")
    assert_named(named["floors"], Level.WARNING, "not shown to be better than 'zero'")
    assert "zero 0 of 4" in named["floors"].evidence


@pytest.mark.slow
def test_a_policy_that_works_is_better_than_the_floors(blind_env, tmp_path):
    """The doctor makes the run's own environment if none is given."""
    run = write_run(
        tmp_path, blind_env, FaultyExpert(blind_env, image_sizes={"overhead_cam": (64, 64)}), 4
    )
    named = by_check(check_run(run))
    assert (
        is_fine(named["floors"]) and is_fine(named["first plan"]) and is_fine(named["plan spread"])
    )
    assert "4 of 4" in named["floors"].evidence and "4 distinct" in named["first plan"].evidence


def test_end_effector_targets_are_compared_too(ee_env, tmp_path):
    findings = check_run(
        write_run(
            tmp_path,
            ee_env,
            BASELINES["scripted"](ee_env),
            1,
        ),
        ee_env,
    )
    assert problems_of(findings) == {"number of episodes"}
    assert "ee.z" in by_check(findings)["following"].evidence


def test_floors_that_cannot_be_made_do_not_hide_the_rest(blind_env, tmp_path):
    run = write_run(
        tmp_path,
        blind_env,
        FaultyExpert(blind_env),
        1,
        5,
    )
    file = run.path / RUN_FILE
    file.write_text(file.read_text().replace('"so101/pick_place"', '"so101/pick_plaice"'))
    assert_named(
        by_check(check_run(Run.open(run.path)))["floors"], Level.WARNING, "could not be rolled out"
    )


@pytest.mark.parametrize(
    "check",
    ["check_outcomes", "check_movement", "_check_floors"],
)
def test_a_check_that_raises_is_a_finding_and_the_others_are_made(
    blind_env, tmp_path, monkeypatch, check
):
    def fail(*_, **__):
        raise np.linalg.LinAlgError("singular\nmatrix")

    run = write_run(
        tmp_path,
        blind_env,
        FaultyExpert(blind_env),
        1,
        5,
    )
    others = by_check(check_run(run, blind_env)).keys()
    fail.__name__ = check
    monkeypatch.setattr(recorded_run_checks, check, fail)
    named = by_check(check_run(run, blind_env))
    finding = named[check.removeprefix("_").removeprefix("check_")]
    assert_named(finding, Level.WARNING, "this check could not run")
    assert finding.evidence == "LinAlgError: singular matrix" and len(named) == len(others)


def test_no_finding_of_a_run_names_a_cause_that_the_run_does_not_show(episodes):
    """A finding of a run does not guess the cause.

    Statistics of other images, an early checkpoint and a wrong unit all produce such episodes.
    """
    for episode in episodes:
        episode.chunk[:] = [10, 20, 20]
    stuck = check_gripper_between(episodes, 22, 22)
    for finding in (
        check_plan_spread(episodes, ACTION),
        stuck,
        compare_with_lower_bounds(0, 4, [LowerBound("zero", 0, 4)]),
    ):
        assert finding.level is Level.WARNING and "mean regression" not in str(finding)
        assert "eval-doctor" in finding.hint and "whiskers" in finding.hint


def test_a_run_of_crashes_is_named(empty_run):
    record = EpisodeRecord("pick_place", 0, False, "RuntimeError: no", 0.1, None)
    empty_run.append(record, make_row(record))
    assert problems_of(check_run(Run.open(empty_run.path))) == {"crashes", "number of episodes"}


def test_an_empty_run_is_one_finding(empty_run):
    (finding,) = check_run(Run.open(empty_run.path))
    assert_named(finding, Level.WARNING, "no finished episode")
    (empty_run.path / ROWS_FILE).unlink()
    assert check_run(Run.open(empty_run.path)) == [finding]


def test_what_is_no_run_or_damaged_is_refused(tmp_path, blind_env):
    with pytest.raises(WhiskerError, match="a run folder"):
        Run.open(tmp_path)
    whole = write_run(
        tmp_path,
        blind_env,
        BASELINES["zero"](blind_env),
        1,
        5,
    )
    (row,) = whole.rows
    (whole.path / arrays_path(row)).write_bytes(b"half")
    with pytest.raises(WhiskerError, match=r"0\.npz"):
        check_run(whole)
