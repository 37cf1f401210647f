"""Tests of outcomes.

They judge hand-made trajectories, and a real rollout for each failure mode of the scripted expert.
"""

import numpy as np
import pytest

from eval.episode_row import make_row
from eval.judge import choose_goal, judge, was_begun
from eval.recorder import EpisodeRecorder
from eval.trajectory import Trajectory
from sim.goals.articulated import ARTICULATED
from sim.goals.goal import SUCCESS_ONLY, GoalKind, Threshold
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.libero_bench.goal_thresholds import ARTICULATED_THRESHOLDS
from sim.so101.expert import PickPlaceExpert
from sim.so101.goals import THRESHOLDS, declare_goal

STAGES = tuple(PICK_AND_PLACE.stages)
GOAL = declare_goal("in block bowl")
CLOSING_STEPS = GOAL.thresholds["closing_steps"]
STALLED_STEPS = GOAL.thresholds["stalled_steps"]
FAR_M = 0.3
NEAR_M = 0.1
IN_M = 0.01


class Story:
    """A builder of trajectories, phase by phase.

    Each moment of a phase is the world after that moment's action.
    """

    def __init__(self):
        self.columns = {
            name: []
            for name in (
                "height",
                "goal",
                "gripper",
                "closes",
                *STAGES,
            )
        }
        self.then(1)

    def then(self, n, height=0.0, goal=FAR_M, gripper=0.2, closes=False, flags=("released",)):
        """Add `n` moments. Height and distances change linearly to the given values."""
        values = {"height": height, "goal": goal, "gripper": gripper}
        for name, value in values.items():
            start = self.columns[name][-1] if self.columns[name] else value
            self.columns[name] += list(np.linspace(start, value, n + 1)[1:])
        self.columns["closes"] += [closes] * n
        for stage in STAGES:
            self.columns[stage] += [stage in flags] * n
        return self

    def approach(self, n=30):
        return self.then(
            n,
            gripper=0.01,
            flags=("released", "reached"),
        )

    def close(self, n=8):
        """Close the jaws near the object, but not on it."""
        return self.then(n, gripper=0.02, closes=True)

    def hold(self, n, height=0.0, goal=FAR_M, closes=True, extra=()):
        flags = (
            "reached",
            "grasped",
            *(["lifted"] if height > 0.03 else []),
            *extra,
        )
        return self.then(
            n,
            height,
            goal,
            gripper=0.0,
            closes=closes,
            flags=flags,
        )

    def hold_up(self, n, goal=FAR_M, closes=True, extra=()):
        return self.hold(n, 0.08, goal, closes, extra)

    def carry(self, goal=FAR_M):
        return self.approach().hold(12).hold_up(30, goal)

    def open(self, goal, extra=()):
        """Open the gripper around the raised object."""
        return self.hold_up(4, goal, closes=False, extra=extra)

    @property
    def n(self):
        return len(self.columns["height"])

    def trajectory(self, thresholds=THRESHOLDS):
        columns = {name: np.array(values) for name, values in self.columns.items()}
        height = columns["height"]
        goal = columns["goal"]
        zero = np.zeros(self.n)
        stages = {stage: columns[stage].astype(bool) for stage in STAGES}
        return Trajectory(
            goal=PICK_AND_PLACE.goal("in block bowl", thresholds),
            met=stages["placed"],
            stages=stages,
            measures={"object_height_m": height, "goal_distance_m": goal},
            ee_pos_world=np.stack(
                [goal, zero, height + columns["gripper"]],
                axis=1,
            ),
            object_pos_world=np.stack([goal, zero, height], axis=1),
            closes_gripper=columns["closes"][1:].astype(bool),
        )

    def verdict(self, success=False, thresholds=THRESHOLDS):
        return judge(self.trajectory(thresholds), success)

    def told(self):
        return told(self.verdict())


def told(verdict):
    return verdict.outcome, verdict.failed_stage, verdict.decisive_step, verdict.decisive_event


def test_success_is_what_the_environment_says():
    story = Story().carry().then(10, goal=IN_M)
    verdict = story.verdict(success=True)
    assert told(verdict) == ("success", None, story.n - 1, "success")
    assert verdict.decided_at_step == story.n - 1


