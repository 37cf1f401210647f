"""Records one episode as it runs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import nan
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from eval.declared_series import declared_series
from eval.episode_arrays import EpisodeArrays, EpisodeRecord
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
from sim.goals.goal import SUCCESS_ONLY
from sim.recorded_observations import RecordedObservation

# Row of a series → its number.
type _Rows = dict[int, float]


class _Moment(NamedTuple):
    """The state of the world before a step, or at the end."""

    state: np.ndarray
    ee_pos_world: np.ndarray
    progress: tuple[Progress, ...]
    snapshot: np.ndarray | None


class _Plan(NamedTuple):
    """A plan, the step and the state in which it was made, and what came with it."""

    step: int
    snapshot: np.ndarray | None
    chunk: np.ndarray
    alternatives: np.ndarray | None
    intermediate_plans: np.ndarray | None
    features: Mapping[str, np.ndarray] | None = None


class EpisodeRecorder:
    """Records an episode as it runs. It renders nothing and changes nothing."""

    def __init__(self, *, records_observations: bool = False) -> None:
        """Make a recorder, which `start` begins to use.

        Args:
            records_observations: keep the observations of the policy.
        """
        self._records_observations = records_observations
        array_names = {field.name for field in fields(EpisodeArrays)}
        names = array_names & {series.name for series in declared_series()}
        assert not names, f"series with the name of an array: {names}"

    def start(self, env: Env, episode_index: int) -> None:
        """Begin a new episode."""
        self._env = env
        self._episode_index = episode_index
        self._start_s = time.perf_counter()
        self._moments: list[_Moment] = []
        self._actions: list[np.ndarray] = []
        self._results: list[StepResult] = []
        self._plans: list[_Plan] = []
        self._looks: dict[int, RecordedObservation] = {}
        self._instruction: str | None = None
        self._success = False
        self._error = ""
        self._series: dict[str, tuple[Series, _Rows]] = {}

    def record(self, event: Decision | ControlStep) -> None:
        """Record the next event of the episode."""
        if isinstance(event, ControlStep):
            self.record_step(event.action, event.result)
            return
        plan = _Plan(
            event.step,
            event.snapshot,
            event.plan,
            event.alternatives,
            event.intermediate_plans,
            event.features,
        )
        self._record_plan(plan, event.signals)
        self.record_looks(event.step, event.memory)

    def record_decision(
        self,
        step: int,
        snapshot: np.ndarray | None,
        plan: np.ndarray,
        alternatives: np.ndarray | None = None,
        intermediate_plans: np.ndarray | None = None,
    ) -> None:
        """Record a plan that came without signals or features.

        Alternatives and intermediate plans are given at every decision of an episode or at none.
        """
        self._record_plan(_Plan(step, snapshot, plan, alternatives, intermediate_plans), {})

    def record_looks(self, step: int, memory: EpisodeMemory) -> None:
        """Keep the observations of a decision at that step if they are recorded, each of them once.

        The instruction is kept in any case if it is the episode's own.
        """
        if self._env.spec.instructions:
            self._instruction = memory.present.instruction
        if not self._records_observations:
            return
        task = self._env.spec.task
        first_step = step + 1 - len(memory.observations)
        for observed_step, observation in enumerate(memory.observations, start=first_step):
            decided = observed_step == step
            if decided or observed_step not in self._looks:
                self._looks[observed_step] = RecordedObservation(
                    observation,
                    task,
                    self._episode_index,
                    observed_step,
                    decided,
                )

    def record_step(self, action: np.ndarray, result: StepResult) -> None:
        """Record an executed action and its result."""
        # This can fail if the environment is another process. It comes first, so that no part of
        # the step is kept then.
        self._record_moment(result.progress)
        self._actions.append(action)
        self._results.append(result)
        self._success = result.success
        self._record_series("step", {})
        self._record_series("moment", {})

    def record_error(self, error: Exception) -> None:
        """Record a crash as "Type: message" in one line."""
        message = " ".join(str(error).split())
        self._error = f"{type(error).__name__}: {message}"

    def adopt_series(self, recorded: Mapping[str, RecordedSeries]) -> None:
        """Replace the rows of series so far by those that were recorded of the same episode."""
        for each in recorded.values():
            rows = dict(enumerate(each.values.tolist()))
            self._series[each.series.name] = (each.series, rows)

    @property
    def n_steps(self) -> int:
        """Return the number of steps executed so far."""
        return len(self._actions)

    @property
    def series(self) -> dict[str, RecordedSeries]:
        """Return all series that have a row so far, by name."""
        recorded = {}
        for name, (series, rows) in self._series.items():
            values = np.full(self._count_rows(series.axis), nan)
            values[list(rows)] = list(rows.values())
            recorded[name] = RecordedSeries(replace(series, compute=None), values)
        return recorded

    def fork(self, n_steps: int) -> "EpisodeRecorder":
        """Return a recorder of another future that shares everything before that control step.

        A decision at the step itself is not kept.
        """
        other = EpisodeRecorder(records_observations=self._records_observations)
        other.start(self._env, self._episode_index)
        other._moments = self._moments[: n_steps + 1]
        other._actions = self._actions[:n_steps]
        other._results = self._results[:n_steps]
        other._plans = [plan for plan in self._plans if plan.step < n_steps]
        other._instruction = self._instruction
        other._looks = {step: look for step, look in self._looks.items() if step < n_steps}
        for name, (series, rows) in self._series.items():
            n_rows = other._count_rows(series.axis)
            kept = {row: value for row, value in rows.items() if row < n_rows}
            other._series[name] = (series, kept)
        return other

    def finish(self) -> EpisodeRecord:
        """Return the record of the episode."""
        success = self._success and not self._error
        trajectories = self._make_trajectories() if self._moments else []
        chosen = None
        arrays = None
        if trajectories:
            chosen = trajectories[choose_goal(trajectories, success)]
            arrays = self._stack(chosen, trajectories)
        return EpisodeRecord(
            task=self._env.spec.task,
            episode_index=self._episode_index,
            success=success,
            error=self._error,
            duration_s=time.perf_counter() - self._start_s,
            arrays=arrays,
            trajectory=chosen,
            features=self._stack_features(),
            looks=tuple(look for _, look in sorted(self._looks.items())),
            instruction=self._instruction,
        )

    def _record_plan(self, plan: _Plan, signals: Mapping[str, float]) -> None:
        """Record a plan, and the first moment of the episode before its first plan."""
        is_first = not self._moments
        if is_first:
            self._record_moment(self._env.progress())
        self._plans.append(plan)
        if is_first:
            self._record_series("moment", {})
        self._record_series("prediction", signals)

    def _record_moment(self, progress: tuple[Progress, ...]) -> None:
        env = self._env
        if not self._moments:
            check_progress(env.spec, progress)
        snapshot = env.snapshot() if provides(env, Snapshots) else None
        moment = _Moment(env.state(), env.ee_pos_world(), progress, snapshot)
        self._moments.append(moment)

    def _record_series(self, axis: Axis, signals: Mapping[str, float]) -> None:
        """Record the last row of the series of an axis.

        Args:
            signals: numbers that came with the row, by name; the others are computed.
        """
        declared = [series for series in declared_series() if series.axis == axis]
        known = {series.name: series for series in declared}
        undeclared = sorted(signals.keys() - known)
        if undeclared:
            raise WhiskerError(
                f"signals of a plan: {', '.join(undeclared)}",
                expected=f"series with a row a prediction that are declared: {', '.join(known)}",
                got="others",
                hint="Declare them: eval.declared_series.declare(Series(...)).",
            )
        if not known:
            return
        so_far = SoFar(
            env=self._env,
            actions=self._actions,
            results=self._results,
            prediction_steps=[plan.step for plan in self._plans],
            plans=[plan.chunk for plan in self._plans],
        )
        row = self._count_rows(axis) - 1
        for name, series in known.items():
            value = signals.get(name)
            if value is None and series.compute is not None:
                value = series.compute(so_far)
            if value is not None:
                _, rows = self._series.setdefault(name, (series, {}))
                rows[row] = float(value)

    def _count_rows(self, axis: Axis) -> int:
        counts: dict[Axis, int] = {
            "moment": len(self._moments),
            "step": len(self._actions),
            "prediction": len(self._plans),
        }
        return counts[axis]

    def _stack_features(self) -> dict[str, np.ndarray] | None:
        rows = [plan.features for plan in self._plans if plan.features is not None]
        if not rows:
            return None
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _make_trajectories(self) -> list[Trajectory]:
        """Return the trajectory of each goal.

        An environment that declares none has one goal: the success that its steps report.
        """
        spec = self._env.spec
        ee_pos = np.stack([moment.ee_pos_world for moment in self._moments])
        closes = find_closing_commands(self._stack_actions(), spec.action)
        goals = spec.goals
        progress = [moment.progress for moment in self._moments]
        if not goals:
            goals = (SUCCESS_ONLY.goal("success"),)
            met = [False, *(result.success for result in self._results)]
            progress = [(Progress(met=holds),) for holds in met]
        return [
            make_trajectory(goal, of_goal, ee_pos, closes)
            for goal, *of_goal in zip(goals, *progress, strict=True)
        ]

    def _stack_actions(self) -> Float32[np.ndarray, "T action_dim"]:
        actions = np.array(self._actions, dtype=np.float32)
        return actions.reshape(-1, self._env.spec.action.dim)

    def _stack(
        self,
        chosen: Trajectory,
        trajectories: list[Trajectory],
    ) -> EpisodeArrays:
        moments = self._moments
        plans = self._plans
        steps = np.array([plan.step for plan in plans], dtype=np.int64)
        clipped = [result.clipped for result in self._results]
        ik_error_m = [result.ik_error_m for result in self._results]  # None becomes nan
        return EpisodeArrays(
            state=np.stack([moment.state for moment in moments]),
            action=self._stack_actions(),
            clipped=np.array(clipped, dtype=bool),
            ik_error_m=np.array(ik_error_m, dtype=np.float64),
            ee_pos_world=np.stack([moment.ee_pos_world for moment in moments]),
            goals_met=np.stack([trajectory.met for trajectory in trajectories], axis=1),
            prediction_step=steps,
            chunk=np.stack([plan.chunk for plan in plans]).astype(np.float32),
            n_executed=np.diff(steps, append=len(self._actions)),
            step_snapshot=_stack_all([moment.snapshot for moment in moments]),
            snapshot=_stack_all([plan.snapshot for plan in plans]),
            alternative_chunk=_stack_all([plan.alternatives for plan in plans]),
            intermediate_chunk=_stack_all([plan.intermediate_plans for plan in plans]),
            closes_gripper=chosen.closes_gripper,
            series=self.series,
            **fill_goal_arrays(chosen),
        )


def _stack_all(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the arrays as one; None if there are none, or if they are None."""
    present = [array for array in arrays if array is not None]
    return np.stack(present) if present else None
