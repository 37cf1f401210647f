"""Tests of outcomes.

They judge hand-made trajectories, and a real rollout for each failure mode of the scripted expert.
"""

import numpy as np
import pytest

from eval.episode_row import make_row
from eval.judge import choose_goal, judge, was_begun
from eval.outcome import Event, Outcome
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
HELD_STEPS, CLOSING_STEPS, STALLED_STEPS = (
    GOAL.thresholds[f"{name}_steps"] for name in ("held", "closing", "stalled")
)
FAR_M = 0.3
NEAR_M = 0.1
IN_M = 0.01


class Story:
    """A builder of trajectories, phase by phase.

    Each moment of a phase is the world after that moment's action.
    """

    def __init__(self):
        self.columns = {name: [] for name in ("height", "goal", "gripper", "closes", *STAGES)}
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

    def hold(self, n, height=0.0, goal=FAR_M, closes=True, extra=()):
        flags = ("reached", "grasped", *(["lifted"] if height > 0.03 else []), *extra)
        return self.then(
            n,
            height,
            goal,
            gripper=0.0,
            closes=closes,
            flags=flags,
        )

    def carry(self, goal=FAR_M, n=30):
        return (
            self.approach()
            .hold(12)
            .hold(
                n,
                height=0.08,
                goal=goal,
            )
        )

    @property
    def n(self):
        return len(self.columns["height"])

    def trajectory(self, thresholds=THRESHOLDS):
        columns = {name: np.array(values) for name, values in self.columns.items()}
        goal = columns["goal"]
        zero = np.zeros(self.n)
        stages = {stage: columns[stage].astype(bool) for stage in STAGES}
        return Trajectory(
            goal=PICK_AND_PLACE.goal("in block bowl", thresholds),
            met=stages["placed"],
            stages=stages,
            measures={"object_height_m": columns["height"], "goal_distance_m": goal},
            ee_pos_world=np.stack(
                [goal, zero, columns["height"] + columns["gripper"]],
                axis=1,
            ),
            object_pos_world=np.stack(
                [goal, zero, columns["height"]],
                axis=1,
            ),
            closes_gripper=columns["closes"][1:].astype(bool),
        )

    def verdict(self, success=False, thresholds=THRESHOLDS):
        return judge(self.trajectory(thresholds), success)


def told(verdict):
    return verdict.outcome, verdict.failed_stage, verdict.decisive_step, verdict.decisive_event


def test_success_is_what_the_environment_says():
    story = Story().carry().then(10, goal=IN_M)
    verdict = story.verdict(success=True)
    assert told(verdict) == (Outcome.SUCCESS, None, story.n - 1, Event.SUCCESS)
    assert verdict.decided_at_step == story.n - 1


@pytest.mark.parametrize(
    "flick",
    [0, 1, 3, 8],
)
def test_jaws_that_close_in_front_of_the_object_get_one_label(flick):
    """The label does not depend on how long both jaws touch the object.

    The object slips away in every case, and the video looks the same.
    """
    story = Story().approach()
    closing = story.n - 1
    story.then(
        3,
        gripper=0.02,
        closes=True,
        flags=("reached",),
    )
    story.then(
        flick,
        0.005 * (flick > 0),
        gripper=0.02,
        closes=True,
        flags=("reached", "grasped"),
    )
    story.then(
        20,
        gripper=0.06,
        closes=True,
    ).then(200, gripper=0.2)
    verdict = story.verdict()
    expected = closing + CLOSING_STEPS
    assert told(verdict) == (Outcome.NEVER_PICKED_UP, "grasped", expected, Event.CLOSED_ON_NOTHING)
    assert verdict.decided_at_step == story.n - 1


