"""The content of a report as plain data, from which all its output formats are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from statistics import median
from typing import TYPE_CHECKING

from eval.doctor.finding import Finding
from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.statistics import (
    RunSummary,
    StageCount,
    compute_macro_average,
    count_stages,
    summarise,
)
from sim.errors import WhiskerError
from viz.plan_quality import EpisodeQuality, load_plan_quality
from viz.report.episodes import (
    Episode,
    EventCount,
    TaskContent,
    count_events,
    group_tasks,
    key_of,
    list_episodes,
)
from viz.report.features import CollectedFeatures, load_collected_features
from viz.report.provenance import MAIN_FACTS, Facts, describe_command, describe_facts
from viz.report.remarks import describe_remarks
from viz.report.start_map import StartMap, load_start_maps
from viz.report.start_scalars import OBJECT_AXES
from viz.report.wording import count_of, describe_rate, format_command, in_words

if TYPE_CHECKING:
    from viz.report.film_strips import FilmStrip, FilmStrips

# A sentence names this many decisive events; the table lists all.
_NAMED_EVENTS = 3


@dataclass(frozen=True)
class RunContent:
    """The content of a report about one run. Numbers without a value are nan or None.

    Attributes:
        anchor: the id of its section.
        main_facts: titles of the facts that most readers look for.
        facts: title → what was run, with what and where.
        command: the command of the run, with every flag that differs from its default.
        remarks: what a reader must know to read the numbers, one sentence each.
        summary: the numbers of all episodes.
        episodes: sorted by task and index.
        events: decisive events of the failures, the most frequent first.
        stages: stages of the goals, in order; empty for a run without.
        map_by: the numbers of the initial state by which success is mapped.
        start_maps: task → that map.
        plan_quality: None if it was not computed.
        features: None if none were recorded.
        film_strips: None if none were rendered, which takes seconds.
    """

    run: Run
    anchor: str
    main_facts: tuple[str, ...]
    facts: Mapping[str, Facts]
    command: str
    remarks: tuple[str, ...]
    summary: RunSummary
    episodes: tuple[Episode, ...]
    events: tuple[EventCount, ...]
    stages: tuple[StageCount, ...]
    tasks: tuple[TaskContent, ...]
    map_by: tuple[str, ...]
    start_maps: Mapping[str, StartMap] = field(default_factory=dict)
    plan_quality: tuple[EpisodeQuality, ...] | None = None
    features: CollectedFeatures | None = None
    film_strips: "FilmStrips | None" = None

    @property
    def name(self) -> str:
        return self.run.path.resolve().name

    @property
    def subject(self) -> str:
        """Return the policy and the environment in words."""
        policy = self.run.description.policy
        env = self.run.description.config.env.name
        if policy.checkpoint in ("", policy.type):
            return f"{policy.type} in {env}"
        return f"{policy.type} ({policy.checkpoint}) in {env}"

    @property
    def findings(self) -> tuple[Finding, ...] | None:
        """Return the doctor's findings that are not OK; None if they were not recorded."""
        return self.run.description.doctor

    def make_command(self, *words: str) -> str:
        """Return a command of this project on the run, e.g. of the words "cknna" and "score"."""
        return format_command(*words, self.run.path)

    def kind_query(self, stage: StageCount) -> str:
        """Return the part of a link that names the kind of goal; "" for a single kind."""
        kinds = {other.kind for other in self.stages}
        return f"kind={stage.kind}&" if len(kinds) > 1 else ""

    @property
    def crashed(self) -> list[Episode]:
        return [episode for episode in self.episodes if not episode.row.is_judged]

    @property
    def failed(self) -> list[Episode]:
        """Return the episodes that ran to their end without success."""
        return [episode for episode in self.episodes if episode.row.is_failure]

    @property
    def map_title(self) -> str:
        """Return what the maps are of: "initial object position", or "initial joint"."""
        if self.map_by == OBJECT_AXES[:2]:
            return "initial object position"
        return f"initial {' and '.join(self.map_by)}"

    def find_episode(self, row: EpisodeRow) -> Episode:
        """Return the episode of a row."""
        return self.by_key[key_of(row)]

    @cached_property
    def by_key(self) -> dict[tuple[str, int], Episode]:
        return {episode.key: episode for episode in self.episodes}

    @property
    def strips_by_outcome(self) -> "dict[str, list[FilmStrip]]":
        """Return the film strips of each outcome in their order; {} if none were rendered."""
        by_outcome: dict[str, list[FilmStrip]] = {}
        for strip in self.film_strips.strips if self.film_strips else ():
            by_outcome.setdefault(strip.row.outcome, []).append(strip)
        return by_outcome

    @property
    def macro_average(self) -> float:
        return compute_macro_average(task.summary for task in self.tasks)

    @property
    def longest(self) -> int:
        """Return the number of control steps of the longest episode."""
        return max(episode.row.n_steps for episode in self.episodes)

    @property
    def rate_sentence(self) -> str:
        return describe_rate(self.summary)

    @cached_property
    def region_sentence(self) -> str:
        """Return the clearest dependence of success on the start, or "" if none is confirmed.

        The confirmation is a test on held-out episodes.
        """
        sentences = []
        for start_map in self.start_maps.values():
            if start_map.region and start_map.is_region_shown:
                sentences.append((start_map.region.p_value, start_map.sentence))
        _, sentence = min(sentences, key=itemgetter(0), default=(1.0, ""))
        return sentence

    @property
    def failure_sentence(self) -> str:
        """Return how often and when each decisive event occurred; "" without failures.

        The most frequent event comes first.
        """
        if not self.events:
            return ""
        # A single remaining event is named as well: "other" would be no shorter.
        names_all = len(self.events) <= _NAMED_EVENTS + 1
        n_named = len(self.events) if names_all else _NAMED_EVENTS
        parts = [_describe_event(count) for count in self.events[:n_named]]
        n_others = sum(len(count.episodes) for count in self.events[n_named:])
        if n_others:
            parts.append(f"other {n_others}")
        failures = count_of(len(self.failed), "failure")
        return f"Decisive events of the {failures}: {', '.join(parts)}."

    @property
    def stage_sentence(self) -> str:
        """Return the stage at which most episodes failed; "" without failures.

        Goals without stages are mentioned instead.
        """
        if not self.stages:
            return "The goals have no stages." if self.summary.n_judged else ""
        worst = max(self.stages, key=lambda stage: stage.n_lost)
        if not worst.n_lost:
            return ""
        n_reached = worst.n_through + worst.n_lost
        stage = in_words(worst.stage)
        counts = f"{worst.n_lost} of the {n_reached} episodes that reached it"
        return f"The stage at which most episodes failed is “{stage}”: {counts}."