@pytest.mark.parametrize("flick", [0, 1, 3, 8])
def test_jaws_that_close_in_front_of_the_object_get_one_label(flick):
    """The label does not depend on how long both jaws touch the object.

    The object slips away in every case, and the video looks the same.
    """
    story = Story().approach()
    closing = story.n - 1
    closed = {"gripper": 0.02, "closes": True}
    story.then(3, flags=("reached",), **closed)
    story.then(
        flick,
        0.005 * (flick > 0),
        flags=("reached", "grasped"),
        **closed,
    )
    story.then(20, gripper=0.06, closes=True).then(200)
    verdict = story.verdict()
    expected = closing + CLOSING_STEPS
    assert told(verdict) == ("never_picked_up", "grasped", expected, "closed_on_nothing")
    assert verdict.decided_at_step == story.n - 1


def test_the_first_closing_near_the_object_counts_not_those_on_the_way():
    story = Story().then(10, gripper=0.3).then(10, gripper=0.25, closes=True).approach()
    closing = story.n - 1
    story.close().then(20).approach().close()
    assert story.told()[2:] == (closing + CLOSING_STEPS, "closed_on_nothing")


def test_without_a_closing_it_went_wrong_where_the_gripper_was_closest():
    step, event = Story().approach().then(50).told()[2:]
    assert event == "closest_approach"
    assert 25 <= step <= 30
    never_near = Story().then(20, gripper=0.1).then(40, gripper=0.3)
    *blame, step, event = never_near.told()
    assert (*blame, event) == ("never_picked_up", "reached", "closest_approach")
    assert 18 <= step <= 20


def test_the_end_is_decisive_only_where_nothing_happened_before_it():
    still_coming = Story().then(60, gripper=0.1)
    assert still_coming.told() == ("never_picked_up", "reached", 60, "end")
    step, event = still_coming.then(STALLED_STEPS, gripper=0.1).told()[2:]
    assert event == "closest_approach"
    assert 55 <= step <= 60


@pytest.mark.parametrize(
    ("closes", "event"),
    [(True, "lost_grasp"), (False, "let_go")],
)
def test_a_grasp_that_ended_on_the_table_is_where_it_went_wrong(closes, event):
    story = Story().approach().hold(12)
    ended = story.n
    story.then(1, closes=closes).then(100, gripper=0.1).approach().close()
    assert story.told() == ("never_picked_up", "lifted", ended, event)


def test_a_grasp_held_on_the_table_to_the_end_was_not_lifted():
    story = Story().approach()
    begun = story.n
    assert story.hold(100).told() == ("never_picked_up", "lifted", begun, "not_lifted")


def test_an_object_that_hops_was_never_picked_up():
    """Height alone is not enough, because the gripper did not hold the object."""
    story = Story().approach()
    story.then(4, height=0.07, closes=True, flags=("reached", "released")).then(50)
    assert story.verdict().outcome == "never_picked_up"


@pytest.mark.parametrize("goal_m", [NEAR_M, FAR_M])
def test_slipping_out_in_mid_swing_is_a_drop_wherever_it_lands(goal_m):
    story = Story().carry(goal_m)
    lost = story.n
    verdict = story.then(6, goal=goal_m, closes=True).then(60, goal=goal_m).verdict()
    assert told(verdict) == ("dropped_during_transport", "over_goal", lost, "lost_grasp")
    assert lost < verdict.decided_at_step <= lost + 6


@pytest.mark.parametrize(
    ("goal_m", "outcome"),
    [(0.12, "missed_goal"), (0.121, "dropped_during_transport")],
)
def test_let_go_beside_the_goal_is_a_miss_and_further_away_a_drop(goal_m, outcome):
    story = Story().carry(goal_m).open(goal_m)
    let_go = story.n
    verdict = story.then(6, goal=goal_m).then(60, goal=goal_m).verdict()
    assert told(verdict) == (outcome, "over_goal", let_go, "let_go")
    assert verdict.decided_at_step == let_go + 3  # The object is below 3 cm there.


def test_let_go_over_the_goal_and_bounced_out_was_not_placed():
    story = Story().carry(IN_M).open(IN_M, extra=("over_goal",))
    story.then(5, goal=NEAR_M).then(50, goal=NEAR_M)
    assert story.told()[:2] == ("missed_goal", "placed")