def test_the_first_closing_near_the_object_counts_not_those_on_the_way():
    story = (
        Story()
        .then(10, gripper=0.3)
        .then(
            10,
            gripper=0.25,
            closes=True,
        )
        .approach()
    )
    closing = story.n - 1
    story.then(
        8,
        gripper=0.02,
        closes=True,
    ).then(20, gripper=0.2).approach().then(8, gripper=0.02, closes=True)
    assert told(story.verdict())[2:] == (closing + CLOSING_STEPS, Event.CLOSED_ON_NOTHING)


def test_without_a_closing_it_went_wrong_where_the_gripper_was_closest():
    story = Story().approach(30).then(50, gripper=0.2)
    step, event = told(story.verdict())[2:]
    assert event is Event.CLOSEST_APPROACH and 25 <= step <= 30
    never_near = Story().then(20, gripper=0.1).then(40, gripper=0.3)
    outcome, stage, step, event = told(never_near.verdict())
    assert (outcome, stage, event) == (
        Outcome.NEVER_PICKED_UP,
        "reached",
        Event.CLOSEST_APPROACH,
    ) and 18 <= step <= 20


def test_the_end_is_decisive_only_where_nothing_happened_before_it():
    still_coming = Story().then(60, gripper=0.1)
    assert told(still_coming.verdict()) == (Outcome.NEVER_PICKED_UP, "reached", 60, Event.END)
    stayed = told(still_coming.then(STALLED_STEPS, gripper=0.1).verdict())
    assert stayed[3] is Event.CLOSEST_APPROACH and 55 <= stayed[2] <= 60


@pytest.mark.parametrize(
    ("closes", "event"),
    [
        (True, Event.LOST_GRASP),
        (False, Event.LET_GO),
    ],
)
def test_a_grasp_that_ended_on_the_table_is_where_it_went_wrong(closes, event):
    story = Story().approach().hold(12)
    ended = story.n
    story.then(1, closes=closes).then(100, gripper=0.1).approach().then(
        8, gripper=0.02, closes=True
    )
    assert told(story.verdict()) == (Outcome.NEVER_PICKED_UP, "lifted", ended, event)


def test_a_grasp_held_on_the_table_to_the_end_was_not_lifted():
    story = Story().approach()
    begun = story.n
    assert told(story.hold(100).verdict()) == (
        Outcome.NEVER_PICKED_UP,
        "lifted",
        begun,
        Event.NOT_LIFTED,
    )


def test_an_object_that_hops_was_never_picked_up():
    """Height alone is not enough, because the gripper did not hold the object."""
    story = (
        Story()
        .approach()
        .then(
            4,
            height=0.07,
            closes=True,
            flags=("reached", "released"),
        )
        .then(50)
    )
    assert story.verdict().outcome is Outcome.NEVER_PICKED_UP


@pytest.mark.parametrize(
    "goal_m",
    [0.0 + NEAR_M, FAR_M],
)
def test_slipping_out_in_mid_swing_is_a_drop_wherever_it_lands(goal_m):
    story = Story().carry(goal=goal_m)
    lost = story.n
    story.then(
        6,
        height=0.0,
        goal=goal_m,
        closes=True,
    ).then(60, goal=goal_m)
    verdict = story.verdict()
    assert told(verdict) == (Outcome.DROPPED_DURING_TRANSPORT, "over_goal", lost, Event.LOST_GRASP)
    assert lost < verdict.decided_at_step <= lost + 6


@pytest.mark.parametrize(
    ("goal_m", "outcome"),
    [
        (0.12, Outcome.MISSED_GOAL),
        (0.121, Outcome.DROPPED_DURING_TRANSPORT),
    ],
)
def test_let_go_beside_the_goal_is_a_miss_and_further_away_a_drop(goal_m, outcome):
    story = (
        Story()
        .carry(goal=goal_m)
        .hold(
            4,
            height=0.08,
            goal=goal_m,
            closes=False,
        )
    )
    let_go = story.n
    story.then(
        6,
        height=0.0,
        goal=goal_m,
    ).then(60, goal=goal_m)
    verdict = story.verdict()
    assert told(verdict) == (outcome, "over_goal", let_go, Event.LET_GO)
    assert verdict.decided_at_step == let_go + 3  # The object is below 3 cm there.


