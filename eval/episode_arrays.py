"""The arrays and the record of one episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from eval.series import RecordedSeries
from eval.trajectory import Trajectory
from sim.recorded_observations import RecordedObservation


@dataclass(frozen=True)
class EpisodeArrays:
    """The arrays of `episodes/<task>/<index>.npz`; T control steps, P predictions, horizon H.

    Row t of the `T+1` arrays is the world before step t; the last row is the world at the end. Of a
    task's G goals, `progress`, `object_pos_world`, `object_height_m`, `goal_distance_m`,
    `joint_progress` and `measures` are of the goal that the verdict rests on
    (`eval.judge.choose_goal`). Arrays that its kind does not have are None. The first two kinds of
    goal are an exception: their files have all of them but `measures`.

    Attributes:
        step_snapshot: the environment's full state before every step, from which any picture can be
            made. None if the environment has no snapshots (`sim.capabilities.Snapshots`).
        snapshot: the same at the predictions: `step_snapshot[prediction_step]`.
        n_executed: number of actions of each chunk that were executed.
        alternative_chunk: K plans a prediction, the executed one first: `alternative_chunk[:, 0]`
            is `chunk`. None unless asked for (`EvalConfig.samples`).
        intermediate_chunk: D intermediate plans from which each plan was made, oldest first
            (`PolicySpec.intermediate_plans`). None unless asked for
            (`EvalConfig.intermediate_plans`).
        closes_gripper: the action commands the gripper closed
            (`eval.grasps.find_closing_commands`). None in older files, which do not have it.
        clipped: the action left the actuators' range.
        ik_error_m: `StepResult.ik_error_m`; nan if the environment takes joints.
        progress: the stages that hold at each moment (`EpisodeRow.recorded_stages`). An articulated
            goal has six columns, of which the last says that it holds. `grasped` is contact,
            however short.
        object_height_m: 0 if the goal is articulated.
        goal_distance_m: nan if the goal is articulated.
        joint_progress: nan if the goal is pick and place.
        measures: measures of a goal of another kind, in the order of its kind.
        goals_met: which of the task's goals held, in the order of `EnvSpec.goals`.
        series: all further recorded series by name; {} in older files, which have none.
    """

    state: Float32[np.ndarray, "T1 state_dim"]
    action: Float32[np.ndarray, "T action_dim"]
    clipped: Bool[np.ndarray, " T"]
    ik_error_m: Float64[np.ndarray, " T"]
    ee_pos_world: Float64[np.ndarray, "T1 3"]
    progress: Bool[np.ndarray, "T1 stage"]
    goals_met: Bool[np.ndarray, "T1 goal"]
    prediction_step: Int64[np.ndarray, " P"]
    chunk: Float32[np.ndarray, "P H action_dim"]
    n_executed: Int64[np.ndarray, " P"]
    step_snapshot: Float64[np.ndarray, "T1 snapshot_dim"] | None = None
    snapshot: Float64[np.ndarray, "P snapshot_dim"] | None = None
    alternative_chunk: Float32[np.ndarray, "P K H action_dim"] | None = None
    intermediate_chunk: Float32[np.ndarray, "P D H action_dim"] | None = None
    closes_gripper: Bool[np.ndarray, " T"] | None = None
    object_pos_world: Float64[np.ndarray, "T1 3"] | None = None
    object_height_m: Float64[np.ndarray, " T1"] | None = None
    goal_distance_m: Float64[np.ndarray, " T1"] | None = None
    joint_progress: Float64[np.ndarray, " T1"] | None = None
    measures: Float64[np.ndarray, "T1 measure"] | None = None

    @property
    def paths_world(self) -> list[Float64[np.ndarray, "T1 3"]]:
        """Return the path of the tool, and that of the goal's object if it has a position."""
        if self.object_pos_world is None:
            return [self.ee_pos_world]
        return [self.ee_pos_world, self.object_pos_world]

    @property
    def is_of_pick_and_place(self) -> bool:
        """Return whether the goal of the arrays is one of pick and place.

        Older files have no joint progress.
        """
        if self.object_height_m is None:
            return False
        if self.joint_progress is None:
            return True
        return bool(np.isnan(self.joint_progress).any())

    series: Mapping[str, RecordedSeries] = field(default_factory=dict)


type Episodes = Sequence[EpisodeArrays]


@dataclass(frozen=True)
class ReplayableArrays(EpisodeArrays):
    """The arrays of an episode that can be replayed, because its environment has snapshots."""

    step_snapshot: Float64[np.ndarray, "T1 snapshot_dim"]
    snapshot: Float64[np.ndarray, "P snapshot_dim"]


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode.

    Attributes:
        arrays: None if it crashed before its first moment was recorded.
        error: "" or the crash, as "Type: message".
        duration_s: wall time.
        trajectory: trajectory of the goal that the verdict rests on; None without arrays.
        features: hook point → a row for each prediction; None unless they are recorded.
        looks: the observations of the policy; empty unless they are recorded.
        instruction: instruction of this episode; None if the task has one for all
            (`EnvSpec.instructions`).
    """

    task: str
    episode_index: int
    success: bool
    error: str
    duration_s: float
    arrays: EpisodeArrays | None
    trajectory: Trajectory | None = None
    features: Mapping[str, Float32[np.ndarray, "P _dim"]] | None = None
    looks: tuple[RecordedObservation, ...] = ()
    instruction: str | None = None