def test_carried_over_the_goal_and_let_go_beyond_it_was_not_over_the_goal():
    story = Story().carry(IN_M).hold_up(2, IN_M, extra=("over_goal",))
    story.hold_up(10, NEAR_M).open(NEAR_M).then(60, goal=NEAR_M)
    assert story.told()[:2] == ("missed_goal", "over_goal")


def test_placed_and_knocked_out_again_is_undone():
    in_bowl = ("released", "over_goal")
    story = Story().carry(IN_M).then(4, goal=IN_M, flags=in_bowl)
    story.then(5, goal=IN_M, flags=(*in_bowl, "placed"))
    undone = story.n
    assert story.then(60, goal=NEAR_M).told()[1:] == ("placed", undone, "undone")


def test_put_on_something_tall_came_down_where_it_was_let_go():
    story = Story().carry(NEAR_M).open(NEAR_M)
    let_go = story.n
    verdict = story.then(80, height=0.08, goal=NEAR_M).verdict()
    assert told(verdict) == ("missed_goal", "over_goal", let_go, "let_go")
    assert verdict.decided_at_step == let_go


@pytest.mark.parametrize(
    "story",
    [
        # The object was dropped and picked up again.
        Story().carry().then(20).approach().hold(12).hold_up(20),
        # The object is held at 3.7 cm, below the 5 cm that the first rules required.
        Story().approach().hold(12).hold(8, height=0.037),
    ],
)
def test_an_object_that_is_held_up_at_the_end_is_a_timeout(story):
    assert story.told() == ("timeout", "over_goal", story.n - 1, "end")


def test_held_still_for_long_is_where_it_stopped():
    story = Story().carry(0.2)
    stopped = story.n - 1
    *blame, step, event = story.hold_up(100, 0.2).told()
    assert (*blame, event) == ("timeout", "over_goal", "stalled")
    assert stopped - 3 <= step <= stopped


def test_held_over_the_goal_to_the_end_was_not_released():
    story = Story().carry(0.06)
    arrived = story.n
    story.hold_up(100, IN_M, extra=("over_goal",))
    assert story.told() == ("timeout", "released", arrived, "not_released")


@pytest.mark.parametrize(
    ("flags", "stage"),
    [((), "released"), (("released",), "placed")],
)
def test_in_the_bowl_but_unfinished_is_a_timeout(flags, stage):
    story = Story().carry(IN_M).open(IN_M)
    let_go = story.n
    story.then(6, goal=IN_M, flags=("over_goal", *flags))
    assert story.told() == ("timeout", stage, let_go, "let_go")


def drawer(*joint_progress, met=(), gripper_m=0.2):
    """Return a trajectory of an articulated goal.

    It has this progress of the joint, and the goal holds at the moments `met`.
    """
    measures = {"joint_progress": np.concatenate(joint_progress, dtype=float)}
    n = len(measures["joint_progress"])
    holds = np.zeros(n, bool)
    holds[list(met)] = True
    hand = np.zeros((n, 3))
    hand[:, 0] = gripper_m
    goal = ARTICULATED.goal(
        "open wooden_cabinet_1_top_region",
        ARTICULATED_THRESHOLDS,
    )
    return Trajectory(
        goal,
        holds,
        {},
        measures,
        hand,
        np.zeros((n, 3)),
        np.zeros(n - 1, bool),
    )


PULLED = np.linspace(0, 0.6, 20)
APPROACHED_M = [*np.linspace(0.3, 0.05, 20), *[0.1] * 30]


@pytest.mark.parametrize(
    ("trajectory", "step", "event"),
    [
        # never touched
        (
            drawer(np.zeros(50), gripper_m=APPROACHED_M),
            19,
            "closest_approach",
        ),
        # stalled
        (drawer(PULLED, [0.6] * 40), 19, "stalled"),
        # pushed back
        (
            drawer(PULLED, np.linspace(0.6, 0.0, 40)),
            19,
            "stalled",
        ),
        # cut short
        (drawer(np.linspace(0, 0.9, 60)), 59, "end"),
        # opened and closed again
        (
            drawer(
                np.linspace(0, 1, 20),
                [1] * 5,
                [0.5] * 40,
                met=range(19, 25),
            ),
            25,
            "undone",
        ),
    ],
)
def test_an_articulated_goal_fails_at_its_verb_and_where_its_joint_got_no_further(
    trajectory, step, event
):
    found_step = pytest.approx(step, abs=1)
    assert told(judge(trajectory, False)) == ("timeout", "open", found_step, event)
    assert judge(trajectory, True).outcome == "success"


