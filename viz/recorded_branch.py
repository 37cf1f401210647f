"""Starts branches off recorded episodes, from the exact state that the run folder has."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from eval.branches import Branch, BranchRow, Overrides
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
from viz.live_episode import LiveContext, LiveEpisode, continue_with
from viz.page_data import branch_header, recorded_header, row_key
from viz.part_data import moments_data, outline_data
from viz.replay import read_body_poses
from viz.whiskers import load_planned_arrays

# These arrays have one row per prediction or per control step. All others have one per moment.
_EVERY_PREDICTION = (
    "prediction_step",
    "chunk",
    "snapshot",
    "n_executed",
    "alternative_chunk",
    "intermediate_chunk",
)
_EVERY_STEP = ("action", "clipped", "ik_error_m", "closes_gripper")


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
    recorder, poses = _record_again(context.env, row.episode_index, past)
    left = _make_branch(row, step, prediction, overrides, number)
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
        decisions=_decisions(past),
        n_parts_before=[0] * prediction,
        snapshot=arrays.snapshot[prediction],
    )


def _make_branch(
    row: EpisodeRow,
    step: int,
    prediction: int,
    overrides: Overrides,
    number: int,
) -> Branch:
    if isinstance(row, BranchRow):
        parent_number = row.branch.number
        total = overrides.after(row.branch.overrides)
    else:
        parent_number = None
        total = overrides.after(Overrides())
    return Branch(number, parent_number, step, prediction, total, changes=str(overrides))


class _RecordedEnv(EnvWrapper):
    """Replays the recorded states of an episode, whatever actions it receives."""

    def __init__(self, env: Snapshots, arrays: ReplayableArrays) -> None:
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
    n_moments = n_steps + 1
    past: dict[str, Any] = {}
    for name, array in vars(arrays).items():
        if not isinstance(array, np.ndarray):
            continue
        if name in _EVERY_PREDICTION:
            past[name] = array[:n_predictions]
        elif name in _EVERY_STEP:
            past[name] = array[:n_steps]
        else:
            past[name] = array[:n_moments]
    n_rows = {"prediction": n_predictions, "step": n_steps, "moment": n_moments}
    series = {}
    for name, recorded in arrays.series.items():
        values = recorded.values[: n_rows[recorded.series.axis]]
        series[name] = replace(recorded, values=values)
    return replace(arrays, **past, series=series)


def _record_again(
    env: Snapshots, episode_index: int, past: ReplayableArrays
) -> tuple[EpisodeRecorder, np.ndarray]:
    """Return a recorder that has recorded the past, and all body poses at each moment of it."""
    recorder = EpisodeRecorder()
    recorder.start(env, episode_index)
    prediction_of = {int(step): index for index, step in enumerate(past.prediction_step)}
    poses = []
    for step, snapshot in enumerate(past.step_snapshot):
        env.restore(snapshot)
        poses.append(read_body_poses(env))
        if step:
            result = _recorded_result(env, past, step - 1)
            recorder.record_step(past.action[step - 1], result)
        if step in prediction_of:
            index = prediction_of[step]
            recorder.record_decision(
                step,
                past.snapshot[index],
                past.chunk[index],
                _row_of(past.alternative_chunk, index),
                _row_of(past.intermediate_chunk, index),
            )
    recorder.adopt_series(past.series)
    return recorder, np.stack(poses)


def _recorded_result(
    env: Snapshots,
    past: ReplayableArrays,
    step: int,
) -> StepResult:
    """Return the result of a recorded step, in an environment that is in the state after it."""
    clipped = bool(past.clipped[step])
    ik_error_m = float(past.ik_error_m[step])
    return StepResult(
        env.progress(),
        success=False,
        clipped=clipped,
        ik_error_m=None if np.isnan(ik_error_m) else ik_error_m,
    )


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
            _row_of(past.alternative_chunk, index),
            _row_of(past.intermediate_chunk, index),
        )
        decisions.append(decision)
    return decisions


def _row_of(
    array: np.ndarray | None,
    index: int,
) -> np.ndarray | None:
    return None if array is None else array[index]
