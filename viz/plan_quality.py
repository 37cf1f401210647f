"""Summarises the plan quality of a run's episodes, stores it in the run folder, and prints it.

Positions are those of the tool centre point, in metres of the world. An undefined number is None,
never 0.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from eval.episode_arrays import EpisodeArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.errors import WhiskerError
from sim.files import atomic_write
from viz.path_measures import compute_length, compute_log_dimensionless_jerk
from viz.prediction_quality import AVERAGED, PlanQuality, finite_or_none

PLAN_QUALITY_FILE = "plan_quality.jsonl"

_ROW_FIELDS = ("outcome", "n_steps")
# These are missing in older files.
_DECISION_FIELDS = ("decisive_step", "decisive_event")
_EPISODE_NUMBERS = ("taken_length_m", "taken_smoothness", "closest_plan_m")


@dataclass(frozen=True)
class Mean:
    """Holds a mean over the `n` predictions of an episode that define it; None if none does."""

    value: float | None
    n: int


@dataclass(frozen=True)
class EpisodeQuality:
    """Holds the numbers of one episode.

    Attributes:
        task: name of the task.
        episode_index: index of the episode.
        outcome: outcome of the episode.
        n_steps: number of its control steps.
        decisive_step: `EpisodeRow.decisive_step`; None in older rows.
        decisive_event: `EpisodeRow.decisive_event`; None in older rows.
        predictions: its predictions, in order.
        taken_length_m: length of the path that the tool centre point took.
        taken_smoothness: `compute_log_dimensionless_jerk` of the whole path taken. Compare only
            episodes of similar length.
        closest_plan_m: the smallest `nearest_to_object_m`, which says whether any plan led to the
            object.
        means: means over the predictions, by the names in `AVERAGED`.
    """

    task: str
    episode_index: int
    outcome: str
    n_steps: int
    decisive_step: int | None
    decisive_event: str | None
    predictions: Sequence[PlanQuality]
    taken_length_m: float
    taken_smoothness: float | None
    closest_plan_m: float | None
    means: dict[str, Mean]

    def as_rows(self) -> Iterator[dict]:
        """Yield the lines of `plan_quality.jsonl`: the episode, then each of its predictions."""
        key = {"task": self.task, "episode_index": self.episode_index}
        line: dict[str, Any] = {"kind": "episode", **key}
        for name in (*_ROW_FIELDS, *_DECISION_FIELDS, *_EPISODE_NUMBERS):
            line[name] = getattr(self, name)
        line["n_predictions"] = len(self.predictions)
        for name, mean in self.means.items():
            line[name] = mean.value
        for name, mean in self.means.items():
            line[f"n_{name}"] = mean.n
        yield line
        for prediction in self.predictions:
            yield {"kind": "prediction", **key, **asdict(prediction)}


def summarise_episode(
    row: EpisodeRow,
    arrays: EpisodeArrays,
    predictions: Sequence[PlanQuality],
) -> EpisodeQuality:
    """Return an episode's numbers, from those of its predictions and from the path taken."""
    columns = {}
    means = {}
    for name in AVERAGED:
        values = _drop_undefined(getattr(prediction, name) for prediction in predictions)
        columns[name] = values
        means[name] = Mean(fmean(values) if values else None, len(values))
    taken = arrays.ee_pos_world
    return EpisodeQuality(
        task=row.task,
        episode_index=row.episode_index,
        outcome=row.outcome,
        n_steps=row.n_steps,
        decisive_step=row.decisive_step,
        decisive_event=row.decisive_event,
        predictions=predictions,
        taken_length_m=compute_length(taken),
        taken_smoothness=finite_or_none(compute_log_dimensionless_jerk(taken)),
        closest_plan_m=min(columns["nearest_to_object_m"], default=None),
        means=means,
    )


def _drop_undefined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def write_plan_quality(run: Path, episodes: Iterable[EpisodeQuality]) -> None:
    """Write `plan_quality.jsonl` into the run folder, completely or not at all."""
    with (
        atomic_write(run / PLAN_QUALITY_FILE) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
    ):
        for episode in episodes:
            for line in episode.as_rows():
                file.write(json.dumps(line, allow_nan=False) + "\n")


