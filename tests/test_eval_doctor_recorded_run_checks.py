"""Tests of each check of a finished run.

Each check sees a healthy case, and a case with the fault that it must name.
"""

from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from eval.doctor import recorded_run_checks
from eval.doctor.early_success import check_early_success
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
DT_S = 1 / 30

STAGES = tuple(PICK_AND_PLACE.stages)

# The checks of episodes, in the environment of `ACTION`.
check_range = partial(check_action_range, action=ACTION)
check_gripper_motion = partial(
    check_gripper,
    action=ACTION,
    state_names=STATE_NAMES,
    n_success=0,
)
check_state_follows = partial(check_following, action=ACTION, state_names=STATE_NAMES)
check_first = partial(check_first_action, action=ACTION, state_names=STATE_NAMES)
check_spread = partial(check_plan_spread, action=ACTION)
check_jumps = partial(check_hand_over, action=ACTION)


def make_episode(index=0, action=None, state=None, chunk=CHUNK):
    """Return an episode of an arm that follows its targets one step behind.

    The arm starts at (50, -40, 25). Its motion depends on the index.
    """
    time_s = np.arange(N_STEPS) / 30
    if action is None:
        to = 40 + 8 * index
        path = (1 - np.cos(time_s)) / 2
        gripper = 25 + 24 * np.sin(2 * time_s)
        action = np.stack(
            [50 - to * path, -40 + (90 - 5 * index) * path, gripper],
            axis=1,
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
    return EpisodeArrays(
        state=np.asarray(state, dtype=np.float32),
        action=action,
        clipped=np.zeros(n, dtype=bool),
        ik_error_m=np.full(n, np.nan),
        ee_pos_world=np.linspace((0, 0, 0), (0.5, 0, 0), n + 1),
        object_pos_world=object_pos,
        object_height_m=np.zeros(n + 1),
        goal_distance_m=np.full(n + 1, 0.2),
        progress=np.zeros((n + 1, len(STAGES)), dtype=bool),
        joint_progress=np.full(n + 1, np.nan),
        goals_met=np.zeros((n + 1, 1), dtype=bool),
        prediction_step=steps,
        chunk=action.reshape(len(steps), chunk, N_JOINTS),
        n_executed=np.full(len(steps), chunk),
    )


def make_record(index, success, error=""):
    episode = make_episode(index)
    trajectory = make_trajectory_of(episode)
    return EpisodeRecord(
        "task",
        index,
        success,
        error,
        1.0,
        episode,
        trajectory,
    )


def make_rows(n, n_success=0, error="", **changes):
    """Return rows of hand-made episodes.

    The first `n_success` are successes. The others never pick anything up.
    """
    rows = [make_row(make_record(i, i < n_success, error)) for i in range(n)]
    return [replace(row, **changes) for row in rows]


@pytest.fixture
def episodes():
    return [make_episode(index) for index in range(4)]


def spoil(episodes, change):
    """Return the episodes with changed actions, which the arm follows as before."""
    return [make_episode(action=change(e.action.copy())) for e in episodes]


def assert_fine(finding, level="fine"):
    assert finding.level == level and finding.evidence, finding


def assert_unknown(finding):
    assert_fine(finding, "unknown")


def assert_named(finding, *words, level="warning", evidence=()):
    assert finding.level == level, finding
    assert finding.evidence
    assert finding.hint
    for word in words:
        assert word in f"{finding.finding}. {finding.hint}", finding
    for part in evidence:
        assert part in finding.evidence


@pytest.mark.parametrize(
    "check",
    [
        check_range,
        check_movement,
        check_gripper_motion,
        check_state_follows,
        check_first,
        check_spread,
        check_jumps,
        check_first_plan,
    ],
    ids=lambda check: getattr(check, "func", check).__name__,
)
def test_a_healthy_run_is_fine(episodes, check):
    assert_fine(check(episodes))


def test_a_gripper_that_asks_for_a_little_less_than_closed_is_fine(episodes):
    """A healthy ACT also asks for a little less than closed."""
    for episode in episodes:
        episode.action[:24, GRIPPER] = -2
        episode.clipped[:24] = True
    assert_fine(check_range(episodes))


@pytest.mark.parametrize(
    ("share", "level"),
    [(0.2, "warning"), (0.8, "error")],
)
def test_actions_far_outside_are_named(episodes, share, level):
    n = int(share * N_STEPS)
    for episode in episodes:
        episode.action[:n, 1] = 170
        episode.clipped[:n] = True
    evidence = (f"{100 * share:.0f} % of 480 steps", "170")
    assert_named(
        check_range(episodes),
        "lift.pos",
        "units",
        level=level,
        evidence=evidence,
    )


def test_actions_that_are_nearly_all_a_little_outside_are_named(episodes):
    for episode in episodes:
        episode.action[:, GRIPPER] = -1.2
        episode.clipped[:] = True
    assert_named(check_range(episodes), "gripper.pos", "just outside")


def test_an_arm_that_never_moves_is_named(episodes):
    for episode in episodes:
        episode.ee_pos_world[:] *= 1e-3
    assert_named(
        check_movement(episodes),
        "never moves",
        evidence=["0.0005 m"],
    )


def test_one_pose_for_ever_is_named(episodes):
    for episode in episodes:
        episode.ee_pos_world[5:] = (0.5, 0, 0)
    assert_named(check_movement(episodes), "one pose")


def check_gripper_between(episodes, low, high, n_success=0):
    """Check the gripper of episodes in which it moves from `high` to `low`."""

    def change(action):
        action[:, GRIPPER] = np.linspace(high, low, N_STEPS)
        return action

    return check_gripper_motion(spoil(episodes, change), n_success=n_success)


def test_a_gripper_that_closes_and_half_opens_is_fine(episodes):
    assert_fine(check_gripper_between(episodes, 0, 48))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (25, 90, ["never closes"]),
        (0, 20, ["never opens"]),
        (0, 0.5, ["never opens", "constant"]),
        (99, 100, ["never closes", "constant"]),
        (
            22,
            22,
            ["never closes or opens", "constant between closed and open", "statistics"],
        ),
        (20, 38, ["never closes", "narrow band between closed and open", "statistics"]),
    ],
)
def test_what_the_gripper_never_does_is_named(episodes, low, high, words):
    assert_named(check_gripper_between(episodes, low, high), *words)


