"""What one episode leaves behind."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import nan

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from eval.declared_series import declared_series
from eval.grasps import find_closing_commands
from eval.judge import choose_goal
from eval.rollout import ControlStep, Decision
from eval.series import Axis, RecordedSeries, Series, SoFar
from eval.trajectory import Trajectory, fill_goal_arrays, make_trajectory
from policies.policy import EpisodeMemory
from sim.capabilities import Snapshots, provides
from sim.env import Env, Progress, StepResult
from sim.errors import WhiskerError
from sim.goals.check import check_progress
from sim.goals.goal import SUCCESS_ONLY, Goal
from sim.recorded_observations import RecordedObservation


@dataclass(frozen=True)
class EpisodeArrays:
    """The arrays of `episodes/<task>/<index>.npz`; T control steps, P predictions, horizon H.

    Row t of the `T+1` arrays is the world before step t; the last row is how it ended. Of a task's
    G goals, `progress`, `object_pos_world`, `object_height_m`, `goal_distance_m`, `joint_progress`
    and `measures` are of the one that the verdict rests on (`eval.judge.choose_goal`). What its
    kind does not have is None, but for the first two kinds of goal, whose files have all but
    `measures`.

    Attributes:
        step_snapshot: the environment's full state before every step, which any picture is made
            from. None where the environment has no snapshots (`sim.capabilities.Snapshots`).
        snapshot: the same at the predictions: `step_snapshot[prediction_step]`.
        n_executed: how many actions of each chunk were run.
        alternative_chunk: K plans a prediction, the executed one first: `alternative_chunk[:, 0]`
            is `chunk`. None unless asked for (`EvalConfig.samples`).
        intermediate_chunk: what each plan was made from, D intermediate plans, oldest first (`PolicySpec.intermediate_plans`).
            None unless asked for (`EvalConfig.intermediate_plans`).
        closes_gripper: the action commands the gripper closed
            (`eval.grasps.find_closing_commands`). None in files that were recorded before it was.
        clipped: the action left the actuators' range.
        ik_error_m: `StepResult.ik_error_m`; nan where the environment takes joints.
        progress: the stages that hold at each moment (`EpisodeRow.recorded_stages`). Of an
            articulated goal six columns, of which the last says that it holds. `grasped` is
            contact, however short.
        object_height_m: 0 where the goal is articulated.
        goal_distance_m: nan where the goal is articulated.
        joint_progress: nan where the goal is pick and place.
        measures: of a goal of another kind, in the order of its kind.
        goals_met: which of the task's goals held, in the order of `EnvSpec.goals`.
        series: what else was recorded, by name; {} in files from before there were any.
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
        """Return the way of the tool, and of what the goal is about where that has a place."""
        return (
            [self.ee_pos_world]
            if self.object_pos_world is None
            else [self.ee_pos_world, self.object_pos_world]
        )

    @property
    def is_of_pick_and_place(self) -> bool:
        """Return whether the goal that they are about is one of pick and place.

        Older files have no joint progress.
        """
        is_articulated = self.joint_progress is not None and not np.isnan(self.joint_progress).any()
        return self.object_height_m is not None and not is_articulated

    series: Mapping[str, RecordedSeries] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplayableArrays(EpisodeArrays):
    """The arrays of an episode that can be shown again: those of an environment that has snapshots."""

    step_snapshot: Float64[np.ndarray, "T1 snapshot_dim"]
    snapshot: Float64[np.ndarray, "P snapshot_dim"]


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode.

    Attributes:
        arrays: None when it crashed before its first moment was recorded.
        error: "" or what crashed, as "Type: message".
        duration_s: wall time.
        trajectory: of the goal that the verdict rests on; None without arrays.
        features: hook point → a row a prediction; None unless they are collected.
        looks: what the policy saw; empty unless that is recorded.
        instruction: of this episode; None where the task has one for all (`EnvSpec.instructions`).
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


