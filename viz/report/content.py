"""The content of a report as plain data: everything that its page, its Markdown and its JUnit file say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

from eval.doctor.finding import Finding
from eval.episode_row import EpisodeRow
from eval.outcome import explain_event, label_outcome
from eval.run import Run
from eval.statistics import (
    RunSummary,
    StageCount,
    compute_macro_average,
    count_met_stages,
    count_stages,
    summarise,
)
from sim.errors import WhiskerError
from viz.plan_quality import EpisodeQuality, load_plan_quality
from viz.report.features import CollectedFeatures, load_collected_features
from viz.report.provenance import (
    MAIN_FACTS,
    Fact,
    describe_command,
    describe_facts,
    describe_remarks,
)
from viz.report.start_map import StartMap, load_start_maps
from viz.report.task_names import TaskName, name_tasks
from viz.report.wording import (
    NO_EVENT,
    NO_EVENT_MEANING,
    count_of,
    describe_rate,
    format_command,
    format_episode_flags,
    in_words,
)

if TYPE_CHECKING:
    from viz.report.film_strips import FilmStrip, FilmStrips

# Decisive events that are named in a sentence; the table has all.
_NAMED_EVENTS = 3


@dataclass(frozen=True)
class Episode:
    """An episode as the report lists it.

    Attributes:
        task: how its task is named beside the others.
        anchor: of its line in the list.
        met_stages: stages of its goal that it came through; None for an episode without.
        flags: which say to `whiskers` that it is this one.
        command: opens it in the viewer.
    """

    row: EpisodeRow
    task: TaskName
    anchor: str
    met_stages: int | None
    flags: str
    command: str

    @property
    def event(self) -> str:
        """Name what happened at the decisive step."""
        return str(self.row.decisive_event or NO_EVENT)

    @property
    def title(self) -> str:
        """Say in one line which episode it is, how it ended, and where that was decided."""
        where = f"{in_words(self.event)} at step {self.row.shown_step}"
        ending = label_outcome(self.row.outcome) + ("" if self.row.success else f", {where}")
        return f"task {self.task.short}, episode {self.row.episode_index}: {ending}"


@dataclass(frozen=True)
class EventCount:
    """The failures that one decisive event made, in the order of its steps."""

    event: str
    meaning: str
    episodes: tuple[Episode, ...]

    @property
    def steps(self) -> list[int]:
        return [episode.row.shown_step for episode in self.episodes]


@dataclass(frozen=True)
class TaskContent:
    """The episodes of one task."""

    task: str
    env: str
    name: TaskName
    summary: RunSummary
    episodes: tuple[Episode, ...]


@dataclass(frozen=True)
class RunContent:
    """Holds the content of a report about one run. Numbers without a value are nan or None.

    Attributes:
        anchor: of its section.
        main_facts: titles of those facts that everybody asks for.
        facts: title → what was run, with what and where.
        command: what was typed, with every flag that differs from its default.
        remarks: what one must know to read the numbers, one sentence each.
        summary: of all its episodes.
        episodes: in the order of tasks and indices.
        events: of the failures, the most frequent first.
        stages: of the goals, in order; empty for a run without.
        start_maps: task → success by the start of its episodes.
        plan_quality: None if it was not computed.
        features: None if none were collected.
        film_strips: None if none were made, which takes seconds.
    """

    run: Run
    anchor: str
    main_facts: tuple[str, ...]
    facts: Mapping[str, tuple[Fact, ...]]
    command: str
    remarks: tuple[str, ...]
    summary: RunSummary
    episodes: tuple[Episode, ...]
    events: tuple[EventCount, ...]
    stages: tuple[StageCount, ...]
    tasks: tuple[TaskContent, ...]
    start_maps: Mapping[str, StartMap] = field(default_factory=dict)
    plan_quality: tuple[EpisodeQuality, ...] | None = None
    features: CollectedFeatures | None = None
    film_strips: "FilmStrips | None" = None

    @property
    def name(self) -> str:
        return self.run.path.resolve().name

    @property
    def subject(self) -> str:
        """Name the policy and the environment."""
        policy = self.run.description.policy
        checkpoint = f" ({policy.checkpoint})" if policy.checkpoint not in ("", policy.type) else ""
        return f"{policy.type}{checkpoint} in {self.run.description.config.env.name}"

    @property
    def findings(self) -> tuple[Finding, ...] | None:
        """Return what the doctor found before the run, besides what is fine; None if that was not recorded."""
        return self.run.description.doctor

    @property
    def doctor_command(self) -> str:
        return format_command("eval-doctor", self.run.path)

    @property
    def whiskers_command(self) -> str:
        """Return the command that an episode's flags complete."""
        return format_command("whiskers", self.run.path)

    @property
    def score_command(self) -> str:
        return format_command("cknna", "score", self.run.path)

    def kind_query(self, stage: StageCount) -> str:
        """Return how a link to a stage's episodes begins: with their kind of goal, if the run has several."""
        return f"kind={stage.kind}&" if len({other.kind for other in self.stages}) > 1 else ""

    @property
    def crashed(self) -> list[Episode]:
        return [episode for episode in self.episodes if not episode.row.is_judged]

    @property
    def failed(self) -> list[Episode]:
        """Return the episodes that ran to their end and did not succeed."""
        return [e for e in self.episodes if e.row.is_failure]

    def find_episode(self, row: EpisodeRow) -> Episode:
        """Return the episode of a row."""
        return self._by_key[row.task, row.episode_index]

    @cached_property
    def _by_key(self) -> dict[tuple[str, int], Episode]:
        return {(episode.row.task, episode.row.episode_index): episode for episode in self.episodes}

    @property
    def strips_by_outcome(self) -> "dict[str, list[FilmStrip]]":
        """Return the film strips of each outcome, in their order; {} if none were made."""
        by_outcome: dict[str, list[FilmStrip]] = {}
        for strip in self.film_strips.strips if self.film_strips else ():
            by_outcome.setdefault(strip.row.outcome, []).append(strip)
        return by_outcome

    @property
    def report_command(self) -> str:
        return format_command("eval-report", self.run.path)

    @property
    def macro_average(self) -> float:
        return compute_macro_average(task.summary for task in self.tasks)

    @property
    def longest(self) -> int:
        """Return the most control steps of any episode."""
        return max((episode.row.n_steps for episode in self.episodes), default=0)

    @property
    def rate_sentence(self) -> str:
        return describe_rate(self.summary)

    @cached_property
    def region_sentence(self) -> str:
        """Say on what start success depends, where that was shown on other episodes than it was found on."""
        shown = [m for m in self.start_maps.values() if m.region is not None and m.is_region_shown]
        return (
            min(shown, key=lambda m: m.region.p_value if m.region else 1).sentence if shown else ""
        )

    @property
    def failure_sentence(self) -> str:
        """Say what decided the failures, how often and when, the most frequent first; "" without a failure."""
        if not self.events:
            return ""
        n_named = len(self.events) if len(self.events) <= _NAMED_EVENTS + 1 else _NAMED_EVENTS
        parts = [
            f"{in_words(count.event)} {len(count.episodes)} ({_describe_steps(count.steps)})"
            for count in self.events[:n_named]
        ]
        n_others = sum(len(count.episodes) for count in self.events[n_named:])
        parts += [f"other {n_others}"] if n_others else []
        return f"What decided the {count_of(len(self.failed), 'failure')}: {', '.join(parts)}."

    @property
    def stage_sentence(self) -> str:
        """Name the stage at which most episodes are lost, or say that there are no stages; "" where none are lost."""
        if not self.stages:
            return "The goals have no stages." if self.summary.n_judged else ""
        worst = max(self.stages, key=lambda stage: stage.n_lost, default=None)
        if worst is None or not worst.n_lost:
            return ""
        n_came = worst.n_through + worst.n_lost
        return f"Most are lost at “{in_words(worst.stage)}”: {worst.n_lost} of the {n_came} that came to it."