def test_let_go_over_the_goal_and_bounced_out_was_not_placed():
    story = (
        Story()
        .carry(goal=IN_M)
        .hold(
            4,
            height=0.08,
            goal=IN_M,
            closes=False,
            extra=("over_goal",),
        )
    )
    story.then(5, goal=NEAR_M).then(50, goal=NEAR_M)
    assert told(story.verdict())[:2] == (Outcome.MISSED_GOAL, "placed")


def test_carried_over_the_goal_and_let_go_beyond_it_was_not_over_the_goal():
    story = (
        Story()
        .carry(goal=IN_M)
        .hold(
            2,
            height=0.08,
            goal=IN_M,
            extra=("over_goal",),
        )
    )
    story.hold(
        10,
        height=0.08,
        goal=NEAR_M,
    ).hold(
        4,
        height=0.08,
        goal=NEAR_M,
        closes=False,
    ).then(60, goal=NEAR_M)
    assert told(story.verdict())[:2] == (Outcome.MISSED_GOAL, "over_goal")


def test_placed_and_knocked_out_again_is_undone():
    story = (
        Story()
        .carry(goal=IN_M)
        .then(
            4,
            goal=IN_M,
            flags=("released", "over_goal"),
        )
    )
    story.then(
        5,
        goal=IN_M,
        flags=("released", "over_goal", "placed"),
    )
    undone = story.n
    story.then(60, goal=NEAR_M)
    assert told(story.verdict())[1:] == ("placed", undone, Event.UNDONE)


def test_put_on_something_tall_came_down_where_it_was_let_go():
    story = (
        Story()
        .carry(goal=NEAR_M)
        .hold(
            4,
            height=0.08,
            goal=NEAR_M,
            closes=False,
        )
    )
    let_go = story.n
    verdict = story.then(
        80,
        height=0.08,
        goal=NEAR_M,
    ).verdict()
    assert told(verdict) == (Outcome.MISSED_GOAL, "over_goal", let_go, Event.LET_GO)
    assert verdict.decided_at_step == let_go


def test_a_drop_that_was_picked_up_again_does_not_count():
    story = Story().carry().then(20).approach().hold(12).hold(20, height=0.08)
    assert told(story.verdict()) == (Outcome.TIMEOUT, "over_goal", story.n - 1, Event.END)


def test_held_up_on_the_way_to_the_goal_at_the_end_is_a_timeout():
    """The object is held at 3.7 cm, below the 5 cm that the first rules required."""
    story = Story().approach().hold(12).hold(8, height=0.037)
    assert told(story.verdict()) == (Outcome.TIMEOUT, "over_goal", story.n - 1, Event.END)


def test_held_still_for_long_is_where_it_stopped():
    story = Story().carry(goal=0.2)
    stopped = story.n - 1
    story.hold(100, height=0.08, goal=0.2)
    outcome, stage, step, event = told(story.verdict())
    assert (outcome, stage, event) == (
        Outcome.TIMEOUT,
        "over_goal",
        Event.STALLED,
    ) and stopped - 3 <= step <= stopped


def test_held_over_the_goal_to_the_end_was_not_released():
    story = Story().carry(goal=0.06)
    arrived = story.n
    story.hold(
        100,
        height=0.08,
        goal=IN_M,
        extra=("over_goal",),
    )
    assert told(story.verdict()) == (Outcome.TIMEOUT, "released", arrived, Event.NOT_RELEASED)


@pytest.mark.parametrize(
    ("flags", "stage"),
    [
        ((), "released"),
        (("released",), "placed"),
    ],
)
def test_in_the_bowl_but_unfinished_is_a_timeout(flags, stage):
    story = (
        Story()
        .carry(goal=IN_M)
        .hold(
            4,
            height=0.08,
            goal=IN_M,
            closes=False,
        )
    )
    let_go = story.n
    story.then(
        6,
        goal=IN_M,
        flags=("over_goal", *flags),
    )
    assert told(story.verdict()) == (Outcome.TIMEOUT, stage, let_go, Event.LET_GO)


