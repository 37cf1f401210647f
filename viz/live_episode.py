"""One rollout that a person drives, as the viewer shows it: every event becomes a part of the page's data."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from eval.branches import Branch, Overrides
from eval.drivers import continue_episode, play_episode
from eval.episode_row import make_row
from eval.recorder import EpisodeRecord, EpisodeRecorder
from eval.rollout import ControlStep, Decision, RolloutSettings, RolloutState
from policies.policy import Policy
from sim.capabilities import Snapshots
from sim.env import Progress
from sim.errors import WhiskerError
from viz.image_encoding import LOSSLESS
from viz.observation_override import ObservationOverride
from viz.page_data import (
    branch_header,
    decision_data,
    encode_array,
    episode_key,
    first_stages,
    row_data,
    series_data,
)
from viz.replay import DecisionView, read_body_poses, view_cameras
from viz.whiskers import find_members, simulate_plans


@dataclass(frozen=True)
class LiveContext:
    """Holds the policy and the environments in which live episodes take place.

    Attributes:
        env: in which they run.
        whisker_env: in which plans are simulated: a second copy of that world, or `env` itself.
        settings: of every episode, but for what a branch does otherwise.
    """

    env: Snapshots
    whisker_env: Snapshots
    policy: Policy
    settings: RolloutSettings


@dataclass
class LiveEpisode:
    """An episode under way. Its history only ever grows.

    Attributes:
        key: names it on the page.
        events: what happens next, when asked for.
        left: where and how it left its episode; None: it is no branch.
        n_inherited: decisions that it shares with what it left.
        header: `viz.page_data.header_data` and, of a branch, where it left which episode.
        parts: of the page's data, so far.
        n_parts_before: each decision, in the same order.
        snapshot: of the environment as this episode left it; None before anything has happened.
        is_over: it ended by success, the horizon or a crash.
        row: the page's row of it; once it is over, that of a run folder.
        record: what it leaves behind, once it is over.
    """

    stage: LiveContext
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
    is_over: bool = False
    record: EpisodeRecord | None = None
    row: dict = field(init=False)

    def __post_init__(self) -> None:
        self.row = self._running_row()
        self._n_told: dict[str, int] = {}
        for part in self.parts:
            self._count_told(part)

    @classmethod
    def begin(cls, stage: LiveContext, episode_index: int, key: str) -> "LiveEpisode":
        """The environment is reset at the first `advance`."""
        recorder = EpisodeRecorder()
        recorder.start(stage.env, episode_index)
        events = play_episode(stage.env, stage.policy, episode_index, stage.settings)
        return cls(stage, episode_index, key, recorder, events)

    def branch(self, prediction: int, overrides: Overrides, number: int) -> "LiveEpisode":
        """Return another future of this one, which stays as it is, from a decision on that is made anew.

        Args:
            prediction: index of the decision, one that this episode did not inherit.
            number: of the branch.
        """
        decision, stage = self.decisions[prediction], self.stage
        earlier = Overrides() if self.left is None else self.left.overrides
        left = Branch(
            number,
            None if self.left is None else self.left.number,
            decision.step,
            prediction,
            overrides.after(earlier),
            str(overrides),
        )
        header = branch_header(self.header, left, self.key)
        return replace(
            self,
            key=header["key"],
            recorder=self.recorder.fork(decision.step),
            events=continue_with(stage, decision.start(), self.episode_index, left.overrides),
            left=left,
            n_inherited=prediction,
            header=header,
            parts=self.parts[: self.n_parts_before[prediction]],
            decisions=self.decisions[:prediction],
            n_parts_before=self.n_parts_before[:prediction],
            snapshot=decision.snapshot,
            is_over=False,
            record=None,
        )

    def as_data(self) -> dict:
        """Return the episode for the page, as far as it is."""
        return {"header": self.header, "parts": list(self.parts)}

    def plan(self, prediction: int) -> dict:
        """Return the paths of a decision's plans, as the page had them with the decision.

        Raises:
            WhiskerError: there is no such prediction.
        """
        decision = self._shown_decision(prediction)
        return {"path": decision["path"], "intermediate_plans": decision["intermediate_plans"]}

    def images(self, prediction: int) -> dict:
        """Return the images of a decision likewise."""
        return self._shown_decision(prediction)["cameras"]

    def _shown_decision(self, prediction: int) -> dict:
        decisions = [decision for part in self.parts for decision in part["decisions"]]
        if not 0 <= prediction < len(decisions):
            raise WhiskerError(
                f"prediction {prediction} of {self.key!r}", expected=f"0 to {len(decisions) - 1}"
            )
        return decisions[prediction]

    def enter(self) -> None:
        """Put the environment back to where this episode is, after another one has used it."""
        if self.snapshot is not None:
            self.stage.env.restore(self.snapshot)

    def advance(self) -> Decision | ControlStep | None:
        """The next event, in an environment that is at this episode; None for a crash, which ends it like a success."""
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
        self.snapshot = self.stage.env.snapshot()
        self.row = self._running_row()
        if isinstance(event, ControlStep) and (
            event.result.success or event.step >= self.stage.settings.max_steps
        ):
            self._finish()
        return event

    def _show_decision(self, decision: Decision) -> None:
        self.n_parts_before.append(len(self.parts))
        self.decisions.append(decision)
        moments = None if self.parts else self._moment(None)
        self._add_part(moments, [decision_data(self._view(decision), LOSSLESS)])

    def _add_part(self, moments: dict | None, decisions: list[dict]) -> None:
        """Append a part with these and with what is new in the series."""
        series = series_data(self.recorder.series, self._n_told)
        self.parts.append({"moments": moments, "decisions": decisions, "series": series})
        self._count_told(self.parts[-1])

    def _count_told(self, part: dict) -> None:
        for series in part["series"]:
            self._n_told[series["name"]] = (
                self._n_told.get(series["name"], 0) + series["values"]["shape"][0]
            )

    def _view(self, decision: Decision) -> DecisionView:
        stage = self.stage
        assert decision.snapshot is not None, "the stage's environments have snapshots"
        cameras = view_cameras(stage.env, decision.observation.images)
        plans = decision.plan[None] if decision.alternatives is None else decision.alternatives
        paths = simulate_plans(stage.whisker_env, decision.snapshot, plans)
        intermediate_plans = self._intermediate_plans(decision)
        intermediate_paths = (
            None
            if intermediate_plans is None
            else simulate_plans(stage.whisker_env, decision.snapshot, intermediate_plans)
        )
        if stage.whisker_env is stage.env:
            stage.env.restore(decision.snapshot)
        return DecisionView(decision.step, 0, decision.plan, paths, intermediate_paths, cameras)

    def _intermediate_plans(self, decision: Decision) -> np.ndarray | None:
        """Of the last decision; `(D, H, action_dim)`."""
        if (
            decision.intermediate_plans is None
            or self.stage.policy.spec.intermediate_plans != "ensemble"
        ):
            return decision.intermediate_plans
        so_far = np.stack(
            [d.intermediate_plans for d in self.decisions if d.intermediate_plans is not None]
        )
        return find_members(so_far, np.array([d.step for d in self.decisions]), len(so_far) - 1)

    def _moment(self, step: ControlStep | None) -> dict:
        """The present moment, and the action that led to it."""
        env = self.stage.env
        progress = next(
            iter(env.progress() if step is None else step.result.progress), Progress(met=False)
        )
        measures, position = progress.measures, progress.object_pos_world
        stages, undefined = self.header.get("stages", first_stages(env.spec)), float("nan")
        action = (
            np.empty((0, env.spec.action.dim), np.float32) if step is None else step.action[None]
        )
        return {
            "body_pose": encode_array(read_body_poses(env)[None]),
            "state": encode_array(env.state()[None]),
            "action": encode_array(action),
            "ee": encode_array(env.ee_pos_world()[None]),
            "object": encode_array(
                np.full((1, 3), undefined) if position is None else position[None]
            ),
            "object_height": encode_array(np.array([measures.get("object_height_m", undefined)])),
            "goal_distance": encode_array(np.array([measures.get("goal_distance_m", undefined)])),
            "progress": encode_array(
                np.array([[progress.stages.get(name, False) for name in stages]], dtype=bool)
            ),
        }

    def _running_row(self) -> dict:
        return {
            "key": self.key,
            "branch": self.header.get("branch"),
            "task": self.stage.env.spec.task,
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
        self.row = row_data(make_row(self.record)) | {
            "key": self.key,
            "branch": self.header.get("branch"),
        }


def continue_with(
    stage: LiveContext, start: RolloutState, episode_index: int, overrides: Overrides
) -> Iterator[Decision | ControlStep]:
    """Decide and step from there on, as a branch does with these overrides."""
    settings = replace(
        stage.settings,
        n_action_steps=overrides.n_action_steps or stage.settings.n_action_steps,
        seed=overrides.seed,
    )
    env = ObservationOverride(stage.env, overrides.instruction, overrides.blinded)
    return continue_episode(env, stage.policy, start, episode_index, settings)


def make_key(task: str, episode_index: int, taken: Collection[str]) -> str:
    """Of an episode's n-th life: "task/3", then "task/3 again", "task/3 again 2" and so on."""
    first = episode_key(task, episode_index)
    names = (first, f"{first} again", *(f"{first} again {n}" for n in range(2, 10_000)))
    return next(name for name in names if name not in taken)