@dataclass(frozen=True)
class ReportContent:
    """Holds the content of a report.

    Attributes:
        refused: a sentence for each folder that could not be used.
    """

    runs: tuple[RunContent, ...]
    refused: tuple[str, ...] = ()


def compute_run_content(run: Run, number: int = 1, *, is_quick: bool = False) -> RunContent:
    """Read and count everything about a run.

    Args:
        number: of the run in its report.
        is_quick: leave out what takes seconds to compute.

    Raises:
        WhiskerError: a row is damaged, or no episode has ended.
    """
    rows, description = run.rows, run.description
    if not rows:
        hint = f"{describe_command(description, resume=run.path)} goes on with it."
        raise WhiskerError(
            f"run {str(run.path)!r}", expected="an episode that has ended", got="none", hint=hint
        )
    names = name_tasks(list(dict.fromkeys(row.task for row in rows)), description.tasks)
    order = {task: i for i, task in enumerate(names)}
    ordered = sorted(rows, key=lambda row: (order[row.task], row.episode_index))
    has_tasks, whiskers = len(description.tasks) > 1, format_command("whiskers", run.path)
    episodes = tuple(
        Episode(
            row=row,
            task=names[row.task],
            anchor=f"run{number}-task{order[row.task]}-episode{row.episode_index}",
            met_stages=count_met_stages(row),
            flags=flags,
            command=f"{whiskers} {flags}",
        )
        for row in ordered
        for flags in [format_episode_flags(row, has_tasks=has_tasks)]
    )
    return RunContent(
        run=run,
        anchor=f"run{number}",
        main_facts=MAIN_FACTS,
        facts=describe_facts(run),
        command=describe_command(description),
        remarks=describe_remarks(run),
        summary=summarise(ordered),
        episodes=episodes,
        events=_count_events(episodes),
        stages=count_stages(ordered),
        tasks=tuple(_group_tasks(episodes, description.tasks)),
        start_maps=load_start_maps(run),
        plan_quality=load_plan_quality(run),
        features=load_collected_features(run.path, has_scores=not is_quick),
    )


def _count_events(episodes: Sequence[Episode]) -> tuple[EventCount, ...]:
    """Return the decisive events of the failures, the most frequent first."""
    of_event: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.row.is_failure:
            of_event.setdefault(episode.event, []).append(episode)
    counts = [
        EventCount(
            event=event,
            meaning=NO_EVENT_MEANING if event == NO_EVENT else explain_event(event),
            episodes=tuple(sorted(members, key=lambda episode: episode.row.shown_step)),
        )
        for event, members in of_event.items()
    ]
    return tuple(sorted(counts, key=lambda count: -len(count.episodes)))


def _group_tasks(episodes: Sequence[Episode], envs: Mapping[str, str]) -> list[TaskContent]:
    """Return the tasks in the order of the episodes, which are sorted by them."""
    tasks = []
    for task, of_task in groupby(episodes, key=lambda episode: episode.row.task):
        members = tuple(of_task)
        summary = summarise([episode.row for episode in members])
        tasks.append(TaskContent(task, envs.get(task, ""), members[0].task, summary, members))
    return tasks


def _describe_steps(steps: Sequence[int]) -> str:
    if min(steps) == max(steps):
        return f"at step {steps[0]}"
    return f"steps {min(steps)} to {max(steps)}, median {median(steps):g}"