def test_a_success_shows_that_the_task_needs_no_more_of_the_gripper(episodes):
    assert_fine(check_gripper_between(episodes, 25, 90, n_success=1))


def test_closed_may_be_the_larger_number(episodes):
    """LIBERO's gripper is open at -1 and closed at 1."""
    finger = replace(ACTION, gripper_closed=1.0, gripper_open=-1.0)
    for episode in episodes:
        episode.action[:, GRIPPER] = -1
    opened = check_gripper(episodes, finger, ("qpos",), 0)
    assert_named(opened, "never closes", "constant")
    assert "measured" not in opened.evidence


def test_a_gripper_that_does_not_do_as_told_is_named(episodes):
    for episode in episodes:
        episode.state[:, GRIPPER] = 25
    finding = check_gripper_motion(episodes)
    assert_named(finding, "does not follow its commands", evidence=["0 % of its commands"])


def test_following_says_after_how_many_steps(episodes):
    assert "0 steps after" in check_state_follows(episodes).evidence


def test_a_delay_is_found_and_fine(episodes):
    late = [
        make_episode(
            action=e.action,
            state=e.state[np.maximum(np.arange(N_STEPS + 1) - 2, 0)],
        )
        for e in episodes
    ]
    finding = check_state_follows(late)
    assert_fine(finding)
    assert "2 steps after" in finding.evidence


def test_the_joint_that_goes_elsewhere_is_named(episodes):
    for episode in episodes:
        episode.state[:, 1] = -40 - (episode.state[:, 1] + 40)
    finding = check_state_follows(episodes)
    assert_named(finding, "'lift.pos' least", evidence=["correlation -1"])


def test_a_constant_target_that_is_not_reached_is_named(episodes):
    for episode in episodes:
        episode.action[:, 0] = 90
        episode.state[:, 0] = 50
    assert_named(check_state_follows(episodes), "'pan.pos' least")


def test_an_object_between_the_jaws_is_fine(episodes):
    for episode in episodes:
        episode.state[:, GRIPPER] = 25
    assert_fine(check_state_follows(episodes))


