"""Counts successes by the initial state of the episodes, e.g. the object's position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Int64

from eval.episode_row import EpisodeRow
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.start_region import Condition, StartRegion, find_start_region
from sim.registry import family_of, path_in
from viz.report.start_cells import (
    LEAST_IN_CELL,
    Axis,
    Starts,
    count_cells,
    find_least_episodes,
    find_most_cells,
    make_axes,
)
from viz.report.start_scalars import StartScalar, load_start_scalars

# Starts that differ by less than this, in the scalar's unit, are the same (1 mm for a length).
_SAME = 0.001
# Level of the test of a region on held-out episodes, with Bonferroni's correction for several maps.
_SIGNIFICANT = 0.05
_TableRow = tuple[str, ...]
_TABLE_HEAD = ("successes", "episodes", "rate", "95 % interval")


@dataclass(frozen=True)
class StartPoint:
    """The start of one episode. `y` is nan on a map with a single axis."""

    row: EpisodeRow
    x: float
    y: float


@dataclass(frozen=True)
class StartMap:
    """Successes by the start of an episode. Crashed episodes are not counted.

    Attributes:
        axes: one or two axes along which the starts differ; none if there is no map, and `remark`
            says why.
        n_success: successes in each cell, one column of cells for a map of one axis.
        n_episodes: episodes in each cell.
        points: the counted episodes, in the order of their indices.
        remark: the reason why no cell is judged, in a sentence; "" if cells are judged.
        region: the region of starts from which the policy succeeds more often, if one was found.
        n_tests: number of maps in which a region is looked for (Bonferroni).
        base_xy_m: the robot's base in the coordinates of a map of the table, if it is known.
    """

    axes: tuple[Axis, ...]
    n_success: Int64[np.ndarray, "x_bin y_bin"]
    n_episodes: Int64[np.ndarray, "x_bin y_bin"]
    points: tuple[StartPoint, ...]
    remark: str = ""
    region: StartRegion | None = None
    n_tests: int = 1
    base_xy_m: tuple[float, float] | None = None

    @property
    def is_region_shown(self) -> bool:
        """Return whether the test on held-out episodes confirms the region."""
        if self.region is None:
            return False
        return self.region.p_value * self.n_tests <= _SIGNIFICANT

    def is_judged(
        self,
        x_bin: int,
        y_bin: int,
    ) -> bool:
        """Return whether a cell holds enough episodes to be coloured."""
        n = int(self.n_episodes[x_bin, y_bin])
        return n >= LEAST_IN_CELL and not self.remark

    @property
    def sentence(self) -> str:
        """Return the result of the map in one sentence."""
        if self.remark:
            return self.remark
        if self.region is None:
            return (
                "There are too few successes or failures to tell whether success depends on the "
                "start."
            )
        finding = self._describe_region(self.region)
        if self.is_region_shown:
            return f"Success depends on the start: {finding}."
        return f"It is not established that success depends on the start. A hypothesis: {finding}."

    @property
    def table(self) -> tuple[_TableRow, list[_TableRow]]:
        """Return the head and the rows of the table, with a row for each cell with episodes."""
        labels = [axis.label for axis in self.axes]
        rows = []
        for cell in product(*map(range, self.n_episodes.shape)):
            if self.axes and self.n_episodes[cell]:
                rows.append(self._make_table_row(cell))
        return (*labels, *_TABLE_HEAD), rows

    def _make_table_row(self, cell: tuple[int, ...]) -> _TableRow:
        n_success = int(self.n_success[cell])
        n = int(self.n_episodes[cell])
        low, high = compute_wilson_interval(n_success, n)
        bounds = []
        for axis, i in zip(self.axes, cell, strict=False):
            low_edge, high_edge = axis.edges[i : i + 2]
            bounds.append(f"{low_edge:.3g} to {high_edge:.3g}")
        rate = f"{100 * n_success / n:.0f} %"
        interval = f"{100 * low:.0f} % to {100 * high:.0f} %"
        return (*bounds, str(n_success), str(n), rate, interval)

    def _describe_region(self, region: StartRegion) -> str:
        where = " and ".join(map(self._describe_condition, region.conditions))
        inside = "{} of {}".format(*region.inside)
        outside = "{} of {}".format(*region.outside)
        test = f"p = {region.p_value:.2g} on {region.n_tested} held-out episodes"
        if self.n_tests > 1:
            test += f", one of {self.n_tests} tasks tested"
        return f"{inside} succeed where {where}, {outside} elsewhere ({test})"

    def _describe_condition(self, condition: Condition) -> str:
        axis = self.axes[condition.variable]
        side = "≥" if condition.is_above else "<"
        words = f"{axis.name} {side} {condition.threshold:.3g} {axis.unit}"
        return words.rstrip()


def load_start_maps(run: Run) -> dict[str, StartMap]:
    """Return a map of each task that has rows, in the order of the tasks.

    Tasks have maps of their own since their objects differ. So do the objects of different goals:
    the recorded position belongs to the goal that the verdict rests on, which depends on how the
    episode ended. A task with several goals therefore has no map of object positions.
    """
    tasks = dict.fromkeys(row.task for row in run.rows)
    maps = {}
    for task in tasks:
        rows = [row for row in run.rows if row.task == task]
        goals = {row.goal for row in rows if row.is_judged}
        if len(goals) > 1:
            verdicts = f"The verdicts on this task rest on {len(goals)} goals"
            remark = f"{verdicts}, each with an object of its own, so there is no map."
            maps[task] = _make_empty_map(remark)
            continue
        x, y = load_start_scalars(run, rows)
        env_name = run.description.tasks.get(task, "")
        base = family_of(env_name).base_xy_m(path_in(env_name))
        maps[task] = compute_start_map(
            rows,
            x,
            y,
            base,
            len(tasks),
        )
    return maps


def compute_start_map(
    rows: Sequence[EpisodeRow],
    x: StartScalar,
    y: StartScalar | None = None,
    base_xy_m: tuple[float, float] | None = None,
    n_tests: int = 1,
) -> StartMap:
    """Count the successes of one task's episodes by their starts.

    Args:
        rows: rows of one task, in the order of the values of `x` and `y`.
        base_xy_m: the robot's base, if the two scalars are places on its table.
        n_tests: number of maps in which a region is looked for.
    """
    scalars = [x] if y is None else [x, y]
    all_values = np.column_stack([scalar.values for scalar in scalars])
    is_judged = np.array([row.is_judged for row in rows], bool)
    is_placed = is_judged & np.isfinite(all_values).all(axis=1)
    chosen = sorted(np.flatnonzero(is_placed), key=lambda i: rows[i].episode_index)
    kept = [rows[i] for i in chosen]
    values = all_values[chosen]
    varying = _find_varying(values)
    if not varying:
        return replace(
            _make_empty_map(_describe_one_place(scalars, values)),
            points=_make_points(kept, values),
        )
    values = values[:, varying]
    axes = make_axes([scalars[i] for i in varying], values)
    is_success = np.array([row.success for row in kept], bool)
    has_cells = find_most_cells(len(kept)) > 1
    return StartMap(
        axes=tuple(axes),
        n_success=count_cells(axes, values[is_success]),
        n_episodes=count_cells(axes, values),
        points=_make_points(kept, values),
        remark="" if has_cells else _describe_too_few(len(kept)),
        region=find_start_region(values, is_success) if has_cells else None,
        n_tests=n_tests,
        base_xy_m=base_xy_m if len(axes) > 1 else None,
    )


def _find_varying(values: Starts) -> list[int]:
    """Return the axes along which the starts differ."""
    if not len(values):
        return []
    extent = np.ptp(values, axis=0)
    return np.flatnonzero(extent >= _SAME).tolist()


def _make_empty_map(remark: str) -> StartMap:
    nowhere = np.zeros((0, 0), np.int64)
    return StartMap(
        (),
        nowhere,
        nowhere,
        (),
        remark=remark,
    )


def _make_points(rows: Sequence[EpisodeRow], values: Starts) -> tuple[StartPoint, ...]:
    points = []
    for row, value in zip(rows, values, strict=True):
        y = float(value[1]) if len(value) > 1 else float("nan")
        points.append(StartPoint(row, float(value[0]), y))
    return tuple(points)


def _describe_too_few(n: int) -> str:
    episodes = "1 episode is" if n == 1 else f"{n} episodes are"
    return (
        f"{episodes} too few for a map of success by the start; "
        f"it takes {find_least_episodes()} or more."
    )


def _describe_one_place(scalars: Sequence[StartScalar], values: Starts) -> str:
    if not len(values):
        return "No episode that ran to its end has a recorded start."
    places = []
    for scalar, value in zip(scalars, values[0], strict=True):
        words = f"{scalar.name} {value:.3g} {scalar.unit}"
        places.append(words.rstrip())
    place = ", ".join(places)
    if len(values) == 1:
        return f"There is a single episode; it begins at {place}."
    return (
        f"All {len(values)} episodes begin at one place ({place}), so success cannot depend on it."
    )
