"""What one episode leaves behind."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from eval.grasps import find_closing_commands
from eval.outcome import DEFAULT_THRESHOLDS, OutcomeThresholds, choose_goal, was_begun
from eval.rollout import ControlStep, Decision
from policies.policy import EpisodeMemory
from sim.capabilities import Snapshots, provides
from sim.env import STAGES, Env, Progress, StepResult
from sim.recorded_observations import RecordedObservation


@dataclass(frozen=True)
class EpisodeArrays:
    """The arrays of `episodes/<task>/<index>.npz`; T control steps, P predictions, horizon H.

    Row t of the `T+1` arrays is the world before step t; the last row is how it ended. Of a task's G goals,
    `object_pos_world` to `joint_progress` are of the one that the verdict rests on (`eval.outcome.choose_goal`).

    Attributes:
        step_snapshot: the environment's full state before every step, which any picture is made from. None where the
            environment has no snapshots (`sim.capabilities.Snapshots`).
        snapshot: the same at the predictions: `step_snapshot[prediction_step]`.
        n_executed: how many actions of each chunk were run.
        alternative_chunk: K plans a prediction, the executed one first: `alternative_chunk[:, 0]` is `chunk`. None
            unless asked for (`EvalConfig.samples`).
        draft_chunk: what each plan was made from, D drafts, oldest first (`PolicySpec.drafts`). None unless asked for
            (`EvalConfig.drafts`).
        closes_gripper: the action commands the gripper closed (`eval.grasps.find_closing_commands`). None in files that
            were recorded before it was.
        clipped: the action left the actuators' range.
        ik_error_m: `StepResult.ik_error_m`; nan where the environment takes joints.
        goal_distance_m: nan where the goal is articulated.
        progress: flags of each moment, in the order of `STAGES`. `grasped` is contact, however short.
        joint_progress: nan where the goal is pick and place.
        goals_met: which of the task's goals held, in the order of `EnvSpec.goals`.
    """

    state: Float32[np.ndarray, "T1 state_dim"]
    action: Float32[np.ndarray, "T action_dim"]
    clipped: Bool[np.ndarray, " T"]
    ik_error_m: Float64[np.ndarray, " T"]
    ee_pos_world: Float64[np.ndarray, "T1 3"]
    object_pos_world: Float64[np.ndarray, "T1 3"]
    object_height_m: Float64[np.ndarray, " T1"]
    goal_distance_m: Float64[np.ndarray, " T1"]
    progress: Bool[np.ndarray, "T1 stage"]
    joint_progress: Float64[np.ndarray, " T1"]
    goals_met: Bool[np.ndarray, "T1 goal"]
    prediction_step: Int64[np.ndarray, " P"]
    chunk: Float32[np.ndarray, "P H action_dim"]
    n_executed: Int64[np.ndarray, " P"]
    step_snapshot: Float64[np.ndarray, "T1 snapshot_dim"] | None = None
    snapshot: Float64[np.ndarray, "P snapshot_dim"] | None = None
    alternative_chunk: Float32[np.ndarray, "P K H action_dim"] | None = None
    draft_chunk: Float32[np.ndarray, "P D H action_dim"] | None = None
    closes_gripper: Bool[np.ndarray, " T"] | None = None


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
        goal: name of the goal that the arrays are of; None without arrays.
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
    goal: str | None = None
    features: Mapping[str, Float32[np.ndarray, "P _dim"]] | None = None
    looks: tuple[RecordedObservation, ...] = ()
    instruction: str | None = None


class EpisodeRecorder:
    """Collects an episode as it runs. Renders nothing and changes nothing."""

    def __init__(
        self, thresholds: OutcomeThresholds = DEFAULT_THRESHOLDS, *, records_observations: bool = False
    ) -> None:
        """Args:
        thresholds: by which the goal is chosen that the record is about.
        records_observations: keep what the policy saw.
        """
        self._thresholds, self._records_observations = thresholds, records_observations

    def start(self, env: Env, episode_index: int) -> None:
        self._env, self._episode_index = env, episode_index
        self._start_s = time.perf_counter()
        self._moments: list[tuple[np.ndarray, np.ndarray, tuple[Progress, ...], np.ndarray | None]] = []
        self._actions: list[np.ndarray] = []
        self._results: list[StepResult] = []
        self._decisions: list[tuple[int, np.ndarray | None, np.ndarray]] = []
        self._alternatives: list[np.ndarray] = []
        self._drafts: list[np.ndarray] = []
        self._features: list[Mapping[str, np.ndarray]] = []
        self._looks: dict[int, RecordedObservation] = {}
        self._instruction: str | None = None
        self._success, self._error = False, ""

    def record(self, event: Decision | ControlStep) -> None:
        """Record what happened next."""
        match event:
            case Decision(step, _, memory, snapshot, plan, alternatives, drafts, features):
                self.record_decision(step, snapshot, plan, alternatives, drafts, features)
                self.record_looks(step, memory)
            case ControlStep(_, action, result):
                self.record_step(action, result)

    def record_decision(
        self,
        step: int,
        snapshot: np.ndarray | None,
        plan: np.ndarray,
        alternatives: np.ndarray | None = None,
        drafts: np.ndarray | None = None,
        features: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """The last three are given at every decision of an episode or at none."""
        if not self._moments:
            self._record_moment(self._env.progress())
        self._decisions.append((step, snapshot, plan))
        if alternatives is not None:
            self._alternatives.append(alternatives)
        if drafts is not None:
            self._drafts.append(drafts)
        if features is not None:
            self._features.append(features)

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
                self._looks[look_step] = RecordedObservation(seen, task, self._episode_index, look_step, decided)

    def record_step(self, action: np.ndarray, result: StepResult) -> None:
        # First what can fail, where the environment is another process: half a step is not kept.
        self._record_moment(result.progress)
        self._actions.append(action)
        self._results.append(result)
        self._success = result.success

    def record_error(self, error: Exception) -> None:
        message = " ".join(str(error).split())
        self._error = f"{type(error).__name__}: {message}"

    @property
    def n_steps(self) -> int:
        """Executed so far."""
        return len(self._actions)

    def fork(self, n_steps: int) -> "EpisodeRecorder":
        """A recorder of another future, with all that came before that control step; a decision at it is not kept."""
        other = EpisodeRecorder(self._thresholds, records_observations=self._records_observations)
        other.start(self._env, self._episode_index)
        n_decisions = sum(step < n_steps for step, _, _ in self._decisions)
        other._moments, other._actions = self._moments[: n_steps + 1], self._actions[:n_steps]
        other._results, other._decisions = self._results[:n_steps], self._decisions[:n_decisions]
        other._alternatives, other._drafts = self._alternatives[:n_decisions], self._drafts[:n_decisions]
        other._features, other._instruction = self._features[:n_decisions], self._instruction
        other._looks = {step: look for step, look in self._looks.items() if step < n_steps}
        return other

    def finish(self) -> EpisodeRecord:
        spec, success = self._env.spec, self._success and not self._error
        goal_index = self._choose_goal(success) if self._moments else None
        return EpisodeRecord(
            task=spec.task,
            episode_index=self._episode_index,
            success=success,
            error=self._error,
            duration_s=time.perf_counter() - self._start_s,
            arrays=None if goal_index is None else self._stack(goal_index),
            goal=None if goal_index is None else spec.goals[goal_index],
            features=self._stack_features(),
            looks=tuple(self._looks[step] for step in sorted(self._looks)),
            instruction=self._instruction,
        )

    def _record_moment(self, progress: tuple[Progress, ...]) -> None:
        env = self._env
        snapshot = env.snapshot() if provides(env, Snapshots) else None
        self._moments.append((env.state(), env.ee_pos_world(), progress, snapshot))

    def _stack_features(self) -> dict[str, np.ndarray] | None:
        if not self._features:
            return None
        return {name: np.stack([features[name] for features in self._features]) for name in self._features[0]}

    def _choose_goal(self, success: bool) -> int:
        moments = [progress for _, _, progress, _ in self._moments]
        begun = [
            was_begun(
                np.stack([progress.flags.as_array() for progress in goal]),
                np.array([progress.object_height_m for progress in goal]),
                np.array([progress.joint_progress for progress in goal]),
                self._thresholds,
            )
            for goal in zip(*moments, strict=True)
        ]
        met = np.array([[goal.met for goal in goals] for goals in moments])
        return choose_goal(met, np.array(begun), success)

    def _stack(self, goal_index: int) -> EpisodeArrays:
        state, ee_pos, goals, step_snapshot = zip(*self._moments, strict=True)
        progress = [moment[goal_index] for moment in goals]
        prediction_step, snapshot, plan = zip(*self._decisions, strict=True)
        steps = np.array(prediction_step, dtype=np.int64)
        action_spec = self._env.spec.action
        action = np.array(self._actions, dtype=np.float32).reshape(-1, action_spec.dim)
        return EpisodeArrays(
            state=np.stack(state),
            action=action,
            clipped=np.array([result.clipped for result in self._results], dtype=bool),
            ik_error_m=np.array([nan if (e := r.ik_error_m) is None else e for r in self._results], dtype=np.float64),
            ee_pos_world=np.stack(ee_pos),
            object_pos_world=np.stack([p.object_pos_world for p in progress]),
            object_height_m=np.array([p.object_height_m for p in progress]),
            goal_distance_m=np.array([p.goal_distance_m for p in progress]),
            progress=np.stack([p.flags.as_array() for p in progress]).reshape(-1, len(STAGES)),
            joint_progress=np.array([p.joint_progress for p in progress]),
            goals_met=np.array([[goal.met for goal in moment] for moment in goals]),
            prediction_step=steps,
            chunk=np.stack(plan).astype(np.float32),
            n_executed=np.diff(steps, append=len(self._actions)),
            step_snapshot=None if step_snapshot[0] is None else np.stack(step_snapshot),
            snapshot=None if snapshot[0] is None else np.stack(snapshot),
            alternative_chunk=np.stack(self._alternatives) if self._alternatives else None,
            draft_chunk=np.stack(self._drafts) if self._drafts else None,
            closes_gripper=find_closing_commands(action, action_spec),
        )
