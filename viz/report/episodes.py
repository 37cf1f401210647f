"""The episodes of a run as a report lists, groups and counts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from eval.episode_row import EpisodeRow
from eval.outcome import explain_event, label_outcome
from eval.run import Run
from eval.statistics import RunSummary, count_met_stages, summarise
from viz.report.task_names import TaskName, name_tasks
from viz.report.wording import (
    NO_EVENT,
    NO_EVENT_MEANING,
    format_command,
    format_episode_flags,
    in_words,
)


@dataclass(frozen=True)
class Episode:
    """An episode as the report lists it.

    Attributes:
        task: the name of its task among those of the run.
        anchor: the id of its line in the list.
        met_stages: number of stages of its goal that it passed; None if it has none.
        flags: the flags of `whiskers` that select it.
        command: the command that opens it in the viewer.
    """

    row: EpisodeRow
    task: TaskName
    anchor: str
    met_stages: int | None
    flags: str
    command: str

    @property
    def key(self) -> tuple[str, int]:
        return key_of(self.row)

    @property
    def event(self) -> str:
        """Return the name of the event at the decisive step."""
        return str(self.row.decisive_event or NO_EVENT)

    @property
    def title(self) -> str:
        """Return one line with the episode, its outcome, and the step that decided it."""
        ending = label_outcome(self.row.outcome)
        if not self.row.success:
            ending += f", {in_words(self.event)} at step {self.row.shown_step}"
        episode = f"task {self.task.short}, episode {self.row.episode_index}"
        return f"{episode}: {ending}"


@dataclass(frozen=True)
class EventCount:
    """The failures with the same decisive event, in the order of their decisive steps."""

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
    name: TaskName
    summary: RunSummary
    episodes: tuple[Episode, ...]


def key_of(row: EpisodeRow) -> tuple[str, int]:
    """Return task and index, which identify an episode within its run."""
    return row.task, row.episode_index


def list_episodes(run: Run, report_number: int) -> tuple[Episode, ...]:
    """Return the episodes of a run, sorted by task and index.

    Args:
        report_number: number of the run in its report, as a part of the anchors.
    """
    envs = run.description.tasks
    recorded_tasks = list(dict.fromkeys(row.task for row in run.rows))
    names = name_tasks(recorded_tasks, envs)
    task_numbers = {task: number for number, task in enumerate(names)}
    ordered = sorted(run.rows, key=lambda row: (task_numbers[row.task], row.episode_index))
    whiskers = format_command("whiskers", run.path)
    episodes = []
    for row in ordered:
        flags = format_episode_flags(row, has_tasks=len(envs) > 1)
        task_number = task_numbers[row.task]
        episode = Episode(
            row=row,
            task=names[row.task],
            anchor=f"run{report_number}-task{task_number}-episode{row.episode_index}",
            met_stages=count_met_stages(row),
            flags=flags,
            command=f"{whiskers} {flags}",
        )
        episodes.append(episode)
    return tuple(episodes)


def count_events(episodes: Sequence[Episode]) -> tuple[EventCount, ...]:
    """Return the decisive events of the failures, the most frequent first."""
    by_event: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.row.is_failure:
            by_event.setdefault(episode.event, []).append(episode)
    counts = []
    for event, members in by_event.items():
        meaning = NO_EVENT_MEANING if event == NO_EVENT else explain_event(event)
        in_time = sorted(members, key=lambda episode: episode.row.shown_step)
        counts.append(EventCount(event, meaning, tuple(in_time)))
    counts.sort(key=lambda count: -len(count.episodes))
    return tuple(counts)


def group_tasks(episodes: Sequence[Episode]) -> tuple[TaskContent, ...]:
    """Return the tasks in the order of the episodes, which are sorted by task."""
    tasks = []
    for task, group in groupby(episodes, key=lambda episode: episode.row.task):
        members = tuple(group)
        summary = summarise([episode.row for episode in members])
        tasks.append(TaskContent(task, members[0].task, summary, members))
    return tuple(tasks)