IN_STATE = {
    "idle": drawer([0, 0, 0], met=[0]),
    "begun": drawer([0, 0.5, 0], met=[0]),
    "met": drawer([0, 0.5, 0], met=[0, 2]),
}


@pytest.mark.parametrize(
    ("goals", "success", "chosen"),
    [
        ("met met met", True, 2),
        ("idle idle idle", False, 0),
        ("idle begun idle", False, 1),
        ("idle idle begun", False, 2),
        ("met idle idle", False, 1),
        ("idle met begun", False, 2),
        ("met met met", False, 2),
    ],
)
def test_the_verdict_rests_on_the_first_goal_that_was_begun_and_not_met(goals, success, chosen):
    """A goal counts as met if it holds at the end."""
    assert (
        choose_goal(
            [IN_STATE[state] for state in goals.split()],
            success,
        )
        == chosen
    )


@pytest.mark.parametrize(
    ("trajectory", "begun"),
    [
        (Story().carry().trajectory(), True),
        # held on the table
        (Story().approach().hold(50).trajectory(), False),
        (Story().approach().trajectory(), False),
        # the joint is all but at rest
        (drawer([0, 0.05, 0]), False),
        (drawer([0, 0.2, 0]), True),
    ],
)
def test_a_goal_is_begun_when_its_object_is_carried_or_its_joint_has_moved(trajectory, begun):
    assert was_begun(trajectory) == begun


def test_thresholds_are_parameters():
    story = Story().approach().hold(5).then(50)
    assert story.verdict().failed_stage == "grasped"
    shorter = THRESHOLDS | {"held_steps": Threshold(4, "this test")}
    assert story.verdict(thresholds=shorter).failed_stage == "lifted"


REACH = GoalKind(
    name="reach",
    stages={
        "near": "within 5 cm of the target",
        "there": "at the target",
    },
    measures={"distance_m": "from the tip to the target"},
    nears="distance_m",
    thresholds={
        "stalled": "coming nearer by less is no progress",
        "stalled_steps": "control steps without progress",
    },
)
REACH_GOAL = REACH.goal(
    "reach target",
    {
        "stalled": Threshold(0.001, "here"),
        "stalled_steps": Threshold(10, "here"),
    },
)


def reach(*distances_m, hold=1):
    """Return a trajectory of a goal kind that no table contains.

    The goal holds after `hold` moments at the target.
    """
    distance_m = np.concatenate(distances_m)
    n = len(distance_m)
    there = distance_m < 0.01
    met = np.array([there[max(0, i - hold + 1) : i + 1].sum() == hold for i in range(n)])
    stages = {"near": distance_m < 0.05, "there": there}
    measures = {"distance_m": distance_m}
    ee_pos = np.zeros((n, 3))
    closes = np.zeros(n - 1, bool)
    return Trajectory(
        REACH_GOAL,
        met,
        stages,
        measures,
        ee_pos,
        None,
        closes,
    )


@pytest.mark.parametrize(
    ("trajectory", "stage", "step", "event"),
    [
        # stalled far away
        (
            reach(np.linspace(0.3, 0.1, 20), [0.1] * 30),
            "near",
            19,
            "stalled",
        ),
        # came near and left
        (
            reach(np.linspace(0.3, 0.02, 20), [0.2] * 30),
            "there",
            19,
            "stalled",
        ),
        # cut short
        (reach(np.linspace(0.3, 0.1, 50)), "near", 49, "end"),
        # left the target
        (
            reach(
                np.linspace(0.3, 0.0, 20),
                [0, 0],
                [0.1] * 30,
            ),
            "near",
            22,
            "undone",
        ),
        # not there for long enough
        (
            reach(np.linspace(0.3, 0.02, 48), [0, 0], hold=5),
            "there",
            49,
            "end",
        ),
    ],
)
def test_a_kind_that_no_table_knows_is_judged_by_its_stages_and_what_it_nears(
    trajectory, stage, step, event
):
    verdict = judge(trajectory, False)
    assert told(verdict) == (
        "timeout",
        stage,
        pytest.approx(step, abs=1),
        event,
    )
    assert verdict.decided_at_step == trajectory.last_step
    assert judge(trajectory, True).outcome == "success"


