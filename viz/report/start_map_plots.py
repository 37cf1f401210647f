"""The two plots of a start map: a heat map over two axes, and bars over one."""

from collections.abc import Iterator, Sequence

import numpy as np
from markupsafe import Markup

from eval.proportions import compute_wilson_interval
from viz.report.start_cells import LEAST_IN_CELL, Axis
from viz.report.start_map import StartMap, StartPoint
from viz.report.start_map_axes import LEFT, PLOT_WIDTH, TOP, Scale, draw_x_axis, draw_y_axis
from viz.report.start_map_marks import (
    Place,
    draw_hatched,
    draw_heat,
    draw_rect,
    draw_region,
    draw_text,
)
from viz.report.svg import element

_BAR_HEIGHT = 190.0
_LEAST_HEIGHT = 150.0
_MOST_HEIGHT = 420.0
_TOO_FEW = f"fewer than {LEAST_IN_CELL} episodes, too few to judge"
_SUCCESS_AXIS = Axis("success", "%", np.array([0.0, 100.0]))


class _Plot:
    """The frame, the scales and the axes of a plot.

    Attributes:
        height: height of the plot without its margins, px.
    """

    def __init__(
        self,
        start_map: StartMap,
        y_axis: Axis,
        height: float,
    ) -> None:
        self.height = height
        self._map = start_map
        self._y_axis = y_axis
        self._bottom = TOP + height
        self._x = Scale(start_map.axes[0], LEFT, LEFT + PLOT_WIDTH)
        self._y = Scale(y_axis, self._bottom, TOP)

    def _draw_frame(self) -> Markup:
        return draw_rect((LEFT, TOP), (PLOT_WIDTH, self.height), class_="frame")

    def _draw_axes(self) -> Iterator[Markup]:
        yield from draw_x_axis(self._map.axes[0], self._x, self._bottom)
        yield from draw_y_axis(self._y_axis, self._y)


class HeatMap(_Plot):
    """Cells over two axes, coloured by success rate.

    The map is to scale if neither axis is very long.
    """

    def __init__(self, start_map: StartMap) -> None:
        x, y = start_map.axes
        super().__init__(start_map, y, _choose_height(x, y))

    def place(self, point: StartPoint) -> Place:
        return self._x(point.x), self._y(point.y)

    def draw(self) -> list[Markup]:
        parts = [self._draw_frame()]
        if not self._map.remark:
            for x_bin, y_bin in np.ndindex(self._map.n_episodes.shape):
                parts.append(self._draw_cell(x_bin, y_bin))
        parts += self._draw_axes()
        parts += self._draw_region()
        parts += self._draw_base()
        return parts

    def draw_counts(self) -> list[Markup]:
        """Return the number of each cell for its upper left corner, above the marks."""
        corners = []
        for x_bin, y_bin in np.ndindex(self._map.n_episodes.shape):
            left, _ = self._x.find_bin(x_bin)
            _, top = self._y.find_bin(y_bin)
            corners.append((left, top))
        return _draw_counts(self._map, corners)

    def _draw_cell(
        self,
        x_bin: int,
        y_bin: int,
    ) -> Markup:
        left, right = self._x.find_bin(x_bin)
        bottom, top = self._y.find_bin(y_bin)
        size = (right - left, bottom - top)
        n_success = int(self._map.n_success[x_bin, y_bin])
        n = int(self._map.n_episodes[x_bin, y_bin])
        words = f"{n_success} of {n} succeed"
        if not self._map.is_judged(x_bin, y_bin):
            return draw_hatched(
                self._map,
                (left, top),
                size,
                f"{words}: {_TOO_FEW}",
            )
        return draw_heat(
            (left, top),
            size,
            n_success / n,
            words,
        )

    def _draw_region(self) -> list[Markup]:
        if self._map.region is None:
            return []
        limits = np.tile([-np.inf, np.inf], (2, 1)).tolist()
        for condition in self._map.region.conditions:
            side = 0 if condition.is_above else 1
            limits[condition.variable][side] = condition.threshold
        left, right = map(self._x.clip, limits[0])
        bottom, top = map(self._y.clip, limits[1])
        size = (right - left, bottom - top)
        return [draw_region(self._map, (left, top), size)]

    def _draw_base(self) -> list[Markup]:
        """Return the robot's base, or an arrow at the border that points to it."""
        if self._map.base_xy_m is None:
            return []
        base_x, base_y = self._map.base_xy_m
        x = self._x.clip(base_x)
        y = self._y.clip(base_y)
        away_x = self._x(base_x) - x
        away_y = self._y(base_y) - y
        if not away_x and not away_y:
            return [element("circle", class_="base", cx=x, cy=y, r=6)]
        degrees = np.degrees(np.arctan2(away_y, away_x))
        transform = f"translate({x:.1f} {y:.1f}) rotate({degrees:.1f})"
        return [element("path", class_="base", d="M0 0L-12 -7V7Z", transform=transform)]