@dataclass(frozen=True)
class ReportContent:
    """The content of a report.

    Attributes:
        refused: a sentence for each folder that could not be used.
    """

    runs: tuple[RunContent, ...]
    refused: tuple[str, ...] = ()


def compute_run_content(
    run: Run,
    number: int = 1,
    *,
    is_quick: bool = False,
    map_by: Sequence[str] = OBJECT_AXES[:2],
) -> RunContent:
    """Read and count everything about a run.

    Args:
        number: number of the run in its report.
        is_quick: leave out what takes seconds to compute.
        map_by: the numbers of the initial state by which success is mapped.

    Raises:
        WhiskerError: a row is damaged, no episode has ended, or the run has no such number.
    """
    if not run.rows:
        resume = format_command("eval", "--resume", run.path)
        raise WhiskerError(
            f"run {str(run.path)!r}",
            expected="an episode that has ended",
            got="none",
            hint=f"{resume} continues it.",
        )
    episodes = list_episodes(run, number)
    rows = [episode.row for episode in episodes]
    return RunContent(
        run=run,
        anchor=f"run{number}",
        main_facts=MAIN_FACTS,
        facts=describe_facts(run),
        command=describe_command(run.description),
        remarks=describe_remarks(run),
        summary=summarise(rows),
        episodes=episodes,
        events=count_events(episodes),
        stages=count_stages(rows),
        tasks=group_tasks(episodes),
        map_by=tuple(map_by),
        start_maps=load_start_maps(run, map_by),
        plan_quality=load_plan_quality(run),
        features=load_collected_features(run.path, has_scores=not is_quick),
    )


def _describe_event(count: EventCount) -> str:
    event = in_words(count.event)
    n = len(count.episodes)
    steps = _describe_steps(count.steps)
    return f"{event} {n} ({steps})"


def _describe_steps(steps: Sequence[int]) -> str:
    first = min(steps)
    last = max(steps)
    if first == last:
        return f"at step {first}"
    return f"steps {first} to {last}, median {median(steps):g}"
