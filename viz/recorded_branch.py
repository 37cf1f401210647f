"""Branches that leave a recorded episode: the run folder has the exact state, and the policy is the one that ran."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from eval.branches import Branch, BranchRow, Overrides
from eval.drivers import continue_episode
from eval.episode_row import EpisodeRow
from eval.recorder import EpisodeRecorder, ReplayableArrays
from eval.rollout import Decision, RolloutState
from eval.run import Run
from policies.policy import EpisodeMemory, make_memory
from sim.capabilities import Snapshots
from sim.env import StepResult
from sim.errors import WhiskerError
from sim.wrapper import EnvWrapper
from viz.live_episode import LiveContext, LiveEpisode, continue_with
from viz.page_data import branch_header, moments_data, outline_data, recorded_header, row_key
from viz.replay import read_body_poses
from viz.whiskers import load_planned_arrays

# The arrays that have a row a prediction, and a row a control step; all others have one a moment.
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
    stage: LiveContext,
    run: Run,
    row: EpisodeRow,
    prediction: int,
    overrides: Overrides,
    number: int,
) -> LiveEpisode:
    """Return a branch off a recorded episode, or off a branch that was kept, from a decision on.

    Args:
        stage: of the episode's task; `row` is of a run in the same world with the same policy.
        prediction: index of the decision; of a branch one that it made itself.
        number: of the new branch.

    Raises:
        WhiskerError: the recorded arrays cannot be read, or the policy remembers what they do not
            have.
    """
    arrays = load_planned_arrays(run, row, with_intermediate_plans=True)
    parent = row.branch if isinstance(row, BranchRow) else None
    step = int(arrays.prediction_step[prediction])
    left = Branch(
        number,
        parent.number if parent else None,
        step,
        prediction,
        overrides.after(parent.overrides if parent else Overrides()),
        str(overrides),
    )
    memory = _recall(stage, row, arrays, prediction)
    past = _cut(arrays, step, prediction)
    recorder, poses = _record_again(stage.env, row.episode_index, past)
    header = branch_header(
        recorded_header(run.description, stage.env.spec, row, arrays), left, row_key(row)
    )
    return LiveEpisode(
        stage,
        row.episode_index,
        header["key"],
        recorder,
        continue_with(
            stage, RolloutState(step, prediction, memory), row.episode_index, left.overrides
        ),
        left=left,
        n_inherited=prediction,
        header=header,
        # The page has the plans and images of what was recorded already, or asks for them.
        parts=[outline_data(moments_data(past, poses), past)] if prediction else [],
        decisions=_decisions(past),
        n_parts_before=[0] * prediction,
        snapshot=arrays.snapshot[prediction],
    )


class _RecordedEnv(EnvWrapper):
    """An environment in which happens what was recorded, whatever it is told to do."""

    def __init__(self, env: Snapshots, arrays: ReplayableArrays) -> None:
        super().__init__(env)
        self._restore, self._snapshots, self._n_steps = env.restore, arrays.step_snapshot, 0
        self._restore(self._snapshots[0])

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        self._n_steps += 1
        self._restore(self._snapshots[self._n_steps])
        return StepResult(self._env.progress(), success=False, clipped=False)


def _recall(
    stage: LiveContext, row: EpisodeRow, arrays: ReplayableArrays, prediction: int
) -> EpisodeMemory:
    """Return what the policy remembered before a decision, found by having it decide again up to there."""
    policy = stage.policy
    if prediction == 0:
        return policy.reset()
    settings = replace(stage.settings, n_action_steps=int(arrays.n_executed[0]), n_samples=1)
    start, env = RolloutState(0, 0, policy.reset()), _RecordedEnv(stage.env, arrays)
    for event in continue_episode(env, policy, start, row.episode_index, settings):
        if not isinstance(event, Decision) or event.prediction_index == 0:
            continue
        remembers_nothing = policy.spec.n_obs_steps == 1 and event.memory.recurrent_state is None
        if remembers_nothing:
            return policy.reset()
        if isinstance(row, BranchRow):
            raise WhiskerError(
                f"a branch off {row_key(row)!r}",
                expected="a policy that remembers nothing between its decisions",
                got=policy.spec.type,
                hint="Branch off from the episode itself.",
            )
        if event.prediction_index == prediction:
            return event.start().memory
    raise AssertionError("the decision was recorded, and its index was checked")


def _cut(arrays: ReplayableArrays, n_steps: int, n_predictions: int) -> ReplayableArrays:
    """Return what was recorded before a decision, without the decision."""
    lengths = dict.fromkeys(_EVERY_PREDICTION, n_predictions) | dict.fromkeys(_EVERY_STEP, n_steps)
    past: dict[str, Any] = {
        name: array[: lengths.get(name, n_steps + 1)]
        for name, array in vars(arrays).items()
        if isinstance(array, np.ndarray)
    }
    n_rows = {"prediction": n_predictions, "step": n_steps, "moment": n_steps + 1}
    series = {
        name: replace(recorded, values=recorded.values[: n_rows[recorded.series.axis]])
        for name, recorded in arrays.series.items()
    }
    return replace(arrays, **past, series=series)


def _record_again(
    env: Snapshots, episode_index: int, past: ReplayableArrays
) -> tuple[EpisodeRecorder, np.ndarray]:
    """Return a recorder that has seen what was recorded, and the poses of all bodies at each of its moments."""
    recorder = EpisodeRecorder()
    recorder.start(env, episode_index)
    prediction_of = {int(step): index for index, step in enumerate(past.prediction_step)}
    poses = []
    for step, snapshot in enumerate(past.step_snapshot):
        env.restore(snapshot)
        poses.append(read_body_poses(env))
        if step:
            ik_error_m = float(past.ik_error_m[step - 1])
            clipped = bool(past.clipped[step - 1])
            result = StepResult(
                env.progress(), False, clipped, None if np.isnan(ik_error_m) else ik_error_m
            )
            recorder.record_step(past.action[step - 1], result)
        if step in prediction_of:
            index = prediction_of[step]
            recorder.record_decision(
                step, past.snapshot[index], past.chunk[index], *_recorded_besides(past, index)
            )
    recorder.adopt_series(past.series)
    return recorder, np.stack(poses)


def _decisions(past: ReplayableArrays) -> list[Decision]:
    """Return the recorded decisions; what the policy remembered at them is not known."""
    return [
        Decision(
            int(step),
            index,
            make_memory(),
            past.snapshot[index],
            past.chunk[index],
            *_recorded_besides(past, index),
        )
        for index, step in enumerate(past.prediction_step)
    ]


def _recorded_besides(
    past: ReplayableArrays, index: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the alternatives and the intermediate plans of a decision, where they were recorded."""
    alternatives, intermediate_plans = past.alternative_chunk, past.intermediate_chunk
    return None if alternatives is None else alternatives[
        index
    ], None if intermediate_plans is None else intermediate_plans[index]