def drawer(joint_progress, met=(), gripper_m=None):
    """Return a trajectory of an articulated goal.

    It has this progress of the joint, and the goal holds at the moments `met`.
    """
    n = len(joint_progress)
    holds = np.zeros(n, bool)
    holds[list(met)] = True
    hand = np.zeros((n, 3))
    hand[:, 0] = 0.2 if gripper_m is None else gripper_m
    goal = ARTICULATED.goal("open wooden_cabinet_1_top_region", ARTICULATED_THRESHOLDS)
    measures = {"joint_progress": np.array(joint_progress, float)}
    return Trajectory(
        goal,
        holds,
        {},
        measures,
        hand,
        np.zeros((n, 3)),
        np.zeros(n - 1, bool),
    )


@pytest.mark.parametrize(
    ("trajectory", "step", "event"),
    [
        (
            drawer(
                [0.0] * 50,
                gripper_m=[*np.linspace(0.3, 0.05, 20), *[0.1] * 30],
            ),
            19,
            "closest_approach",
        ),
        (drawer([*np.linspace(0, 0.6, 20), *[0.6] * 40]), 19, "stalled"),
        (drawer([*np.linspace(0, 0.6, 20), *np.linspace(0.6, 0.0, 40)]), 19, "stalled"),
        (drawer(np.linspace(0, 0.9, 60)), 59, "end"),
        (
            drawer(
                [*np.linspace(0, 1, 20), *[1] * 5, *[0.5] * 40],
                met=range(19, 25),
            ),
            25,
            "undone",
        ),
    ],
    ids=["never touched", "stalled", "pushed back", "cut short", "opened and closed again"],
)
def test_an_articulated_goal_fails_at_its_verb_and_where_its_joint_got_no_further(
    trajectory, step, event
):
    verdict = judge(trajectory, False)
    assert (verdict.outcome, verdict.failed_stage) == (Outcome.TIMEOUT, "open")
    assert verdict.decisive_event == event and abs(verdict.decisive_step - step) <= 1
    assert judge(trajectory, True).outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    ("met", "begun", "success", "chosen"),
    [
        ((1, 1, 1), (1, 1, 1), True, 2),
        ((0, 0, 0), (0, 0, 0), False, 0),
        ((0, 0, 0), (0, 1, 0), False, 1),
        ((0, 0, 0), (0, 0, 1), False, 2),
        ((1, 0, 0), (1, 0, 0), False, 1),
        ((0, 1, 0), (0, 1, 1), False, 2),
        ((1, 1, 1), (1, 1, 1), False, 2),
    ],
)
def test_the_verdict_rests_on_the_first_goal_that_was_begun_and_not_met(
    met, begun, success, chosen
):
    """A goal counts as met if it holds at the end."""
    joints = [[0, 0.5 * was_begun, 0] for was_begun in begun]
    goals = [
        drawer(joint, met=[0, 2] if holds else [0])
        for joint, holds in zip(joints, met, strict=True)
    ]
    assert choose_goal(goals, success) == chosen


@pytest.mark.parametrize(
    ("story", "begun"),
    [
        (Story().carry(), True),
        (Story().approach().hold(50), False),
        (Story().approach(), False),
    ],
)
def test_a_goal_is_begun_when_its_object_is_carried(story, begun):
    assert was_begun(story.trajectory()) == begun


@pytest.mark.parametrize(
    ("furthest", "begun"),
    [(0.05, False), (0.2, True)],
)
def test_a_goal_is_begun_when_its_joint_has_moved(furthest, begun):
    assert was_begun(drawer([0, furthest, 0])) == begun