@pytest.mark.parametrize(
    "check",
    [
        partial(
            check_state_follows,
            action=replace(ACTION, mode="delta"),
        ),
        partial(check_state_follows, state_names=("x", "y", "z")),
        partial(check_first, state_names=("x", "y", "z")),
    ],
)
def test_only_targets_of_the_state_are_compared_with_it(episodes, check):
    finding = check(episodes)
    assert_unknown(finding)
    assert "not compared" in finding.finding


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:, [1, 0, 2]], ["another order", "'pan.pos' gets what 'lift.pos' should"]),
        (np.radians, ["'pan.pos' most", "radians"]),
        (lambda a: np.add(a, [0, 70, 0]), ["'lift.pos' most"]),
        (lambda a: a / [1, 1, 100], ["far from where the arm is", "'gripper.pos' most"]),
    ],
)
def test_a_first_action_far_from_the_arm_is_named_with_its_reason(episodes, change, words):
    assert_named(check_first(spoil(episodes, change)), *words)


def test_always_the_same_plan_is_named(episodes):
    for episode in episodes:
        episode.chunk[:] = [10, 20, 20]
    assert_named(check_spread(episodes), "nearly the same", "learned the mean")


def test_the_same_plans_wherever_the_object_is_are_named(episodes):
    for episode in episodes:
        episode.chunk[:] = episodes[0].chunk
    evidence = ["0.0 % between episodes"]
    assert_named(check_spread(episodes), "same in every episode", evidence=evidence)


def test_the_same_plans_for_the_same_object_are_fine(episodes):
    assert_fine(check_spread([episodes[0]] * 3))


def test_one_plan_is_not_compared():
    episode = make_episode(action=np.zeros((CHUNK, N_JOINTS)))
    assert "not compared" in check_spread([episode]).finding