class Bars(_Plot):
    """A bar for the success rate of each bin, with its Wilson 95 % interval.

    Marks of successes lie at 100 %, and those of other episodes at 0 %.
    """

    def __init__(self, start_map: StartMap) -> None:
        super().__init__(start_map, _SUCCESS_AXIS, _BAR_HEIGHT)

    def place(self, point: StartPoint) -> Place:
        rate = 100.0 if point.row.success else 0.0
        return self._x(point.x), self._y(rate)

    def draw(self) -> list[Markup]:
        parts = [self._draw_frame()]
        if not self._map.remark:
            for i in range(len(self._map.n_episodes)):
                parts += self._draw_bar(i)
        parts += self._draw_axes()
        return parts

    def draw_counts(self) -> list[Markup]:
        corners = []
        for i in range(len(self._map.n_episodes)):
            left, _ = self._x.find_bin(i)
            corners.append((left, TOP + 18))
        return _draw_counts(self._map, corners)

    def _draw_bar(self, i: int) -> list[Markup]:
        left, right = self._x.find_bin(i)
        width = right - left
        bottom = self._y(0.0)
        if not self._map.is_judged(i, 0):
            top = self._y(100.0)
            size = (width, bottom - top)
            return [draw_hatched(self._map, (left, top), size, _TOO_FEW)]
        n_success = int(self._map.n_success[i, 0])
        n = int(self._map.n_episodes[i, 0])
        rate = n_success / n
        low, high = compute_wilson_interval(n_success, n)
        top = self._y(100 * rate)
        bar = draw_heat((left, top), (width, bottom - top), rate)
        middle = (left + right) / 2
        interval = _draw_interval(
            middle,
            self._y(100 * low),
            self._y(100 * high),
        )
        return [bar, interval]


def _draw_interval(
    x: float,
    low: float,
    high: float,
) -> Markup:
    line = f"M{x:.1f} {low:.1f}V{high:.1f}"
    ends = [f"M{x - 5:.1f} {end:.1f}h10" for end in (low, high)]
    return element(
        "path",
        class_="interval",
        d="".join([line, *ends]),
    )


def _draw_counts(
    start_map: StartMap,
    corners: Sequence[Place],
) -> list[Markup]:
    """Return the successes and episodes of each cell that holds an episode.

    Args:
        corners: the upper left corner of each cell.
    """
    if start_map.remark:
        return []
    counts = []
    cells = np.ndindex(start_map.n_episodes.shape)
    for cell, (x, y) in zip(cells, corners, strict=True):
        n = int(start_map.n_episodes[cell])
        if n:
            words = f"{start_map.n_success[cell]}/{n}"
            kind = "count" if start_map.is_judged(*cell) else "count soft"
            counts.append(draw_text(words, (x + 6, y + 16), kind))
    return counts


def _choose_height(x: Axis, y: Axis) -> float:
    """Return the height of the plot at the scale of its width, within reasonable limits."""
    ratio = float(np.ptp(y.edges) / np.ptp(x.edges))
    return min(max(ratio * PLOT_WIDTH, _LEAST_HEIGHT), _MOST_HEIGHT)