class EpisodeRecorder:
    """Collects an episode as it runs. Renders nothing and changes nothing."""

    def __init__(self, *, records_observations: bool = False) -> None:
        """Args:
        records_observations: keep what the policy saw.
        """
        self._records_observations = records_observations
        names = {series.name for series in declared_series()} & {
            field.name for field in fields(EpisodeArrays)
        }
        assert not names, f"series with the name of an array: {names}"

    def start(self, env: Env, episode_index: int) -> None:
        self._env, self._episode_index = env, episode_index
        self._start_s = time.perf_counter()
        self._moments: list[
            tuple[np.ndarray, np.ndarray, tuple[Progress, ...], np.ndarray | None]
        ] = []
        self._actions: list[np.ndarray] = []
        self._results: list[StepResult] = []
        self._decisions: list[tuple[int, np.ndarray | None, np.ndarray]] = []
        self._alternatives: list[np.ndarray] = []
        self._intermediate_plans: list[np.ndarray] = []
        self._features: list[Mapping[str, np.ndarray]] = []
        self._looks: dict[int, RecordedObservation] = {}
        self._instruction: str | None = None
        self._success, self._error = False, ""
        # Name → what it is, and row → number.
        self._series: dict[str, tuple[Series, dict[int, float]]] = {}

    def record(self, event: Decision | ControlStep) -> None:
        """Record what happened next."""
        match event:
            case Decision(
                step, _, memory, snapshot, plan, alternatives, intermediate_plans, features, signals
            ):
                self.record_decision(
                    step, snapshot, plan, alternatives, intermediate_plans, features, signals
                )
                self.record_looks(step, memory)
            case ControlStep(_, action, result):
                self.record_step(action, result)

    def record_decision(
        self,
        step: int,
        snapshot: np.ndarray | None,
        plan: np.ndarray,
        alternatives: np.ndarray | None = None,
        intermediate_plans: np.ndarray | None = None,
        features: Mapping[str, np.ndarray] | None = None,
        signals: Mapping[str, float] | None = None,
    ) -> None:
        """Alternatives, intermediate plans and features are given at every decision of an episode or at none."""
        is_first = not self._moments
        if is_first:
            self._record_moment(self._env.progress())
        self._decisions.append((step, snapshot, plan))
        if alternatives is not None:
            self._alternatives.append(alternatives)
        if intermediate_plans is not None:
            self._intermediate_plans.append(intermediate_plans)
        if features is not None:
            self._features.append(features)
        if is_first:
            self._record_series("moment", {})
        self._record_series("prediction", signals or {})

    def record_looks(self, step: int, memory: EpisodeMemory) -> None:
        """Keep the observations that a decision at that step was made from, if they are asked for; each of them once.

        The instruction is kept in any case where it is the episode's own.
        """
        if self._env.spec.instructions:
            self._instruction = memory.present.instruction
        if not self._records_observations:
            return
        task, n_seen = self._env.spec.task, len(memory.observations)
        for look_step, seen in enumerate(memory.observations, start=step + 1 - n_seen):
            decided = look_step == step
            if decided or look_step not in self._looks:
                self._looks[look_step] = RecordedObservation(
                    seen, task, self._episode_index, look_step, decided
                )

    def record_step(self, action: np.ndarray, result: StepResult) -> None:
        # First what can fail, where the environment is another process: half a step is not kept.
        self._record_moment(result.progress)
        self._actions.append(action)
        self._results.append(result)
        self._success = result.success
        self._record_series("step", {})
        self._record_series("moment", {})

    def record_error(self, error: Exception) -> None:
        message = " ".join(str(error).split())
        self._error = f"{type(error).__name__}: {message}"

    def adopt_series(self, recorded: Mapping[str, RecordedSeries]) -> None:
        """Take the numbers that were recorded of the same episode for those of the rows so far."""
        for each in recorded.values():
            self._series[each.series.name] = each.series, dict(enumerate(each.values.tolist()))

    @property
    def n_steps(self) -> int:
        """Executed so far."""
        return len(self._actions)

    @property
    def series(self) -> dict[str, RecordedSeries]:
        """All series that have a row so far, by name."""
        recorded = {}
        for name, (series, rows) in self._series.items():
            values = np.full(self._count_rows(series.axis), nan)
            values[list(rows)] = list(rows.values())
            recorded[name] = RecordedSeries(replace(series, compute=None), values)
        return recorded

    def fork(self, n_steps: int) -> "EpisodeRecorder":
        """A recorder of another future, with all that came before that control step; a decision at it is not kept."""
        other = EpisodeRecorder(records_observations=self._records_observations)
        other.start(self._env, self._episode_index)
        n_decisions = sum(step < n_steps for step, _, _ in self._decisions)
        other._moments, other._actions = self._moments[: n_steps + 1], self._actions[:n_steps]
        other._results, other._decisions = self._results[:n_steps], self._decisions[:n_decisions]
        other._alternatives, other._intermediate_plans = (
            self._alternatives[:n_decisions],
            self._intermediate_plans[:n_decisions],
        )
        other._features, other._instruction = self._features[:n_decisions], self._instruction
        other._looks = {step: look for step, look in self._looks.items() if step < n_steps}
        for name, (series, rows) in self._series.items():
            n_rows = other._count_rows(series.axis)
            other._series[name] = (
                series,
                {row: value for row, value in rows.items() if row < n_rows},
            )
        return other

    def finish(self) -> EpisodeRecord:
        spec, success = self._env.spec, self._success and not self._error
        trajectories = self._make_trajectories() if self._moments else []
        chosen = trajectories[choose_goal(trajectories, success)] if trajectories else None
        return EpisodeRecord(
            task=spec.task,
            episode_index=self._episode_index,
            success=success,
            error=self._error,
            duration_s=time.perf_counter() - self._start_s,
            arrays=self._stack(chosen, trajectories) if chosen else None,
            trajectory=chosen,
            features=self._stack_features(),
            looks=tuple(self._looks[step] for step in sorted(self._looks)),
            instruction=self._instruction,
        )

    def _record_moment(self, progress: tuple[Progress, ...]) -> None:
        env = self._env
        if not self._moments:
            check_progress(env.spec, progress)
        snapshot = env.snapshot() if provides(env, Snapshots) else None
        self._moments.append((env.state(), env.ee_pos_world(), progress, snapshot))

    def _record_series(self, axis: Axis, signals: Mapping[str, float]) -> None:
        """Record the last row of the series of an axis.

        Args:
            signals: what came with the row, by name; the rest is computed.
        """
        known = {series.name: series for series in declared_series() if series.axis == axis}
        if undeclared := sorted(signals.keys() - known):
            raise WhiskerError(
                f"signals of a plan: {', '.join(undeclared)}",
                expected=f"series with a row a prediction that are declared: {', '.join(known)}",
                got="others",
                hint="Declare them: eval.declared_series.declare(Series(...)).",
            )
        if not known:
            return
        steps, plans = (
            [step for step, _, _ in self._decisions],
            [plan for _, _, plan in self._decisions],
        )
        so_far = SoFar(self._env, self._actions, self._results, steps, plans)
        for name, series in known.items():
            value = signals.get(name)
            if value is None and series.compute is not None:
                value = series.compute(so_far)
            if value is not None:
                rows = self._series.setdefault(name, (series, {}))[1]
                rows[self._count_rows(axis) - 1] = float(value)

    def _count_rows(self, axis: Axis) -> int:
        return {
            "moment": len(self._moments),
            "step": len(self._actions),
            "prediction": len(self._decisions),
        }[axis]

    def _stack_features(self) -> dict[str, np.ndarray] | None:
        if not self._features:
            return None
        return {
            name: np.stack([features[name] for features in self._features])
            for name in self._features[0]
        }

    @property
    def _goals(self) -> tuple[Goal, ...]:
        """Return the goals of the task; an environment that declares none has the one that its steps call success."""
        return self._env.spec.goals or (SUCCESS_ONLY.goal("success"),)

    def _make_trajectories(self) -> list[Trajectory]:
        """Return each goal over the episode."""
        ee_pos, closes = (
            np.stack([ee_pos for _, ee_pos, _, _ in self._moments]),
            self._find_closing_commands(),
        )
        moments = [progress for _, _, progress, _ in self._moments]
        if not self._env.spec.goals:
            moments = [
                (Progress(met=False),),
                *((Progress(met=result.success),) for result in self._results),
            ]
        goals = zip(self._goals, zip(*moments, strict=True), strict=True)
        return [make_trajectory(goal, progress, ee_pos, closes) for goal, progress in goals]

    def _stack_actions(self) -> Float32[np.ndarray, "T action_dim"]:
        return np.array(self._actions, dtype=np.float32).reshape(-1, self._env.spec.action.dim)

    def _find_closing_commands(self) -> Bool[np.ndarray, " T"]:
        return find_closing_commands(self._stack_actions(), self._env.spec.action)

    def _stack(self, chosen: Trajectory, trajectories: list[Trajectory]) -> EpisodeArrays:
        state, ee_pos, _, step_snapshot = zip(*self._moments, strict=True)
        prediction_step, snapshot, plan = zip(*self._decisions, strict=True)
        steps = np.array(prediction_step, dtype=np.int64)
        return EpisodeArrays(
            state=np.stack(state),
            action=self._stack_actions(),
            clipped=np.array([result.clipped for result in self._results], dtype=bool),
            ik_error_m=np.array(
                [nan if (e := r.ik_error_m) is None else e for r in self._results], dtype=np.float64
            ),
            ee_pos_world=np.stack(ee_pos),
            goals_met=np.stack([trajectory.met for trajectory in trajectories], axis=1),
            prediction_step=steps,
            chunk=np.stack(plan).astype(np.float32),
            n_executed=np.diff(steps, append=len(self._actions)),
            step_snapshot=None if step_snapshot[0] is None else np.stack(step_snapshot),
            snapshot=None if snapshot[0] is None else np.stack(snapshot),
            alternative_chunk=np.stack(self._alternatives) if self._alternatives else None,
            intermediate_chunk=np.stack(self._intermediate_plans)
            if self._intermediate_plans
            else None,
            closes_gripper=chosen.closes_gripper,
            series=self.series,
            **fill_goal_arrays(chosen),
        )
