"""Plans in numbers: where each whisker leads, how smooth it is, how much plans agree, and whether they were followed.

All are of the tool centre point, in metres of the world. What is undefined is None, never 0.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from statistics import fmean, median
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich import box
from rich.console import Console
from rich.table import Table

from eval.episode_row import EpisodeRow
from eval.recorder import EpisodeArrays
from eval.run import Run
from sim.errors import WhiskerError
from sim.files import atomic_write
from viz.whiskers import Whiskers, compute_whiskers, load_planned_arrays, open_whisker_env

PLAN_QUALITY_FILE = "plan_quality.jsonl"

# Below this the way that an object went is noise of the physics, and its goal cannot be told from
# it.
_MIN_MOTION_M = 1e-6
# A goal that is found fits the recorded distances to this; one that moved does not.
_GOAL_TOLERANCE_M = 1e-6

_Polyline = Float64[np.ndarray, "_moment 3"]


@dataclass(frozen=True)
class PlanQuality:
    """One prediction. The whisker is that of the plan that was executed: point j is j control steps ahead.

    Attributes:
        step: control step of the prediction.
        path_length_m: of the whole whisker.
        displacement_m: from its start to its end. Noise goes a long way and gets nowhere.
        smoothness: its `compute_log_dimensionless_jerk`; None for a horizon below 3, and where
            there is no motion.
        deviation_mean_m: distance from the whisker to where the robot was at the same step, over
            all steps ahead that the episode still had: 0 as long as the plan is executed, as the
            simulation is exact, and from where the next one takes over, how far the robot went from
            what it had planned.
        deviation_max_m: the largest.
        n_compared: how many steps ahead that is.
        bundle_half_m: spread of the sampled plans at half the horizon (rounded up): root mean
            square of their distances to their mean. None where fewer than two were sampled.
        bundle_end_m: likewise at the horizon.
        end_to_object_m: from the whisker's end to where the object was at the prediction.
        nearest_to_object_m: likewise from the point of the whisker, its start included, that is
            nearest.
        end_to_goal_m: from the whisker's end to the middle of the goal, horizontally; see
            `locate_goal`.
        change_m: mean distance to the previous prediction's whisker over the steps ahead that both
            reach; None where there are none, as when every plan is executed to its end.
    """

    step: int
    path_length_m: float | None
    displacement_m: float | None
    smoothness: float | None
    deviation_mean_m: float | None
    deviation_max_m: float | None
    n_compared: int
    bundle_half_m: float | None
    bundle_end_m: float | None
    end_to_object_m: float | None
    nearest_to_object_m: float | None
    end_to_goal_m: float | None
    change_m: float | None


# What an episode has the mean of.
AVERAGED = tuple(
    field.name for field in fields(PlanQuality) if field.name not in ("step", "n_compared")
)


@dataclass(frozen=True)
class Mean:
    """Over the `n` predictions of an episode for which it is defined; None over none."""

    value: float | None
    n: int


@dataclass(frozen=True)
class EpisodeQuality:
    """One episode.

    Attributes:
        predictions: its predictions, in order.
        decisive_step: `EpisodeRow.decisive_step`; None in older rows.
        decisive_event: likewise.
        taken_length_m: of the way that the tool centre point really went.
        taken_smoothness: its `compute_log_dimensionless_jerk`, of the whole episode: compare
            episodes of like length.
        closest_plan_m: the smallest `nearest_to_object_m`: did any plan ever lead to the object?
        means: by the names in `AVERAGED`.
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
        """Its lines of `plan_quality.jsonl`: the episode (each mean with an n), then every prediction."""
        names = {"task": self.task, "episode_index": self.episode_index}
        own = {
            name: getattr(self, name)
            for name in ("outcome", "n_steps", "decisive_step", "decisive_event", *_TAKEN)
        }
        means = {name: mean.value for name, mean in self.means.items()}
        counts = {f"n_{name}": mean.n for name, mean in self.means.items()}
        yield {
            "kind": "episode",
            **names,
            **own,
            "n_predictions": len(self.predictions),
            **means,
            **counts,
        }
        for prediction in self.predictions:
            yield {"kind": "prediction", **names, **asdict(prediction)}


