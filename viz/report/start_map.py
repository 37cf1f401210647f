"""Counts successes by where an episode began: the object's place on the table, or other scalars of the initial state.

A cell is judged only if it holds enough episodes. If all n of a cell succeed, the lower end of the
Wilson 95 % interval is n / (n + z²); it lies above one half from n > z² = 3.84 on. With fewer than
`LEAST_IN_CELL` = 4 episodes even a cell in which all succeed cannot be told from a coin that is
tossed, so it gets no colour.

There are as many cells as leave at most one in ten of them with fewer than that, if the starts were
spread evenly: the largest K with P(B < 4) ≤ 0.1 for a binomial B of n episodes and probability 1 /
K. Two cells take 12 episodes, and six take 40.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.stats import binom

from eval.episode_row import EpisodeRow
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.start_region import Condition, StartRegion, find_start_region
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import family_of, path_in

LEAST_IN_CELL = 4
_SHARE_OF_THIN_CELLS = 0.1
_MOST_CELLS = 64
# Starts that differ by less than this, in the scalar's unit (1 mm of a length), are one place.
_SAME = 0.001
# Of a region that was tested on other episodes than it was found on, corrected for several tasks
# (Bonferroni).
_SIGNIFICANT = 0.05

OBJECT_AXES = ("object x", "object y", "object z")


@dataclass(frozen=True)
class StartScalar:
    """One number of the initial state of each of several episodes.

    Attributes:
        name: e.g. "object x".
        unit: e.g. "m"; "" for a number without one.
        values: one an episode, nan where it was not recorded.
    """

    name: str
    unit: str
    values: Float64[np.ndarray, " episode"]


@dataclass(frozen=True)
class Axis:
    """One axis of a map.

    Attributes:
        edges: of the bins, ascending; the last bin holds its upper edge too.
    """

    name: str
    unit: str
    edges: Float64[np.ndarray, " edge"]

    @property
    def label(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass(frozen=True)
class StartPoint:
    """Holds where one episode began; `y` is nan on a map of one axis."""

    row: EpisodeRow
    x: float
    y: float


@dataclass(frozen=True)
class StartMap:
    """Successes by the start of an episode. Episodes that crashed are counted in `n_errors` and nowhere else.

    Attributes:
        x: an axis along which the starts differ; None if there is no map, and `remark` says why.
        y: the other; None if the starts differ along one axis alone.
        n_success: successes in each cell, one column of cells for a map of one axis.
        n_episodes: episodes in each cell.
        points: the episodes that are counted, in the order of their indices.
        n_errors: episodes that crashed.
        n_unplaced: other episodes whose start was not recorded.
        remark: says in a sentence why no cell is judged; "" where cells are.
        region: of starts from which the policy succeeds more often, if one was found.
        n_tests: maps among which this one's region is looked for (Bonferroni).
        base_xy_m: the robot's base in the coordinates of a map of the table, where it is known.
    """

    x: Axis | None
    y: Axis | None
    n_success: Int64[np.ndarray, "x_bin y_bin"]
    n_episodes: Int64[np.ndarray, "x_bin y_bin"]
    points: tuple[StartPoint, ...]
    n_errors: int = 0
    n_unplaced: int = 0
    remark: str = ""
    region: StartRegion | None = None
    n_tests: int = 1
    base_xy_m: tuple[float, float] | None = None

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in (self.x, self.y) if axis is not None)

    @property
    def is_region_shown(self) -> bool:
        """Return whether the test on other episodes confirms the region."""
        return self.region is not None and self.region.p_value * self.n_tests <= _SIGNIFICANT

    def is_judged(self, x_bin: int, y_bin: int) -> bool:
        """Return whether a cell holds enough episodes to be coloured."""
        return not self.remark and int(self.n_episodes[x_bin, y_bin]) >= LEAST_IN_CELL

    @property
    def sentence(self) -> str:
        """Return what the map says, in one sentence."""
        if self.remark:
            return self.remark
        if self.region is None:
            return "There are too few successes or failures to tell whether success depends on the start."
        inside, outside = (
            "{} of {}".format(*count) for count in (self.region.inside, self.region.outside)
        )
        found = f"{inside} succeed where {self._describe_region(self.region)}, {outside} elsewhere"
        tested = f"p = {self.region.p_value:.2g} on the {self.region.n_tested} episodes that this was not found on"
        tested += f", of {self.n_tests} tasks" if self.n_tests > 1 else ""
        if self.is_region_shown:
            return f"Success depends on the start: {found} ({tested})."
        return (
            f"It is not shown that success depends on the start; a hypothesis: {found} ({tested})."
        )

    @property
    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of the table behind the plot: a row for each cell that holds an episode."""
        head = (
            *(axis.label for axis in self.axes),
            "successes",
            "episodes",
            "rate",
            "95 % interval",
        )
        cells = product(*(range(n) for n in self.n_episodes.shape))
        return head, [
            self._table_row(cell) for cell in cells if self.axes and self.n_episodes[cell]
        ]

    def _table_row(self, cell: tuple[int, ...]) -> tuple[str, ...]:
        n_success, n = int(self.n_success[cell]), int(self.n_episodes[cell])
        low, high = compute_wilson_interval(n_success, n)
        bounds = (
            f"{axis.edges[i]:.3g} to {axis.edges[i + 1]:.3g}"
            for axis, i in zip(self.axes, cell, strict=False)
        )
        rates = f"{100 * n_success / n:.0f} %", f"{100 * low:.0f} % to {100 * high:.0f} %"
        return (*bounds, str(n_success), str(n), *rates)

    def _describe_region(self, region: StartRegion) -> str:
        return " and ".join(self._describe_condition(condition) for condition in region.conditions)

    def _describe_condition(self, condition: Condition) -> str:
        axis, side = self.axes[condition.variable], "≥" if condition.is_above else "<"
        return f"{axis.name} {side} {condition.threshold:.3g} {axis.unit}".rstrip()


