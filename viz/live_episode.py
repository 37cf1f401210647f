"""Runs one live episode for the viewer, and turns each event into a part of the page's data."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from eval.branches import Branch, Overrides
from eval.drivers import continue_episode, play_episode
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import ControlStep, Decision, RolloutSettings, RolloutState
from policies.policy import Policy
from sim.capabilities import Snapshots
from sim.env import Progress
from sim.errors import WhiskerError
from viz.goal_measures import select_measures
from viz.image_encoding import LOSSLESS
from viz.observation_override import ObservationOverride
from viz.page_data import branch_header, encode_arrays, episode_key, first_stages, row_data
from viz.part_data import decision_data, series_data
from viz.replay import DecisionView, read_body_poses, view_cameras
from viz.whiskers import find_members, simulate_plans


@dataclass(frozen=True)
class LiveContext:
    """Holds the policy and the environments of live episodes.

    Attributes:
        env: the environment of the episodes.
        whisker_env: the environment in which plans are simulated: a second copy, or `env` itself.
        policy: the policy of the episodes.
        settings: the settings of every episode; a branch may override some.
    """

    env: Snapshots
    whisker_env: Snapshots
    policy: Policy
    settings: RolloutSettings


@dataclass
class LiveEpisode:
    """Holds a running episode. Its history only grows.

    Attributes:
        key: the episode's key on the page.
        events: yields the next event of the rollout.
        left: where and how a branch left its episode; None: this is not a branch.
        n_inherited: number of decisions that a branch shares with the episode that it left.
        header: `viz.page_data.header_data`, and for a branch where it left which episode.
        parts: the parts of the page's data so far.
        decisions: the decisions so far.
        n_parts_before: number of parts before each of the decisions.
        snapshot: the environment's state at the last event of this episode; None before the first.
        is_over: the episode ended by success, at its last step, or by a crash.
        record: the record of the finished episode; None while it runs.
        row: the page's row of the episode. Once the episode is over, it is that of a run folder.
    """

    context: LiveContext
    episode_index: int
    key: str
    recorder: EpisodeRecorder
    events: Iterator[Decision | ControlStep]
    left: Branch | None = None
    n_inherited: int = 0
    header: dict = field(default_factory=dict)
    parts: list[dict] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    n_parts_before: list[int] = field(default_factory=list)
    snapshot: np.ndarray | None = None
    is_over: bool = field(default=False, init=False)
    record: EpisodeRecord | None = field(default=None, init=False)
    row: dict = field(init=False)

    def __post_init__(self) -> None:
        self.row = self._running_row()
        self._n_told: dict[str, int] = {}
        self._measures: Mapping[str, float] = {}
        for part in self.parts:
            self._count_told(part)

    @classmethod
    def begin(
        cls,
        context: LiveContext,
        episode_index: int,
        key: str,
    ) -> "LiveEpisode":
        """Return a new episode. The first `advance` resets the environment."""
        recorder = EpisodeRecorder()
        recorder.start(context.env, episode_index)
        events = play_episode(context.env, context.policy, episode_index, context.settings)
        return cls(context, episode_index, key, recorder, events)

    def branch(
        self,
        prediction: int,
        overrides: Overrides,
        number: int,
    ) -> "LiveEpisode":
        """Return a branch that repeats a decision with overrides. This episode stays as it is.

        Args:
            prediction: index of a decision that this episode did not inherit.
            overrides: the changes of the branch.
            number: the number of the branch.
        """
        decision = self.decisions[prediction]
        left = make_branch(self.left, decision.step, prediction, overrides, number)
        total = left.overrides
        header = branch_header(self.header, left, self.key)
        return replace(
            self,
            key=header["key"],
            recorder=self.recorder.fork(decision.step),
            events=continue_with(self.context, decision.start(), self.episode_index, total),
            left=left,
            n_inherited=prediction,
            header=header,
            parts=self.parts[: self.n_parts_before[prediction]],
            decisions=self.decisions[:prediction],
            n_parts_before=self.n_parts_before[:prediction],
            snapshot=decision.snapshot,
        )

    def as_data(self) -> dict:
        """Return the episode so far, as the page's data."""
        return {"header": self.header, "parts": list(self.parts)}

    def plan(self, prediction: int) -> dict:
        """Return the paths of a decision's plans, as the page received them.

        Raises:
            WhiskerError: there is no such prediction.
        """
        decision = self._shown_decision(prediction)
        return {"path": decision["path"], "intermediate_plans": decision["intermediate_plans"]}

    def images(self, prediction: int) -> dict:
        """Return the images of a decision, as the page received them.

        Raises:
            WhiskerError: there is no such prediction.
        """
        return self._shown_decision(prediction)["cameras"]

    def _shown_decision(self, prediction: int) -> dict:
        decisions = []
        for part in self.parts:
            decisions += part["decisions"]
        last = len(decisions) - 1
        if not 0 <= prediction <= last:
            subject = f"prediction {prediction} of {self.key!r}"
            raise WhiskerError(subject, expected=f"0 to {last}")
        return decisions[prediction]

    def enter(self) -> None:
        """Restore the environment to the state of this episode, after another one has used it."""
        if self.snapshot is not None:
            self.context.env.restore(self.snapshot)

    def advance(self) -> Decision | ControlStep | None:
        """Run to the next event and return it. The environment must be in this episode's state.

        Returns None after a crash, which ends the episode as success does.
        """
        try:
            event = next(self.events)
            self.recorder.record(event)
            if isinstance(event, Decision):
                self._show_decision(event)
            else:
                self._add_part(self._moment(event), [])
        except Exception as error:
            self.recorder.record_error(error)
            self._finish()
            return None
        self.snapshot = self.context.env.snapshot()
        self.row = self._running_row()
        if isinstance(event, ControlStep):
            settings = self.context.settings
            is_done = event.result.success and settings.success == "once"
            if is_done or event.step >= settings.max_steps:
                self._finish()
        return event

    def _show_decision(self, decision: Decision) -> None:
        self.n_parts_before.append(len(self.parts))
        self.decisions.append(decision)
        moments = None if self.parts else self._moment(None)
        self._add_part(moments, [decision_data(self._view(decision), LOSSLESS)])

    def _add_part(
        self,
        moments: dict | None,
        decisions: list[dict],
    ) -> None:
        """Append a part with these, and with the new rows of every series."""
        series = series_data(self.recorder.series, self._n_told)
        if moments is not None:
            series += series_data(select_measures(self._measures))
        part = {"moments": moments, "decisions": decisions, "series": series}
        self.parts.append(part)
        self._count_told(part)

    def _count_told(self, part: dict) -> None:
        for series in part["series"]:
            name = series["name"]
            (n_rows,) = series["values"]["shape"]
            self._n_told[name] = self._n_told.get(name, 0) + n_rows

    def _view(self, decision: Decision) -> DecisionView:
        context = self.context
        assert decision.snapshot is not None, "live environments have snapshots"
        cameras = view_cameras(context.env, decision.observation.images)
        plans = decision.plan[None] if decision.alternatives is None else decision.alternatives
        paths = simulate_plans(context.whisker_env, decision.snapshot, plans)
        intermediate_paths = None
        intermediate_plans = self._intermediate_plans(decision)
        if intermediate_plans is not None:
            intermediate_paths = simulate_plans(
                context.whisker_env, decision.snapshot, intermediate_plans
            )
        if context.whisker_env is context.env:
            context.env.restore(decision.snapshot)
        return DecisionView(decision.step, 0, decision.plan, paths, intermediate_paths, cameras)

    def _intermediate_plans(self, decision: Decision) -> np.ndarray | None:
        """Return the intermediate plans of the last decision, shape (D, H, action_dim)."""
        plans = decision.intermediate_plans
        is_ensemble = self.context.policy.spec.intermediate_plans == "ensemble"
        if plans is None or not is_ensemble:
            return plans
        plans_so_far = []
        for earlier in self.decisions:
            if earlier.intermediate_plans is not None:
                plans_so_far.append(earlier.intermediate_plans)
        steps = np.array([earlier.step for earlier in self.decisions])
        return find_members(np.stack(plans_so_far), steps, len(plans_so_far) - 1)

    def _moment(self, step: ControlStep | None) -> dict:
        """Return the current moment, and the action that led to it."""
        env = self.context.env
        action: np.ndarray
        if step is None:
            goals = env.progress()
            action = np.empty((0, env.spec.action.dim), np.float32)
        else:
            goals = step.result.progress
            action = step.action[None]
        progress = goals[0] if goals else Progress(met=False)
        nan = float("nan")
        position = progress.object_pos_world
        if position is None:
            position = np.full(3, nan)
        self._measures = progress.measures
        height_m = progress.measures.get("object_height_m", nan)
        distance_m = progress.measures.get("goal_distance_m", nan)
        stages = self.header.get("stages", first_stages(env.spec))
        flags = [progress.stages.get(name, False) for name in stages]
        return encode_arrays(
            body_pose=read_body_poses(env)[None],
            state=env.state()[None],
            action=action,
            ee=env.ee_pos_world()[None],
            object=position[None],
            object_height=np.array([height_m]),
            goal_distance=np.array([distance_m]),
            progress=np.array([flags], dtype=bool),
        )

    def _running_row(self) -> dict:
        return {
            "key": self.key,
            "branch": self.header.get("branch"),
            "task": self.context.env.spec.task,
            "episode_index": self.episode_index,
            "outcome": "running",
            "success": False,
            "n_steps": self.recorder.n_steps,
            "decided_at_step": None,
            "decisive_step": None,
            "decisive_event": None,
            "failed_stage": None,
            "n_predictions": len(self.decisions),
            "error": "",
        }

    def _finish(self) -> None:
        self.is_over = True
        self.record = self.recorder.finish()
        names = {"key": self.key, "branch": self.header.get("branch")}
        self.row = row_data(make_row(self.record)) | names