@pytest.mark.parametrize(
    ("success", "outcome", "event"),
    [(True, "success", "success"), (False, "timeout", "end")],
)
def test_a_goal_of_which_only_success_is_known_succeeds_or_runs_out_of_time(
    success, outcome, event
):
    goal = SUCCESS_ONLY.goal("win")
    met = np.array([False] * 9 + [success])
    trajectory = Trajectory(
        goal,
        met,
        {},
        {},
        np.zeros((10, 3)),
        None,
        np.zeros(9, bool),
    )
    assert told(judge(trajectory, success)) == (outcome, None, 9, event)


def unchanged(step, action):
    return action


def opened_from(begin):
    def change(step, action):
        if step >= begin:
            action[-1] = 50
        return action

    return change


def stopped_at(begin):
    """Return a change that repeats the action of that step from there on."""
    actions = []

    def change(step, action):
        actions.append(action)
        return actions[min(step, begin)]

    return change


def closed_too_early(step, action):
    """Close while the gripper is still above the block, and open again before it descends."""
    action[-1] = 0 if 29 <= step < 36 else 48
    return action


def expert_row(env, episode_index, change=unchanged, failure_mode=None, n_steps=220):
    """Return the row of a rollout in which the expert replaces the policy.

    Its actions are those that `change(step, action)` returns.
    """
    env.reset(episode_index)
    expert = PickPlaceExpert(env, failure_mode)
    recorder = EpisodeRecorder()
    recorder.start(env, episode_index)
    for step in range(n_steps):
        action = change(step, expert.action().astype(np.float32))
        recorder.record_decision(
            step,
            env.snapshot(),
            action[None],
        )
        result = env.step(action)
        recorder.record_step(action, result)
        if result.success:
            break
    return make_row(recorder.finish())


def blame(row):
    return row.outcome, row.failed_stage, row.decisive_event


@pytest.mark.parametrize("episode_index", [0, 1, 2])
@pytest.mark.parametrize(
    ("failure_mode", "blamed"),
    [
        (None, ("success", None, "success")),
        ("never_close", ("never_picked_up", "grasped", "closest_approach")),
        ("open_half_way", ("dropped_during_transport", "over_goal", "let_go")),
        ("release_beside", ("missed_goal", "over_goal", "let_go")),
        ("stop_over_bowl", ("timeout", "released", "not_released")),
    ],
)
def test_scripted_failure_modes_give_their_outcome(blind_env, failure_mode, blamed, episode_index):
    row = expert_row(
        blind_env,
        episode_index,
        failure_mode=failure_mode,
    )
    assert blame(row) == blamed
    assert row.success == (failure_mode is None)
    assert 0 < row.decided_at_step <= row.n_steps
    assert row.success or 30 < row.decisive_step < 120


@pytest.mark.parametrize(
    ("change", "blamed", "first", "last"),
    [
        # opened while lifting
        (
            opened_from(70),
            ("dropped_during_transport", "over_goal", "let_go"),
            70,
            78,
        ),
        # stopped in the grasp
        (
            stopped_at(58),
            ("never_picked_up", "lifted", "not_lifted"),
            42,
            52,
        ),
        # stopped on the way
        (
            stopped_at(90),
            ("timeout", "over_goal", "stalled"),
            80,
            100,
        ),
    ],
)
def test_a_spoiled_expert_goes_wrong_where_it_was_spoiled(blind_env, change, blamed, first, last):
    row = expert_row(blind_env, 4, change)
    assert blame(row) == blamed
    assert first <= row.decisive_step <= last


def test_a_gripper_that_closes_too_early_closes_on_nothing(blind_env):
    row = expert_row(
        blind_env,
        3,
        closed_too_early,
        n_steps=120,
    )
    assert told(row) == (
        "never_picked_up",
        "grasped",
        29 + CLOSING_STEPS,
        "closed_on_nothing",
    )


@pytest.mark.parametrize("n_steps", [68, 75, 80])
def test_time_that_ends_on_the_way_to_the_bowl_is_a_timeout_at_any_height(blind_env, n_steps):
    """The gripper holds the block from step 47 on.

    The block leaves the table at about step 63 of this episode.
    """
    row = expert_row(blind_env, 0, n_steps=n_steps)
    assert told(row) == ("timeout", "over_goal", n_steps, "end")