def load_start_maps(run: Run, names: Sequence[str] = OBJECT_AXES[:2]) -> dict[str, StartMap]:
    """Return a map of each task that has rows, in the order of the tasks: objects of different tasks are different.

    So are those of different goals. Of a task with several, a recorded position is that of the goal
    that the verdict rests on, which depends on how the episode ended; such a task has no map of it.

    Args:
        names: one or two scalars, as for `load_start_scalars`.

    Raises:
        UnknownNameError: the run has no such scalar.
    """
    rows, is_of_table = run.rows, tuple(names) == OBJECT_AXES[:2]
    tasks = dict.fromkeys(row.task for row in rows)
    maps = {}
    for task in tasks:
        of_task = [row for row in rows if row.task == task]
        goals = {row.goal for row in of_task if row.is_judged}
        if len(goals) > 1 and not set(names).isdisjoint(OBJECT_AXES):
            maps[task] = _make_empty_map(
                f"The verdicts on this task rest on {len(goals)} goals with objects of their own, so there is no map."
            )
            continue
        x, *others = load_start_scalars(run, of_task, names)
        y = others[0] if others else None
        env_name = run.description.tasks.get(task, "")
        base = family_of(env_name).base_xy_m(path_in(env_name)) if is_of_table else None
        maps[task] = compute_start_map(of_task, x, y, base, len(tasks))
    return maps


def load_start_scalars(
    run: Run, rows: Sequence[EpisodeRow], names: Sequence[str]
) -> list[StartScalar]:
    """Return numbers of the initial states. Each is nan where the episode's file is lost or damaged.

    Args:
        names: "object x", "object y" or "object z" (of LIBERO, the object that the verdict rests
            on, world frame); a name in `EnvSpec.state_names`; or a column with numbers that the
            rows have and this version does not know.

    Raises:
        UnknownNameError: the run has no such scalar.
    """
    env = run.description.env
    units = dict(zip(env.state_names, env.state_units, strict=True))
    columns = {
        name for row in rows for name, value in row.extra.items() if isinstance(value, int | float)
    }
    known = [*OBJECT_AXES, *units, *sorted(columns)]
    for name in names:
        if name not in known:
            raise UnknownNameError("scalar of the initial state", name, known)
    arrays = {
        "object_pos_world" if name in OBJECT_AXES else "state"
        for name in names
        if name not in columns
    }
    values = [_read_starts(run, row, arrays, tuple(units)) | dict(row.extra) for row in rows]
    all_units = dict.fromkeys(OBJECT_AXES, "m") | units
    return [
        StartScalar(
            name,
            all_units.get(name, ""),
            np.array([_as_float(v.get(name)) for v in values], np.float64),
        )
        for name in names
    ]