_TAKEN = ("taken_length_m", "taken_smoothness", "closest_plan_m")


def compute_plan_quality(whiskers: Whiskers, arrays: EpisodeArrays) -> list[PlanQuality]:
    """Of every prediction of an episode, in order."""
    goal_xy = locate_goal(arrays)
    return [
        _assess(whiskers, arrays, prediction, goal_xy)
        for prediction in range(len(whiskers.path_world))
    ]


def _assess(
    whiskers: Whiskers,
    arrays: EpisodeArrays,
    prediction: int,
    goal_xy: Float64[np.ndarray, "2"] | None,
) -> PlanQuality:
    bundle, step = whiskers.path_world[prediction], int(whiskers.prediction_step[prediction])
    path, horizon = bundle[0], bundle.shape[1] - 1
    taken = arrays.ee_pos_world[step + 1 : step + 1 + horizon]
    deviation_m = _distances(path[1 : len(taken) + 1], taken)
    objects = arrays.object_pos_world
    to_object_m = None if objects is None else _distances(path, objects[step])
    return PlanQuality(
        step=step,
        path_length_m=_defined(compute_length(path)),
        displacement_m=_defined(compute_length(path[[0, -1]])),
        smoothness=_defined(compute_log_dimensionless_jerk(path)),
        deviation_mean_m=_defined(deviation_m.mean()) if len(taken) else None,
        deviation_max_m=_defined(deviation_m.max()) if len(taken) else None,
        n_compared=len(taken),
        bundle_half_m=_defined(compute_spread(bundle[:, -(-horizon // 2)])),
        bundle_end_m=_defined(compute_spread(bundle[:, -1])),
        end_to_object_m=None if to_object_m is None else _defined(to_object_m[-1]),
        nearest_to_object_m=None if to_object_m is None else _defined(to_object_m.min()),
        end_to_goal_m=None if goal_xy is None else _defined(_distances(path[-1:, :2], goal_xy)[0]),
        change_m=_compute_change(whiskers, prediction),
    )


def _compute_change(whiskers: Whiskers, prediction: int) -> float | None:
    """The step of the prediction itself is left out: there both are where the robot is, if the plan was followed."""
    if prediction == 0:
        return None
    n_since = int(np.diff(whiskers.prediction_step[prediction - 1 : prediction + 1])[0])
    previous, path = (
        whiskers.path_world[prediction - 1, 0, n_since + 1 :],
        whiskers.path_world[prediction, 0, 1:],
    )
    n_shared = min(len(previous), len(path))
    return _defined(_distances(previous[:n_shared], path[:n_shared]).mean()) if n_shared else None


def compute_length(path: _Polyline) -> float:
    """Length of a polyline, m."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def compute_spread(points: Float64[np.ndarray, "sample 3"]) -> float:
    """Root mean square distance of points to their mean, m: sqrt(Σ ‖xᵢ - x̄‖² / n).

    nan for fewer than two.
    """
    if len(points) < 2:
        return np.nan
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def compute_log_dimensionless_jerk(path: _Polyline) -> float:
    """Smoothness of a movement sampled at a constant rate: the higher the smoother, whatever its size and duration.

        -ln( D³ / v² ∫ ‖x⃛‖² dt )

    with D its duration and v its highest speed. A minimum-jerk movement from rest to rest has -ln
    204.8 = -5.32, a circle's arc of angle θ at constant speed -4 ln θ, and noise far less.

    Derivatives are differences, the duration is that between the first and the last point. nan
    below four points, without motion, and without jerk.

    Source: N. Hogan and D. Sternad, "Sensitivity of smoothness measures to movement duration,
    amplitude, and arrests", J. Motor Behavior 41 (2009); S. Balasubramanian et al., "On the
    analysis of movement smoothness", J. NeuroEng. Rehabil. 12:112 (2015), who take the jerk of the
    speed; here it is that of the position, a vector, so that a bend counts too.
    """
    if len(path) < 4:
        return np.nan
    # The time between two points cancels out.
    duration = len(path) - 1
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1).max()
    jerk = np.diff(path, n=3, axis=0)
    # There are fewer jerks than the duration has steps: their mean stands for the whole of it.
    integral = duration * (jerk**2).sum(axis=1).mean()
    if not (speed > 0 and integral > 0):
        return np.nan
    return float(-np.log(duration**3 / speed**2 * integral))


def locate_goal(arrays: EpisodeArrays) -> Float64[np.ndarray, "2"] | None:
    """Middle of the goal (x, y), m, found from the object's recorded distances to it while it was moved about.

    With object positions o and distances d, both horizontal, ‖o - g‖² = d² is linear in (g, ‖g‖²):

        2 oᵀ g - ‖g‖² = ‖o‖² - d²

    None where that does not determine g: an articulated goal, an object that stayed or moved along
    a line, a goal that moved itself.
    """
    if arrays.object_pos_world is None or arrays.goal_distance_m is None:
        return None
    positions, distance_m = arrays.object_pos_world[:, :2], arrays.goal_distance_m
    if len(positions) < 3 or np.isnan(distance_m).any():
        return None
    # Around their mean the numbers are small, and little is lost by squaring them.
    mean = positions.mean(axis=0)
    centred = positions - mean
    if np.linalg.svd(centred, compute_uv=False)[-1] / np.sqrt(len(centred)) < _MIN_MOTION_M:
        return None
    equations = np.column_stack([2 * centred, -np.ones(len(centred))])
    solution = np.linalg.lstsq(equations, (centred**2).sum(axis=1) - distance_m**2, rcond=None)[0]
    goal = solution[:2] + mean
    if np.abs(_distances(positions, goal) - distance_m).max() > _GOAL_TOLERANCE_M:
        return None
    return goal


def summarise_episode(
    row: EpisodeRow, arrays: EpisodeArrays, predictions: Sequence[PlanQuality]
) -> EpisodeQuality:
    """One episode's numbers, from those of its predictions and from the way that it really took."""
    columns = {name: _defined_values(predictions, name) for name in AVERAGED}
    return EpisodeQuality(
        task=row.task,
        episode_index=row.episode_index,
        outcome=row.outcome,
        n_steps=row.n_steps,
        decisive_step=row.decisive_step,
        decisive_event=row.decisive_event,
        predictions=predictions,
        taken_length_m=compute_length(arrays.ee_pos_world),
        taken_smoothness=_defined(compute_log_dimensionless_jerk(arrays.ee_pos_world)),
        closest_plan_m=min(columns["nearest_to_object_m"], default=None),
        means={
            name: Mean(fmean(values) if values else None, len(values))
            for name, values in columns.items()
        },
    )


def save_plan_quality(run: Run) -> list[EpisodeQuality]:
    """Assess every episode that has predictions, each in the environment of its own task.

    Writes `plan_quality.jsonl` into the run folder, whole or not at all.

    Raises:
        WhiskerError: an episode file is damaged.
    """
    episodes = []
    rows = [row for row in run.rows if row.n_predictions]
    for task, of_task in groupby(rows, key=lambda row: row.task):
        with closing(open_whisker_env(run, task, {})) as env:
            for row in of_task:
                arrays = load_planned_arrays(run, row)
                predictions = compute_plan_quality(compute_whiskers(env, arrays), arrays)
                episodes.append(summarise_episode(row, arrays, predictions))
    lines = [
        json.dumps(line, allow_nan=False) + "\n"
        for episode in episodes
        for line in episode.as_rows()
    ]
    with atomic_write(run.path / PLAN_QUALITY_FILE) as unfinished:
        unfinished.write_text("".join(lines), encoding="utf-8")
    return episodes


def load_plan_quality(run: Run) -> tuple[EpisodeQuality, ...] | None:
    """Return what `save_plan_quality` wrote, in its order; None if it was never called.

    Raises:
        WhiskerError: the file is damaged.
    """
    file = run.path / PLAN_QUALITY_FILE
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        episodes: list[tuple[dict, list[PlanQuality]]] = []
        for line in lines:
            if line["kind"] == "episode":
                episodes.append((line, []))
            else:
                numbers = {field.name: line[field.name] for field in fields(PlanQuality)}
                episodes[-1][1].append(PlanQuality(**numbers))
        return tuple(_parse_episode(line, predictions) for line, predictions in episodes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        hint = f"`whiskers {run.path} --table` writes it anew."
        expected = "the lines that `whiskers --table` writes"
        raise WhiskerError(
            f"file {str(file)!r}", expected=expected, got=repr(error), hint=hint
        ) from error


def _parse_episode(line: dict, predictions: Sequence[PlanQuality]) -> EpisodeQuality:
    """Return the episode of a line of the file, which in older files has no decisive step."""
    own: dict[str, Any] = {
        name: line[name] for name in ("task", "episode_index", "outcome", "n_steps", *_TAKEN)
    }
    own |= {name: line.get(name) for name in ("decisive_step", "decisive_event")}
    means = {name: Mean(line[name], line[f"n_{name}"]) for name in AVERAGED}
    return EpisodeQuality(**own, predictions=predictions, means=means)


# Of the table: which number a cell is, what stands above it in five letters, and what is said of it
# below.
COLUMNS = (
    ("closest_plan_m", "best\nobj.", "smallest distance of any plan to the object"),
    ("end_to_object_m", "end\nobj.", "distance of a plan's end to the object"),
    ("end_to_goal_m", "end\ngoal", "and to the goal"),
    ("path_length_m", "path", "length of a plan"),
    ("displacement_m", "gets", "from its start to its end: noise goes far and gets nowhere"),
    ("smoothness", "smth.", "log dimensionless jerk, the higher the smoother"),
    ("change_m", "chng.", "between a plan and the one before"),
    ("deviation_mean_m", "dev.", "of the way taken from the plan"),
    ("bundle_half_m", "bun.\nH/2", "spread of the sampled plans half way"),
    ("bundle_end_m", "bun.\nH", "and at their end"),
    ("taken_length_m", "way", "length of the way taken"),
)


def print_plan_quality(console: Console, episodes: Sequence[EpisodeQuality]) -> None:
    """A line an episode, then the median of the episodes for which a number is defined.

    Fits 80 columns.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    has_tasks = len({episode.task for episode in episodes}) > 1
    shown = [
        column
        for column in COLUMNS
        if any(get_value(episode, column[0]) is not None for episode in episodes)
    ]
    for head in ["task"] * has_tasks + ["outcome"]:
        table.add_column(head, no_wrap=True, min_width=8)
    table.add_column("ep.", justify="right", no_wrap=True, min_width=3)
    table.add_column("wrong\nat", justify="right", no_wrap=True, min_width=5)
    for _, head, _ in shown:
        table.add_column(head, justify="right", no_wrap=True, min_width=5)
    for episode in episodes:
        wrong_at = (
            "-"
            if episode.decisive_step is None or episode.outcome == "success"
            else str(episode.decisive_step)
        )
        names = [episode.task] * has_tasks + [episode.outcome, str(episode.episode_index), wrong_at]
        table.add_row(*names, *(_cell(name, get_value(episode, name)) for name, _, _ in shown))
    table.add_section()
    medians = []
    for name, _, _ in shown:
        medians.append(
            _cell(name, median([v for e in episodes if (v := get_value(e, name)) is not None]))
        )
    table.add_row(*[""] * has_tasks, "median", "", "", *medians, style="bold")
    console.print(table)
    console.print("Lengths in cm, means over the episode's predictions:")
    for _, head, meaning in shown:
        console.print(f"  {' '.join(head.split()):<10}{meaning}", highlight=False)
    console.print("  wrong at  the decisive step of a failure", highlight=False)


def get_value(episode: EpisodeQuality, name: str) -> float | None:
    """Return the number of a column of `COLUMNS`."""
    return getattr(episode, name) if name in _TAKEN else episode.means[name].value


def _cell(name: str, value: float | None) -> str:
    """Lengths in cm."""
    return "-" if value is None else f"{100 * value if name.endswith('_m') else value:.1f}"


def _distances(
    points: Float64[np.ndarray, "*n dim"], others: Float64[np.ndarray, "*_n dim"]
) -> np.ndarray:
    return np.linalg.norm(points - others, axis=-1)


def _defined(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def _defined_values(predictions: Sequence[PlanQuality], name: str) -> list[float]:
    return [value for prediction in predictions if (value := getattr(prediction, name)) is not None]