def test_chunks_that_begin_elsewhere_are_named(episodes):
    """Every chunk starts again at the position where the first one started."""

    def change(action):
        action[:, 0] = np.tile(np.linspace(0, 40, CHUNK), N_STEPS // CHUNK)
        return action

    finding = check_jumps(spoil(episodes, change))
    assert_named(
        finding,
        "jumps from chunk to chunk",
        "stale queue",
        evidence=["20 hand-overs"],
    )


def test_small_jumps_of_an_arm_that_hardly_moves_are_fine(episodes):
    steps_up = np.arange(N_STEPS) // CHUNK
    action = np.tile(steps_up[:, None], N_JOINTS)
    assert_fine(check_jumps(spoil(episodes, lambda _: action)))


def test_one_action_a_chunk_is_no_hand_over(episodes):
    single = [make_episode(action=e.action, chunk=1) for e in episodes]
    assert "not compared" in check_jumps(single).finding


def test_one_first_plan_for_all_episodes_is_named(episodes):
    for episode in episodes:
        episode.chunk[0] = episodes[0].chunk[0]
    assert_named(
        check_first_plan(episodes),
        "exactly the same plan",
        "ignores its observation",
        level="error",
        evidence=["1 distinct first plans in 4 episodes"],
    )


def test_a_first_plan_of_two_episodes_is_named(episodes):
    episodes[2].chunk[0] = episodes[1].chunk[0]
    assert_named(check_first_plan(episodes), "exactly the same plan")


def test_the_same_object_may_have_the_same_first_plan(episodes):
    assert "not compared" in check_first_plan([episodes[0]] * 3).finding


def test_crashes():
    assert_fine(check_crashes(make_rows(4)))
    crashed = make_rows(1, error="ZeroDivisionError: spoilt")
    evidence = ["1 of 5", "ZeroDivisionError: spoilt"]
    assert_named(
        check_crashes(make_rows(4) + crashed),
        "in no rate",
        evidence=evidence,
    )
    assert_named(
        check_crashes(make_rows(1) + 2 * crashed),
        level="error",
    )


def test_number_of_episodes():
    assert_fine(check_n_episodes(make_rows(10, 10)))
    finding = check_n_episodes(make_rows(4, 4) + make_rows(20, error="crash"))
    evidence = ["4 of 4 succeed", "51 % to 100 %, 49 points"]
    assert_named(finding, "too few", evidence=evidence)


def test_inverse_kinematics():
    assert_fine(check_inverse_kinematics(make_rows(2)))
    for rate, level in ((0.01, "fine"), (0.10, "warning"), (0.28, "error")):
        missed = make_rows(2, ik_failure_rate=rate, ik_error_mm=8.0)
        finding = check_inverse_kinematics(missed)
        assert finding.level == level
        assert f"{100 * rate:.1f} %" in finding.evidence
        assert "8.0 mm" in finding.evidence
    assert "not the policy's alone" in finding.finding


def test_outcomes():
    assert_fine(check_outcomes(make_rows(5, 5)))
    assert_fine(check_outcomes(make_rows(5, 1)))
    finding = check_outcomes(make_rows(5))
    words = ["no episode succeeds", "5 of 5", "'reached'"]
    assert_named(finding, *words, evidence=["5 never_picked_up"])
    assert "cameras" in finding.hint
    assert_fine(check_outcomes(make_rows(2, failed_stage="grasped") + make_rows(3)))


def test_outcomes_say_what_went_wrong_and_when():
    closed = partial(make_rows, 1, decisive_event="closed_on_nothing")
    rows = [row for step in (60, 62, 90) for row in closed(decisive_step=step)]
    rows += make_rows(1, decisive_step=4, decisive_event="lost_grasp")
    assert check_outcomes(rows).evidence.endswith(
        "what went wrong: closed_on_nothing 3 (median step 62), lost_grasp 1 (median step 4)"
    )
    older = make_rows(4, decisive_step=None, decisive_event=None)
    said = check_outcomes(older, "outcomes by rules 1 (now 2)").evidence
    assert said.endswith("reached 4; outcomes by rules 1 (now 2)")


def test_outcomes_say_how_many_came_through_each_stage():
    rows = make_rows(2, 2) + make_rows(2, failed_stage="lifted") + make_rows(1)
    through = "reached 4, grasped 4, lifted 2, over_goal 2, released 2, placed 2"
    assert f"of 5, came through {through}" in check_outcomes(rows).evidence


SUCCEEDS_WHERE = "11 of 11 succeed where the object begins at y < 0.03 m"


def test_where_the_object_begins_is_named_if_it_matters():
    """The start position of the object moves by 1 cm from one episode to the next."""
    starts = [make_episode(index).object_pos_world[0] for index in range(24)]
    rows = make_rows(24, 12)
    evidence = [SUCCEEDS_WHERE, "1 of 13 elsewhere"]
    words = "depends on where the object begins"
    assert_named(
        check_start_region(rows, starts),
        words,
        evidence=evidence,
    )
    shuffled = [row for pair in zip(rows[:12], rows[12:], strict=True) for row in pair]
    by_turns = [replace(row, episode_index=k) for k, row in enumerate(shuffled)]
    assert_unknown(check_start_region(by_turns, starts))
    assert_unknown(check_start_region(rows[:8], starts[:8]))


def keep_object_still(episode):
    episode.object_pos_world[:] = episode.object_pos_world[0]


def test_early_success(episodes):
    rows = make_rows(4, 2)
    assert_fine(check_early_success(rows, episodes, DT_S))
    assert_unknown(check_early_success(make_rows(4), episodes, DT_S))
    keep_object_still(episodes[1])
    assert_named(
        check_early_success(rows, episodes, DT_S),
        "without the policy",
        level="error",
        evidence=["1 of 2 successes; episode 1 after 4.00 s, object moved 0.000 m"],
    )


def test_a_success_that_is_too_fast(episodes):
    finding = check_early_success(make_rows(4, 1), episodes, 0.005)
    assert_named(finding, "without the policy", level="error")


@pytest.mark.parametrize(
    ("furthest", "is_early"),
    [(0.05, True), (1.0, False)],
)
def test_a_success_of_a_joint_is_early_if_the_joint_did_not_move(episodes, furthest, is_early):
    """The position of the moving part does not count, because a knob turns in place."""
    for episode in episodes:
        keep_object_still(episode)
        episode.joint_progress[:] = np.linspace(0, furthest, N_STEPS + 1)
    rows = make_rows(4, 2, final_joint_progress=furthest)
    finding = check_early_success(rows, episodes, DT_S)
    assert (finding.level != "fine") == is_early
    assert ("joint moved 5 % of the way" in finding.evidence) == is_early


def test_episodes_of_several_tasks_are_named_with_their_task(episodes):
    rows = [replace(row, task=f"task{i}") for i, row in enumerate(make_rows(4, 4))]
    assert "episode 0 of 'task0' after" in check_early_success(rows, episodes, 0.005).evidence
    crashed = make_rows(1, error="boom", task="other")
    assert "the first, episode 0 of 'other': boom" in check_crashes(make_rows(3) + crashed).evidence


def test_an_unmoved_object_is_no_news_in_a_failure(episodes):
    keep_object_still(episodes[3])
    assert_fine(check_early_success(make_rows(4, 2), episodes, DT_S))


def test_better_than_both_floors_is_fine():
    floors = [LowerBound("zero", 0, 20), LowerBound("random", 3, 20)]
    finding = compare_with_lower_bounds(18, 20, floors)
    assert_fine(finding)
    assert "'random'" in finding.finding
    assert "18 of 20 (70 % to 97 %)" in finding.evidence
    assert "random 3 of 20 (5 % to 36 %)" in finding.evidence


@pytest.mark.parametrize(
    ("n_success", "n"),
    [(0, 20), (2, 20), (2, 3)],
)
def test_a_policy_that_cannot_be_told_from_a_floor_is_named(n_success, n):
    floors = [LowerBound("zero", 0, n), LowerBound("random", 0, n)]
    finding = compare_with_lower_bounds(n_success, n, floors)
    assert_named(finding, "not shown to be better than 'zero'")


def test_worse_than_a_floor_is_not_better():
    assert compare_with_lower_bounds(0, 20, [LowerBound("zero", 20, 20)]).level == "warning"


def test_floors_are_rolled_out_on_the_episodes_asked_for(blind_env):
    floors = roll_out_lower_bounds(blind_env, [7, 3], 20)
    assert floors == [LowerBound("zero", 0, 2), LowerBound("random", 0, 2)]


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


@pytest.fixture
def write_run(tmp_path, blind_env):
    """Return a function that records a run of a policy, or of the baseline of that name."""

    def write(policy, n_episodes=3, max_steps=200, env=blind_env):
        if isinstance(policy, str):
            policy = BASELINES[policy](env)
        settings = RolloutSettings(1, max_steps)
        with closing(
            RunFolder.create(
                tmp_path,
                describe_run(env, policy, max_steps),
            )
        ) as run:
            for index in range(n_episodes):
                record = run_episode(
                    env,
                    policy,
                    index,
                    EpisodeRecorder(),
                    settings,
                )
                run.append(record, make_row(record))
        return Run.open(run.path)

    return write


@pytest.fixture
def examine(write_run, blind_env):
    """Return a function that records a run and returns the findings on it by check."""
    return lambda *arguments: by_check(check_run(write_run(*arguments), blind_env))


@pytest.fixture
def short_run(write_run, blind_env):
    return write_run(FaultyExpert(blind_env), 1, 5)


@pytest.fixture
def empty_run(tmp_path, blind_env):
    """Yield the folder of a run without episodes, open for writing."""
    with closing(RunFolder.create(tmp_path, describe_run(blind_env, "zero"))) as run:
        yield run


def test_a_run_says_where_the_object_has_to_begin(empty_run):
    """The start position of the object moves by 1 cm from one episode to the next."""

    def describe():
        return describe_start_region(Run.open(empty_run.path))

    for index in range(24):
        record = make_record(index, index < 12)
        empty_run.append(record, make_row(record))
        if index == 4:
            assert describe() == ""
    said = describe()
    assert said.startswith("Success depends on where the object begins: task: ")
    assert f"{SUCCEEDS_WHERE}, 1 of 13 elsewhere; p = " in said
    (empty_run.path / arrays_path(Run.open(empty_run.path).rows[0])).unlink()
    assert describe() == ""


def by_check(findings):
    """Return the findings by check. Each check must give one finding, with evidence."""
    named = {finding.check: finding for finding in findings}
    assert len(named) == len(findings)
    assert all(finding.evidence for finding in findings)
    return named


def problems_of(findings):
    return {finding.check for finding in findings if finding.is_problem}


def test_the_scripted_expert_is_healthy(examine):
    named = examine("scripted")
    assert problems_of(named.values()) == {"number of episodes"}
    assert len(named) == 16


def test_zero_never_moves(examine):
    named = examine("zero")
    assert_named(named["movement"], "never moves")
    assert_named(named["gripper motion"], "constant")
    assert_named(named["outcomes"], "'reached'")
    assert_unknown(named["floors"])
    assert_fine(named["executed actions"])
    assert_fine(named["following"])


def test_random_moves_further_than_its_servos_can_follow(examine):
    named = examine("random")
    for check in ("movement", "gripper motion", "executed actions"):
        assert_fine(named[check])
    assert_named(named["following"], "does not go where the actions say")


@pytest.mark.slow
def test_an_expert_that_never_closes_the_gripper_is_named(blind_env, examine):
    named = examine(FaultyExpert(blind_env, "never_close"), 4, 150)
    problems = {"gripper motion", "floors", "outcomes", "number of episodes"}
    assert problems_of(named.values()) == problems
    assert_named(named["gripper motion"], "never closes")
    words = "not shown to be better than 'zero'"
    assert_named(
        named["floors"],
        words,
        evidence=["zero 0 of 4"],
    )


@pytest.mark.slow
def test_a_policy_that_works_is_better_than_the_floors(blind_env, write_run):
    """The doctor makes the run's own environment if none is given."""
    expert = FaultyExpert(
        blind_env,
        image_sizes={"overhead_cam": (64, 64)},
    )
    named = by_check(check_run(write_run(expert, 4)))
    for check in ("floors", "first plan", "plan spread"):
        assert_fine(named[check])
    assert "4 of 4" in named["floors"].evidence
    assert "4 distinct" in named["first plan"].evidence


def test_end_effector_targets_are_compared_too(write_run):
    with closing(make_env("so101/pick_place_ee", image_sizes={})) as env:
        findings = check_run(write_run("scripted", 1, env=env), env)
    assert problems_of(findings) == {"number of episodes"}
    assert "ee.z" in by_check(findings)["following"].evidence


def test_floors_that_cannot_be_made_do_not_hide_the_rest(short_run):
    file = short_run.path / RUN_FILE
    file.write_text(file.read_text().replace('"so101/pick_place"', '"so101/pick_plaice"'))
    floors = by_check(check_run(Run.open(short_run.path)))["floors"]
    assert_named(floors, "could not be rolled out")


@pytest.mark.parametrize(
    "check",
    ["check_outcomes", "check_movement", "_check_floors"],
)
def test_a_check_that_raises_is_a_finding_and_the_others_are_made(
    blind_env, short_run, monkeypatch, check
):
    def fail(*_, **__):
        raise np.linalg.LinAlgError("singular\nmatrix")

    others = by_check(check_run(short_run, blind_env)).keys()
    fail.__name__ = check
    monkeypatch.setattr(recorded_run_checks, check, fail)
    named = by_check(check_run(short_run, blind_env))
    finding = named[check.removeprefix("_").removeprefix("check_")]
    assert_named(finding, "this check could not run")
    assert finding.evidence == "LinAlgError: singular matrix"
    assert len(named) == len(others)


def test_no_finding_of_a_run_names_a_cause_that_the_run_does_not_show(episodes):
    """A finding of a run does not guess the cause.

    Statistics of other images, an early checkpoint and a wrong unit all produce such episodes.
    """
    for episode in episodes:
        episode.chunk[:] = [10, 20, 20]
    for finding in (
        check_spread(episodes),
        check_gripper_between(episodes, 22, 22),
        compare_with_lower_bounds(0, 4, [LowerBound("zero", 0, 4)]),
    ):
        assert finding.level == "warning"
        assert "mean regression" not in str(finding)
        assert "eval-doctor" in finding.hint
        assert "whiskers" in finding.hint


def test_a_run_of_crashes_is_named(empty_run):
    record = EpisodeRecord(
        "pick_place",
        0,
        False,
        "RuntimeError: no",
        0.1,
        None,
    )
    empty_run.append(record, make_row(record))
    assert problems_of(check_run(Run.open(empty_run.path))) == {"crashes", "number of episodes"}


def test_an_empty_run_is_one_finding(empty_run):
    (finding,) = check_run(Run.open(empty_run.path))
    assert_named(finding, "no finished episode")
    (empty_run.path / ROWS_FILE).unlink()
    assert check_run(Run.open(empty_run.path)) == [finding]


def test_what_is_damaged_is_refused(short_run):
    (row,) = short_run.rows
    (short_run.path / arrays_path(row)).write_bytes(b"half")
    with pytest.raises(WhiskerError, match=r"0\.npz"):
        check_run(short_run)
