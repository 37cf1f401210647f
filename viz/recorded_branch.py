"""Starts branches off recorded episodes, from the exact state that the run folder has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from eval.branches import BranchRow, Overrides
from eval.drivers import continue_episode
from eval.episode_arrays import ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.recorder import EpisodeRecorder
from eval.rollout import Decision, RolloutState
from eval.run import Run
from policies.policy import EpisodeMemory, make_memory
from sim.capabilities import Snapshots
from sim.env import StepResult
from sim.errors import WhiskerError
from sim.wrapper import EnvWrapper
from viz.goal_measures import add_measures
from viz.live_episode import LiveContext, LiveEpisode, continue_with, make_branch
from viz.page_data import branch_header, recorded_header, row_key
from viz.part_data import moments_data, outline_data
from viz.replay import read_body_poses, row_of
from viz.whiskers import load_planned_arrays

# Array → what it has one row of. All others have one per moment.
_AXES = {
    "prediction_step": "prediction",
    "chunk": "prediction",
    "snapshot": "prediction",
    "n_executed": "prediction",
    "alternative_chunk": "prediction",
    "intermediate_chunk": "prediction",
    "action": "step",
    "clipped": "step",
    "ik_error_m": "step",
    "closes_gripper": "step",
}


def branch_off(
    context: LiveContext,
    run: Run,
    row: EpisodeRow,
    prediction: int,
    overrides: Overrides,
    number: int,
) -> LiveEpisode:
    """Return a branch off a recorded episode, or off a saved branch.

    Args:
        context: an environment of the episode's task, and the policy of the run.
        run: the run.
        row: the episode or branch to leave.
        prediction: index of the decision to repeat. A branch must have made it itself.
        overrides: the changes of the new branch.
        number: the number of the new branch.

    Raises:
        WhiskerError: the recorded arrays cannot be read, or they do not determine the policy's
            memory.
    """
    arrays = load_planned_arrays(run, row, with_intermediate_plans=True)
    step = int(arrays.prediction_step[prediction])
    memory = _recover_memory(context, row, arrays, prediction)
    past = _cut(arrays, step, prediction)
    decisions = _decisions(past)
    recorder, poses = _record_again(context.env, row.episode_index, past, decisions)
    parent = row.branch if isinstance(row, BranchRow) else None
    left = make_branch(parent, step, prediction, overrides, number)
    parent_header = recorded_header(run.description, context.env.spec, row, arrays)
    header = branch_header(parent_header, left, row_key(row))
    start = RolloutState(step, prediction, memory)
    # The page has the recorded plans and images already, or fetches them.
    parts = []
    if prediction:
        parts = [outline_data(moments_data(past, poses), add_measures(past, row))]
    return LiveEpisode(
        context,
        row.episode_index,
        header["key"],
        recorder,
        continue_with(context, start, row.episode_index, left.overrides),
        left=left,
        n_inherited=prediction,
        header=header,
        parts=parts,
        decisions=decisions,
        n_parts_before=[0] * prediction,
        snapshot=arrays.snapshot[prediction],
    )


class _RecordedEnv(EnvWrapper):
    """Replays the recorded states of an episode, whatever actions it receives."""

    def __init__(
        self,
        env: Snapshots,
        arrays: ReplayableArrays,
    ) -> None:
        super().__init__(env)
        self._restore = env.restore
        self._snapshots = arrays.step_snapshot
        self._n_steps = 0
        self._restore(self._snapshots[0])

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        self._n_steps += 1
        self._restore(self._snapshots[self._n_steps])
        return StepResult(self._env.progress(), success=False, clipped=False)


def _recover_memory(
    context: LiveContext, row: EpisodeRow, arrays: ReplayableArrays, prediction: int
) -> EpisodeMemory:
    """Return the policy's memory before a decision, by repeating the decisions before it."""
    policy = context.policy
    if prediction == 0:
        return policy.reset()
    settings = replace(
        context.settings,
        n_action_steps=int(arrays.n_executed[0]),
        n_samples=1,
    )
    start = RolloutState(0, 0, policy.reset())
    env = _RecordedEnv(context.env, arrays)
    for event in continue_episode(env, policy, start, row.episode_index, settings):
        if not isinstance(event, Decision) or event.prediction_index == 0:
            continue
        remembers_nothing = policy.spec.n_obs_steps == 1 and event.memory.recurrent_state is None
        if remembers_nothing:
            return policy.reset()
        if isinstance(row, BranchRow):
            raise WhiskerError(
                f"a branch off {row_key(row)!r}",
                expected="a policy without memory between its decisions",
                got=policy.spec.type,
                hint="Branch off from the episode itself.",
            )
        if event.prediction_index == prediction:
            return event.start().memory
    raise AssertionError("the decision was recorded, and its index was checked")


def _cut(
    arrays: ReplayableArrays,
    n_steps: int,
    n_predictions: int,
) -> ReplayableArrays:
    """Return what was recorded before a decision, without the decision."""
    n_rows = {"prediction": n_predictions, "step": n_steps, "moment": n_steps + 1}
    past: dict[str, Any] = {}
    for name, array in vars(arrays).items():
        if isinstance(array, np.ndarray):
            past[name] = array[: n_rows[_AXES.get(name, "moment")]]
    series = {}
    for name, recorded in arrays.series.items():
        values = recorded.values[: n_rows[recorded.series.axis]]
        series[name] = replace(recorded, values=values)
    return replace(arrays, **past, series=series)


def _record_again(
    env: Snapshots,
    episode_index: int,
    past: ReplayableArrays,
    decisions: Sequence[Decision],
) -> tuple[EpisodeRecorder, np.ndarray]:
    """Return a recorder that has recorded the past, and all body poses at each moment of it."""
    recorder = EpisodeRecorder()
    recorder.start(env, episode_index)
    decision_at = {decision.step: decision for decision in decisions}
    poses = []
    for step, snapshot in enumerate(past.step_snapshot):
        env.restore(snapshot)
        poses.append(read_body_poses(env))
        if step:
            ik_error_m = float(past.ik_error_m[step - 1])
            result = StepResult(
                env.progress(),
                success=False,
                clipped=bool(past.clipped[step - 1]),
                ik_error_m=None if np.isnan(ik_error_m) else ik_error_m,
            )
            recorder.record_step(past.action[step - 1], result)
        if step in decision_at:
            decision = decision_at[step]
            recorder.record_decision(
                step,
                decision.snapshot,
                decision.plan,
                decision.alternatives,
                decision.intermediate_plans,
            )
    recorder.adopt_series(past.series)
    return recorder, np.stack(poses)


def _decisions(past: ReplayableArrays) -> list[Decision]:
    """Return the recorded decisions, with an empty memory, since no memory was recorded."""
    decisions = []
    for index, step in enumerate(past.prediction_step):
        decision = Decision(
            int(step),
            index,
            make_memory(),
            past.snapshot[index],
            past.chunk[index],
            row_of(past.alternative_chunk, index),
            row_of(past.intermediate_chunk, index),
        )
        decisions.append(decision)
    return decisions