def test_thresholds_are_parameters():
    story = Story().approach().hold(5).then(50)
    assert story.verdict().failed_stage == "grasped"
    assert (
        story.verdict(
            thresholds=THRESHOLDS | {"held_steps": Threshold(4, "this test")}
        ).failed_stage
        == "lifted"
    )


REACH = GoalKind(
    name="reach",
    stages={"near": "within 5 cm of the target", "there": "at the target"},
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


def reach(distance_m, hold=1):
    """Return a trajectory of a goal kind that no table contains.

    The goal holds after `hold` moments at the target.
    """
    distance_m = np.array(distance_m, float)
    n = len(distance_m)
    there = distance_m < 0.01
    met = np.array([there[max(0, i - hold + 1) : i + 1].sum() == hold for i in range(n)])
    stages = {"near": distance_m < 0.05, "there": there}
    ee_pos = np.zeros((n, 3))
    closes = np.zeros(n - 1, bool)
    return Trajectory(
        REACH_GOAL,
        met,
        stages,
        {"distance_m": distance_m},
        ee_pos,
        None,
        closes,
    )


@pytest.mark.parametrize(
    ("trajectory", "stage", "step", "event"),
    [
        (reach([*np.linspace(0.3, 0.1, 20), *[0.1] * 30]), "near", 19, "stalled"),
        (reach([*np.linspace(0.3, 0.02, 20), *[0.2] * 30]), "there", 19, "stalled"),
        (reach(np.linspace(0.3, 0.1, 50)), "near", 49, "end"),
        (reach([*np.linspace(0.3, 0.0, 20), 0, 0, *[0.1] * 30]), "near", 22, "undone"),
        (
            reach(
                [*np.linspace(0.3, 0.02, 48), 0.0, 0.0],
                hold=5,
            ),
            "there",
            49,
            "end",
        ),
    ],
    ids=[
        "stalled far away",
        "came near and left",
        "cut short",
        "left the target",
        "not there for long enough",
    ],
)
def test_a_kind_that_no_table_knows_is_judged_by_its_stages_and_what_it_nears(
    trajectory, stage, step, event
):
    verdict = judge(trajectory, False)
    assert (verdict.outcome, verdict.failed_stage, verdict.decisive_event) == (
        Outcome.TIMEOUT,
        stage,
        event,
    )
    assert (
        abs(verdict.decisive_step - step) <= 1 and verdict.decided_at_step == trajectory.last_step
    )
    assert judge(trajectory, True).outcome is Outcome.SUCCESS


@pytest.mark.parametrize("success", [True, False])
def test_a_goal_of_which_only_success_is_known_succeeds_or_runs_out_of_time(success):
    goal = SUCCESS_ONLY.goal("win")
    met = np.array([False] * 9 + [success])
    verdict = judge(
        Trajectory(
            goal,
            met,
            {},
            {},
            np.zeros((10, 3)),
            None,
            np.zeros(9, bool),
        ),
        success,
    )
    expected = (
        (Outcome.SUCCESS, None, 9, Event.SUCCESS)
        if success
        else (Outcome.TIMEOUT, None, 9, Event.END)
    )
    assert told(verdict) == expected


class SpoiledExpert:
    """A scripted expert whose actions are changed from some step on."""

    def __init__(self, env, failure_mode=None, begin=0, gripper=None, stops=False):
        self._expert = PickPlaceExpert(env, failure_mode)
        self._begin = begin
        self._gripper = gripper
        self._stops = stops
        self._step = 0
        self._last = None

    def action(self):
        action = self._expert.action().astype(np.float32)
        if self._step >= self._begin and self._gripper is not None:
            action[-1] = self._gripper
        if self._step > self._begin and self._stops:
            action = self._last
        self._step = self._step + 1
        self._last = action
        return action


def expert_row(env, episode_index, n_steps=220, **spoiled):
    """Return the row of a rollout in which the expert replaces the policy."""
    env.reset(episode_index)
    expert = SpoiledExpert(env, **spoiled)
    recorder = EpisodeRecorder()
    recorder.start(env, episode_index)
    for step in range(n_steps):
        action = expert.action()
        recorder.record_decision(step, env.snapshot(), action[None])
        result = env.step(action)
        recorder.record_step(action, result)
        if result.success:
            break
    return make_row(recorder.finish())


@pytest.mark.parametrize(
    "episode_index",
    [0, 1, 2],
)
@pytest.mark.parametrize(
    ("failure_mode", "outcome", "stage", "event"),
    [
        (None, Outcome.SUCCESS, None, Event.SUCCESS),
        ("never_close", Outcome.NEVER_PICKED_UP, "grasped", Event.CLOSEST_APPROACH),
        ("open_half_way", Outcome.DROPPED_DURING_TRANSPORT, "over_goal", Event.LET_GO),
        ("release_beside", Outcome.MISSED_GOAL, "over_goal", Event.LET_GO),
        ("stop_over_bowl", Outcome.TIMEOUT, "released", Event.NOT_RELEASED),
    ],
)
def test_scripted_failure_modes_give_their_outcome(
    blind_env, failure_mode, outcome, stage, event, episode_index
):
    row = expert_row(blind_env, episode_index, failure_mode=failure_mode)
    assert (row.outcome, row.failed_stage, row.decisive_event) == (outcome, stage, event)
    assert row.success == (outcome is Outcome.SUCCESS)
    assert 0 < row.decided_at_step <= row.n_steps
    assert row.success or 30 < row.decisive_step < 120


@pytest.mark.parametrize(
    ("spoiled", "outcome", "stage", "event", "at"),
    [
        (
            {"begin": 70, "gripper": 50},
            Outcome.DROPPED_DURING_TRANSPORT,
            "over_goal",
            Event.LET_GO,
            (70, 78),
        ),
        (
            {"begin": 58, "stops": True},
            Outcome.NEVER_PICKED_UP,
            "lifted",
            Event.NOT_LIFTED,
            (42, 52),
        ),
        (
            {
                "begin": 90,
                "stops": True,
            },
            Outcome.TIMEOUT,
            "over_goal",
            Event.STALLED,
            (80, 100),
        ),
    ],
    ids=["opened while lifting", "stopped in the grasp", "stopped on the way"],
)
def test_a_spoiled_expert_goes_wrong_where_it_was_spoiled(
    blind_env, spoiled, outcome, stage, event, at
):
    row = expert_row(blind_env, 4, **spoiled)
    assert (row.outcome, row.failed_stage, row.decisive_event) == (outcome, stage, event)
    assert at[0] <= row.decisive_step <= at[1]


def test_time_that_ends_on_the_way_to_the_bowl_is_a_timeout_at_any_height(blind_env):
    """The gripper holds the block from step 47 on.

    The block leaves the table at about step 63 of this episode.
    """
    for n_steps in (68, 75, 80):
        row = expert_row(blind_env, 0, n_steps=n_steps)
        assert (row.outcome, row.failed_stage, row.decisive_event) == (
            Outcome.TIMEOUT,
            "over_goal",
            Event.END,
        )
        assert row.decisive_step == n_steps


def test_a_gripper_that_closes_too_early_closes_on_nothing(blind_env):
    """The gripper closes while it is still above the block, and opens again before it descends."""
    env = blind_env
    env.reset(3)
    expert = PickPlaceExpert(env)
    recorder = EpisodeRecorder()
    recorder.start(env, 3)
    for step in range(120):
        action = expert.action().astype(np.float32)
        action[-1] = 0 if 29 <= step < 36 else 48
        recorder.record_decision(step, env.snapshot(), action[None])
        recorder.record_step(action, env.step(action))
    row = make_row(recorder.finish())
    assert (row.outcome, row.failed_stage) == (Outcome.NEVER_PICKED_UP, "grasped")
    assert (row.decisive_step, row.decisive_event) == (29 + CLOSING_STEPS, Event.CLOSED_ON_NOTHING)