def compute_start_map(
    rows: Sequence[EpisodeRow],
    x: StartScalar,
    y: StartScalar | None = None,
    base_xy_m: tuple[float, float] | None = None,
    n_tests: int = 1,
) -> StartMap:
    """Count the successes of one task's episodes by where they began.

    Args:
        rows: of one task; the values of `x` and `y` are in their order.
        base_xy_m: the robot's base, if the two scalars are places on its table.
        n_tests: maps among which a region is looked for.
    """
    scalars = [x] if y is None else [x, y]
    values = np.column_stack([scalar.values for scalar in scalars])
    is_judged = np.array([row.is_judged for row in rows], bool)
    is_placed = is_judged & np.isfinite(values).all(axis=1)
    chosen = sorted(np.flatnonzero(is_placed), key=lambda i: rows[i].episode_index)
    values, kept = values[chosen], [rows[i] for i in chosen]
    n_errors, n_unplaced = int((~is_judged).sum()), int((is_judged & ~is_placed).sum())
    varying = [i for i in range(len(scalars)) if len(kept) and np.ptp(values[:, i]) >= _SAME]
    if not varying:
        points = tuple(_make_point(row, value) for row, value in zip(kept, values, strict=True))
        empty = _make_empty_map(_describe_one_place(scalars, values))
        return replace(empty, points=points, n_errors=n_errors, n_unplaced=n_unplaced)
    values, scalars = values[:, varying], [scalars[i] for i in varying]
    success = np.array([row.success for row in kept], bool)
    axes = _make_axes(scalars, values)
    n_episodes, n_success = (_count_cells(axes, part) for part in (values, values[success]))
    has_cells = _find_most_cells(len(kept)) > 1
    least = next(n for n in range(1, 100) if _find_most_cells(n) > 1)
    remark = f"{_count_words(len(kept))} too few for a map of success by the start; it takes {least} or more."
    return StartMap(
        x=axes[0],
        y=axes[1] if len(axes) > 1 else None,
        n_success=n_success,
        n_episodes=n_episodes,
        points=tuple(_make_point(row, value) for row, value in zip(kept, values, strict=True)),
        n_errors=n_errors,
        n_unplaced=n_unplaced,
        remark="" if has_cells else remark,
        region=find_start_region(values, success) if has_cells else None,
        n_tests=n_tests,
        base_xy_m=base_xy_m if len(axes) > 1 else None,
    )


def _make_empty_map(remark: str) -> StartMap:
    nowhere = np.zeros((0, 0), np.int64)
    return StartMap(None, None, nowhere, nowhere, (), remark=remark)


def _make_axes(
    scalars: Sequence[StartScalar], values: Float[np.ndarray, "episode axis"]
) -> list[Axis]:
    """Return axes whose bins have the extent of the values, and cells that are about square."""
    low, high = values.min(axis=0), values.max(axis=0)
    is_to_scale = len({scalar.unit for scalar in scalars}) == 1
    extent = high - low if is_to_scale else np.ones(len(scalars))
    n_bins = _choose_bins(_find_most_cells(len(values)), extent)
    return [
        Axis(scalar.name, scalar.unit, np.linspace(low[i], high[i], n_bins[i] + 1))
        for i, scalar in enumerate(scalars)
    ]


def _choose_bins(n_cells: int, extent: Float[np.ndarray, " axis"]) -> tuple[int, ...]:
    """Return the numbers of bins whose product is at most `n_cells`: many cells, and none much longer than wide."""
    if len(extent) == 1:
        return (n_cells,)

    def cost(bins: tuple[int, ...]) -> float:
        width, height = extent / bins
        return abs(float(np.log(width / height))) - float(np.log(bins[0] * bins[1]))

    candidates = product(range(1, n_cells + 1), repeat=2)
    return min((bins for bins in candidates if bins[0] * bins[1] <= n_cells), key=cost)


@cache
def _find_most_cells(n: int) -> int:
    """Return the number of cells for n episodes: see the head of this file."""
    cells = np.arange(1, _MOST_CELLS + 1)
    allowed = cells[binom.cdf(LEAST_IN_CELL - 1, n, 1 / cells) <= _SHARE_OF_THIN_CELLS]
    return int(allowed.max()) if len(allowed) else 1


def _count_cells(
    axes: Sequence[Axis], values: Float[np.ndarray, "episode axis"]
) -> Int64[np.ndarray, "x_bin y_bin"]:
    counts, _ = np.histogramdd(values, [axis.edges for axis in axes])
    return counts.reshape(len(counts), -1).astype(np.int64)


def _make_point(row: EpisodeRow, value: Float[np.ndarray, " axis"]) -> StartPoint:
    return StartPoint(row, float(value[0]), float(value[1]) if len(value) > 1 else float("nan"))


def _describe_one_place(
    scalars: Sequence[StartScalar], values: Float[np.ndarray, "episode axis"]
) -> str:
    if not len(values):
        return "No episode that ran to its end has a recorded start."
    at = ", ".join(
        f"{scalar.name} {value:.3g} {scalar.unit}".rstrip()
        for scalar, value in zip(scalars, values[0], strict=True)
    )
    if len(values) == 1:
        return f"There is a single episode; it begins at {at}."
    return f"All {len(values)} episodes begin at one place ({at}), so success cannot depend on it."


def _count_words(n: int) -> str:
    return "1 episode is" if n == 1 else f"{n} episodes are"


def _read_starts(
    run: Run, row: EpisodeRow, arrays: set[str], state_names: tuple[str, ...]
) -> dict[str, float]:
    """Return the numbers in the first moment of the arrays; {} if the file is lost."""
    starts: dict[str, float] = {}
    try:
        for array in arrays:
            first = run.load_array(row, array)
            names = OBJECT_AXES if array == "object_pos_world" else state_names
            if first is not None and len(first):
                starts |= dict(zip(names, first[0].tolist(), strict=True))
    except WhiskerError:
        return {}
    return starts


def _as_float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