def load_plan_quality(run: Run) -> tuple[EpisodeQuality, ...] | None:
    """Return what `write_plan_quality` wrote, in its order; None if there is no such file.

    Raises:
        WhiskerError: the file is damaged.
    """
    file = run.path / PLAN_QUALITY_FILE
    try:
        return _parse_lines(file.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise WhiskerError(
            f"file {str(file)!r}",
            expected="the lines that `whiskers --table` writes",
            got=repr(error),
            hint=f"Run `whiskers {run.path} --table` to write it again.",
        ) from error


def _parse_lines(lines: Sequence[str]) -> tuple[EpisodeQuality, ...]:
    """Return the episodes of the file. The predictions of an episode follow its own line."""
    episodes: list[tuple[dict, list[PlanQuality]]] = []
    for text in lines:
        line = json.loads(text)
        if line["kind"] == "episode":
            episodes.append((line, []))
        else:
            numbers = {field.name: line[field.name] for field in fields(PlanQuality)}
            episodes[-1][1].append(PlanQuality(**numbers))
    return tuple(_parse_episode(line, predictions) for line, predictions in episodes)


def _parse_episode(line: dict, predictions: Sequence[PlanQuality]) -> EpisodeQuality:
    values: dict[str, Any] = {}
    for name in ("task", "episode_index", *_ROW_FIELDS, *_EPISODE_NUMBERS):
        values[name] = line[name]
    for name in _DECISION_FIELDS:
        values[name] = line.get(name)
    means = {}
    for name in AVERAGED:
        means[name] = Mean(line[name], line[f"n_{name}"])
    return EpisodeQuality(**values, predictions=predictions, means=means)


class Column(NamedTuple):
    """Describes a column of the table.

    Attributes:
        name: the name of the number.
        head: the head of the column, five letters wide.
        meaning: the explanation below the table.
    """

    name: str
    head: str
    meaning: str


COLUMNS = (
    Column("closest_plan_m", "best\nobj.", "smallest distance of any plan to the object"),
    Column("end_to_object_m", "end\nobj.", "distance of a plan's end to the object"),
    Column("end_to_goal_m", "end\ngoal", "distance of a plan's end to the goal"),
    Column("path_length_m", "path", "length of a plan"),
    Column("displacement_m", "disp.", "distance from its start to its end, small for noise"),
    Column("smoothness", "smth.", "log dimensionless jerk, the higher the smoother"),
    Column("change_m", "chng.", "distance between a plan and the one before"),
    Column("deviation_mean_m", "dev.", "distance of the path taken from the plan"),
    Column("bundle_half_m", "bun.\nH/2", "spread of the sampled plans at half the horizon"),
    Column("bundle_end_m", "bun.\nH", "spread of the sampled plans at the horizon"),
    Column("taken_length_m", "taken", "length of the path taken"),
)


def print_plan_quality(console: Console, episodes: Sequence[EpisodeQuality]) -> None:
    """Print one line per episode, then the median over the episodes that define a number.

    The table fits 80 columns.
    """
    shown = [column for column in COLUMNS if list_values(episodes, column.name)]
    has_tasks = len({episode.task for episode in episodes}) > 1
    table = _make_table(shown, has_tasks)
    for episode in episodes:
        cells = []
        for column in shown:
            value = get_value(episode, column.name)
            cells.append(format_cell(column.name, value, "-"))
        table.add_row(*_name_episode(episode, has_tasks), *cells)
    table.add_section()
    medians = []
    for column in shown:
        value = median(list_values(episodes, column.name))
        medians.append(format_cell(column.name, value, "-"))
    names = ["", "median", "", ""] if has_tasks else ["median", "", ""]
    table.add_row(*names, *medians, style="bold")
    console.print(table)
    console.print("Lengths in cm, means over the episode's predictions:")
    for column in shown:
        head = " ".join(column.head.split())
        console.print(f"  {head:<10}{column.meaning}", highlight=False)
    console.print("  wrong at  the decisive step of a failure", highlight=False)


def _make_table(shown: Sequence[Column], has_tasks: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    if has_tasks:
        table.add_column("task", no_wrap=True, min_width=8)
    table.add_column("outcome", no_wrap=True, min_width=8)
    table.add_column("ep.", justify="right", no_wrap=True, min_width=3)
    for head in ("wrong\nat", *(column.head for column in shown)):
        table.add_column(head, justify="right", no_wrap=True, min_width=5)
    return table


def _name_episode(episode: EpisodeQuality, has_tasks: bool) -> list[str]:
    """Return the first cells of an episode's line."""
    went_wrong = episode.outcome != "success" and episode.decisive_step is not None
    wrong_at = str(episode.decisive_step) if went_wrong else "-"
    cells = [episode.outcome, str(episode.episode_index), wrong_at]
    return [episode.task, *cells] if has_tasks else cells


def get_value(episode: EpisodeQuality, name: str) -> float | None:
    """Return the number of a column of `COLUMNS`."""
    if name in _EPISODE_NUMBERS:
        return getattr(episode, name)
    return episode.means[name].value


def list_values(episodes: Sequence[EpisodeQuality], name: str) -> list[float]:
    """Return the defined numbers of a column of `COLUMNS`."""
    return _drop_undefined(get_value(episode, name) for episode in episodes)


def format_cell(
    name: str,
    value: float | None,
    undefined: str,
) -> str:
    """Return a length in cm, and any other number as it is."""
    if value is None:
        return undefined
    if name.endswith("_m"):
        value = 100 * value
    return f"{value:.1f}"