def make_branch(
    parent: Branch | None,
    step: int,
    prediction: int,
    overrides: Overrides,
    number: int,
) -> Branch:
    """Return where and how a branch leaves an episode, or another branch, its parent.

    Args:
        parent: None for an episode.
        step: control step of the decision that is repeated.
        prediction: index of that decision.
        overrides: the changes of the branch, in addition to those of its parent.
        number: the number of the branch.
    """
    before = parent.overrides if parent else Overrides()
    parent_number = parent.number if parent else None
    total = overrides.after(before)
    return Branch(number, parent_number, step, prediction, total, changes=str(overrides))


def continue_with(
    context: LiveContext, start: RolloutState, episode_index: int, overrides: Overrides
) -> Iterator[Decision | ControlStep]:
    """Yield the events from `start` on, of a rollout with these overrides."""
    settings = replace(context.settings, seed=overrides.seed)
    if overrides.n_action_steps:
        settings = replace(settings, n_action_steps=overrides.n_action_steps)
    env = ObservationOverride(context.env, overrides.instruction, overrides.blinded)
    return continue_episode(env, context.policy, start, episode_index, settings)


def make_key(
    task: str,
    episode_index: int,
    taken: Collection[str],
) -> str:
    """Return a key for another run of an episode that is not taken yet.

    The keys are "task/3", "task/3 again", "task/3 again 2" and so on.
    """
    first = episode_key(task, episode_index)
    key = first
    n_repeats = 0
    while key in taken:
        n_repeats += 1
        key = f"{first} again"
        if n_repeats > 1:
            key += f" {n_repeats}"
    return key
