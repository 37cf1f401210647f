"""Draws a `StartMap` as SVG: a heat map for two axes, bars for one, an episode as a mark, and a legend below.

The colours are variables of the page that holds the drawing, the same as the viewer's: `--text`,
`--soft`, `--line`, `--panel`, `--success`, `--failure` and `--accent` (the heat). Without them it
is drawn in the light theme. Outcomes differ in shape as well as in colour, so that nothing rests on
telling red from green.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from math import hypot
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Float64

from eval.outcome import find_facts, label_outcome, rank_outcome
from eval.proportions import compute_wilson_interval
from viz.report.start_map import LEAST_IN_CELL, Axis, StartMap, StartPoint

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 480.0, 70.0, 14.0, 12.0, 44.0
_PLOT_WIDTH = _WIDTH - _LEFT - _RIGHT
_BAR_HEIGHT = 190.0
_LEAST_HEIGHT, _MOST_HEIGHT = 150.0, 420.0
# Room around the outermost starts, as a share of their extent.
_MARGIN = 0.05
_LEAST_HEAT, _MOST_HEAT = 0.07, 0.55
_LEGEND_ROW, _CHARACTER = 21.0, 6.7
_MARK_PX = 5.0

_STYLE = """
.start-map { font: 13px/1 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-variant-numeric: tabular-nums }
.start-map text { fill: var(--text, #1b1f24) }
.start-map .soft { fill: var(--soft, #5c6672) }
.start-map .frame { fill: none; stroke: var(--line, #dcdfe4) }
.start-map .tick { stroke: var(--soft, #5c6672); fill: none }
.start-map .cell { fill: var(--accent, #1e5fd0); stroke: var(--panel, #fff); stroke-width: 2 }
.start-map .hatch { stroke: var(--soft, #5c6672); stroke-width: 1.2; opacity: 0.45 }
.start-map .count { font-weight: 600; paint-order: stroke; stroke: var(--panel, #fff); stroke-width: 3.5px;
  stroke-linejoin: round }
.start-map .success { fill: var(--success, #12873b) }
.start-map .failure { fill: var(--failure, #cc2f26) }
.start-map .mark { stroke: var(--panel, #fff); stroke-width: 1.4; paint-order: stroke }
.start-map .region { fill: none; stroke: var(--text, #1b1f24); stroke-width: 1.8; stroke-dasharray: 7 4 }
.start-map .hypothesis { stroke: var(--soft, #5c6672); stroke-width: 1.4; stroke-dasharray: 2 4 }
.start-map .interval { stroke: var(--text, #1b1f24); stroke-width: 1.6; fill: none }
.start-map .base { fill: var(--text, #1b1f24) }
"""

Link = Callable[[StartPoint], str | None]


def start_map_svg(start_map: StartMap, link: Link | None = None) -> str:
    """Return an `<svg>` element that can stand in a page; "" if the episodes have no starts that differ.

    Args:
        link: where a click on an episode's mark leads; None, or None for an episode: nowhere.
    """
    if not start_map.axes:
        return ""
    plot = _Bars(start_map) if start_map.y is None else _HeatMap(start_map)
    plot_parts = [*plot.draw(), *_draw_points(start_map, plot.place, link), *plot.draw_counts()]
    legend, height = _draw_legend(start_map, plot.height + _TOP + _BOTTOM + 8)
    pattern = (
        f'<pattern id="{_hatch_id(start_map)}" width="7" height="7" patternUnits="userSpaceOnUse" '
    )
    pattern += 'patternTransform="rotate(45)"><path class="hatch" d="M0 0V7"/></pattern>'
    head = f'<svg class="start-map" viewBox="0 0 {_WIDTH:g} {height:g}" role="img" '
    head += f'style="width:100%;max-width:{_WIDTH:g}px;height:auto" aria-label={quoteattr(start_map.sentence)}>'
    body = [f"<style>{_STYLE}</style><defs>{pattern}</defs>", *plot_parts, *legend]
    return "\n".join([head, *body, "</svg>"])


class _Scale:
    """Maps values of an axis to px; `high_px` may be less than `low_px`."""

    def __init__(self, axis: Axis, low_px: float, high_px: float) -> None:
        low, high = float(axis.edges[0]), float(axis.edges[-1])
        room = _MARGIN * (high - low)
        self.low, self.high = low - room, high + room
        self.low_px, self.high_px = low_px, high_px

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.low_px + share * (self.high_px - self.low_px)

    def clip(self, value: float) -> float:
        """Return the place of a value, or that of the end of the axis which is nearer to it."""
        return self(min(max(value, self.low), self.high))


class _HeatMap:
    """Cells coloured by their rate, over two axes; to scale if both have the same unit and neither is very long."""

    def __init__(self, start_map: StartMap) -> None:
        assert start_map.x is not None and start_map.y is not None
        self._map, self._axes = start_map, (start_map.x, start_map.y)
        self.height = _choose_height(*self._axes)
        self._x = _Scale(self._axes[0], _LEFT, _LEFT + _PLOT_WIDTH)
        self._y = _Scale(self._axes[1], _TOP + self.height, _TOP)

    def place(self, point: StartPoint) -> tuple[float, float]:
        return self._x(point.x), self._y(point.y)

    def draw(self) -> list[str]:
        parts = [_rect(_LEFT, _TOP, _PLOT_WIDTH, self.height, 'class="frame"')]
        if not self._map.remark:
            parts += [self._draw_cell(*cell) for cell in np.ndindex(self._map.n_episodes.shape)]
        parts += _draw_x_axis(self._axes[0], self._x, self.height) + _draw_y_axis(
            self._axes[1], self._y
        )
        return [*parts, *self._draw_region(), *self._draw_base()]

    def draw_counts(self) -> list[str]:
        """Write the number of each cell into its upper left corner, above the marks."""
        places = [
            (self._x(float(x)), self._y(float(y)))
            for x in self._axes[0].edges[:-1]
            for y in self._axes[1].edges[1:]
        ]
        return _draw_counts(self._map, places)

    def _draw_cell(self, i: int, j: int) -> str:
        (left, right), (bottom, top) = (
            (scale(float(axis.edges[k])), scale(float(axis.edges[k + 1])))
            for axis, scale, k in zip(self._axes, (self._x, self._y), (i, j), strict=True)
        )
        words = f"{self._map.n_success[i, j]} of {self._map.n_episodes[i, j]}"
        is_judged = self._map.is_judged(i, j)
        share = self._map.n_success[i, j] / max(1, self._map.n_episodes[i, j])
        fill = f'class="cell" fill-opacity="{_heat(float(share)):.3f}"'
        if not is_judged:
            fill = f'style="fill:url(#{_hatch_id(self._map)})"'
        title = f"{words} succeed" + (
            "" if is_judged else f": fewer than {LEAST_IN_CELL} episodes, too few to judge"
        )
        return _rect(left, top, right - left, bottom - top, fill, title)

    def _draw_region(self) -> list[str]:
        if self._map.region is None:
            return []
        limits = [[-np.inf, np.inf], [-np.inf, np.inf]]
        for condition in self._map.region.conditions:
            side = 0 if condition.is_above else 1
            limits[condition.variable][side] = condition.threshold
        (left, right), (bottom, top) = (
            (scale.clip(low), scale.clip(high))
            for scale, (low, high) in zip((self._x, self._y), limits, strict=True)
        )
        return [_rect(left, top, right - left, bottom - top, _region_class(self._map))]

    def _draw_base(self) -> list[str]:
        """Draw the robot's base, or an arrow at the border that points to it."""
        if self._map.base_xy_m is None:
            return []
        x, y = self._map.base_xy_m
        at = self._x.clip(x), self._y.clip(y)
        if (self._x(x), self._y(y)) == at:
            return [f'<circle class="base" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="6"/>']
        away = np.array([self._x(x) - at[0], self._y(y) - at[1]])
        degrees = np.degrees(np.arctan2(away[1], away[0]))
        return [f'<path class="base" d="M0 0L-12 -7V7Z" transform="translate({at[0]:.1f} {at[1]:.1f}) '
                f'rotate({degrees:.1f})"/>']  # fmt: skip


class _Bars:
    """A bar for each bin's rate with its Wilson 95 % interval; successes lie on the line of 100 %, others on 0 %."""

    height = _BAR_HEIGHT

    def __init__(self, start_map: StartMap) -> None:
        assert start_map.x is not None
        self._map, self._axis = start_map, start_map.x
        self._x = _Scale(self._axis, _LEFT, _LEFT + _PLOT_WIDTH)
        self._y = _Scale(Axis("success", "%", np.array([0.0, 100.0])), _TOP + self.height, _TOP)

    def place(self, point: StartPoint) -> tuple[float, float]:
        return self._x(point.x), self._y(100.0 if point.row.success else 0.0)

    def draw(self) -> list[str]:
        parts = [_rect(_LEFT, _TOP, _PLOT_WIDTH, self.height, 'class="frame"')]
        if not self._map.remark:
            parts += [part for i in range(len(self._map.n_episodes)) for part in self._draw_bar(i)]
        parts += _draw_x_axis(self._axis, self._x, self.height)
        return parts + _draw_y_axis(Axis("success", "%", np.array([0.0, 100.0])), self._y)

    def draw_counts(self) -> list[str]:
        return _draw_counts(
            self._map, [(self._x(float(x)), _TOP + 18) for x in self._axis.edges[:-1]]
        )

    def _draw_bar(self, i: int) -> list[str]:
        left, right = self._x(float(self._axis.edges[i])), self._x(float(self._axis.edges[i + 1]))
        n_success, n = int(self._map.n_success[i, 0]), int(self._map.n_episodes[i, 0])
        is_judged, middle = self._map.is_judged(i, 0), (left + right) / 2
        if not is_judged:
            fill = f'style="fill:url(#{_hatch_id(self._map)})"'
            title = f"fewer than {LEAST_IN_CELL} episodes, too few to judge"
            return [
                _rect(
                    left, self._y(100.0), right - left, self._y(0.0) - self._y(100.0), fill, title
                )
            ]
        rate, (low, high) = n_success / n, compute_wilson_interval(n_success, n)
        top = self._y(100 * rate)
        bar = _rect(
            left,
            top,
            right - left,
            self._y(0.0) - top,
            f'class="cell" fill-opacity="{_heat(rate):.3f}"',
        )
        ends = self._y(100 * low), self._y(100 * high)
        stroke = f"M{middle:.1f} {ends[0]:.1f}V{ends[1]:.1f}"
        stroke += "".join(f"M{middle - 5:.1f} {end:.1f}h10" for end in ends)
        return [bar, f'<path class="interval" d="{stroke}"/>']


def _draw_counts(start_map: StartMap, places: Sequence[tuple[float, float]]) -> list[str]:
    """Write how many succeed beside the upper left corner of each cell that holds an episode."""
    if start_map.remark:
        return []
    cells = zip(np.ndindex(start_map.n_episodes.shape), places, strict=True)
    return [
        _text(
            x + 6,
            y + 16,
            f"{start_map.n_success[cell]}/{start_map.n_episodes[cell]}",
            "count" if start_map.is_judged(*cell) else "count soft",
        )
        for cell, (x, y) in cells
        if start_map.n_episodes[cell]
    ]


def _region_class(start_map: StartMap) -> str:
    return 'class="region"' if start_map.is_region_shown else 'class="region hypothesis"'


def _choose_height(x: Axis, y: Axis) -> float:
    """Return the height of the plot to the same scale as its width, within what looks well."""
    if x.unit != y.unit:
        return 0.66 * _PLOT_WIDTH
    ratio = float(np.ptp(y.edges) / np.ptp(x.edges))
    return min(max(ratio * _PLOT_WIDTH, _LEAST_HEIGHT), _MOST_HEIGHT)


def _heat(share: float) -> float:
    """Return the opacity of a cell in which that share succeeded."""
    return _LEAST_HEAT + share * (_MOST_HEAT - _LEAST_HEAT)


def _draw_points(
    start_map: StartMap, place: Callable[[StartPoint], tuple[float, float]], link: Link | None
) -> list[str]:
    """Draw the failures first: they would be hidden less by the round marks of successes than the other way round."""
    size = _MARK_PX if len(start_map.points) <= 120 else 0.75 * _MARK_PX
    marks = []
    for point in sorted(start_map.points, key=lambda point: point.row.success):
        row = point.row
        happened = (
            f", {_in_words(row.decisive_event)} at step {row.decisive_step}"
            if row.decisive_event
            else ""
        )
        title = f"episode {row.episode_index}: {label_outcome(row.outcome)}" + (
            "" if row.success else happened
        )
        mark = _mark(row.outcome, row.success, *place(point), size, title)
        target = link(point) if link else None
        marks.append(f"<a href={quoteattr(target)}>{mark}</a>" if target else mark)
    return marks


def _mark(outcome: str, success: bool, x: float, y: float, size: float, title: str = "") -> str:
    kind, shape = "success" if success else "failure", find_facts(outcome).mark
    # The rim is 1.4 px wide at any size.
    transform = f'transform="translate({x:.1f} {y:.1f}) scale({size:g})" style="stroke-width:{2.2 / size:.3f}"'
    return f'<path class="mark {kind}" d="{shape}" {transform}>{_title(title)}</path>'


def _draw_x_axis(axis: Axis, scale: _Scale, height: float) -> list[str]:
    bottom = _TOP + height
    parts = []
    for value, words in _find_ticks(scale.low, scale.high):
        x = scale(value)
        parts.append(f'<path class="tick" d="M{x:.1f} {bottom:.1f}v4"/>')
        parts.append(_text(x, bottom + 17, words, "soft", "middle"))
    return [*parts, _text(_LEFT + _PLOT_WIDTH / 2, bottom + 36, axis.label, "", "middle")]


def _draw_y_axis(axis: Axis, scale: _Scale) -> list[str]:
    parts = []
    low, high = (0.0, 100.0) if axis.unit == "%" else (scale.low, scale.high)
    for value, words in _find_ticks(low, high):
        y = scale(value)
        parts.append(f'<path class="tick" d="M{_LEFT} {y:.1f}h-4"/>')
        parts.append(_text(_LEFT - 8, y + 4.5, words, "soft", "end"))
    middle = (scale.low_px + scale.high_px) / 2
    label = f'<text text-anchor="middle" transform="translate(13 {middle:.1f}) rotate(-90)">{escape(axis.label)}</text>'
    return [*parts, label]


def _find_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return four to eight round values within an interval, and how they are written."""
    raw = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= 0.8 * raw)
    n_digits = max(0, -int(np.floor(np.log10(step))))
    values: Float64[np.ndarray, " tick"] = (
        np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    )
    return [(float(value), f"{value + 0.0:.{n_digits}f}".replace("-", "−")) for value in values]


def _draw_legend(start_map: StartMap, top: float) -> tuple[list[str], float]:
    """Return the legend and the height of the whole drawing."""
    parts, x, y = [], _LEFT, top + 12
    for width, item in _list_legend(start_map):
        if x > _LEFT and x + width > _WIDTH:
            x, y = _LEFT, y + _LEGEND_ROW
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{item}</g>')
        x += width + 16
    return parts, y + 10


def _list_legend(start_map: StartMap) -> Iterable[tuple[float, str]]:
    """Return width [px] and drawing of each entry, whose origin is at its left on the middle line of the text."""

    def entry(drawing: str, words: str, indent: float = 22.0) -> tuple[float, str]:
        return indent + _CHARACTER * len(words), drawing + _text(indent, 4.5, words)

    present = {(point.row.outcome, point.row.success) for point in start_map.points}
    for outcome, success in sorted(present, key=lambda shown: (rank_outcome(shown[0]), shown)):
        yield entry(_mark(outcome, success, 8.0, 0.0, _MARK_PX), label_outcome(outcome), 19.0)
    if not start_map.remark:
        fills = (
            f'class="cell" style="stroke:none" fill-opacity="{_heat(i / 4):.3f}"' for i in range(5)
        )
        steps = [_rect(11.0 * i, -6.0, 11.0, 12.0, fill) for i, fill in enumerate(fills)]
        yield entry("".join(steps), "0 to 100 % succeed", 62.0)
    cells = list(np.ndindex(start_map.n_episodes.shape))
    if not start_map.remark and not all(start_map.is_judged(*cell) for cell in cells):
        hatched = _rect(0.0, -7.0, 22.0, 14.0, f'style="fill:url(#{_hatch_id(start_map)})"')
        yield entry(hatched, f"fewer than {LEAST_IN_CELL} episodes: too few to judge", 29.0)
    if start_map.region is not None and start_map.y is not None:
        words = (
            "succeeds more often"
            if start_map.is_region_shown
            else "perhaps succeeds more often (not shown)"
        )
        yield entry(_rect(1.0, -6.0, 24.0, 12.0, _region_class(start_map)), words, 32.0)
    if start_map.y is None and not start_map.remark:
        yield entry('<path class="interval" d="M8 -7V7M3 -7h10M3 7h10"/>', "95 % interval")
    if start_map.base_xy_m is not None:
        yield entry(*_describe_base(start_map.base_xy_m, start_map.axes))


def _describe_base(base_xy_m: tuple[float, float], axes: Sequence[Axis]) -> tuple[str, str]:
    beyond = [
        max(float(axis.edges[0]) - at, 0.0, at - float(axis.edges[-1]))
        for axis, at in zip(axes, base_xy_m, strict=True)
    ]
    if not any(beyond):
        return '<circle class="base" cx="8" cy="0" r="6"/>', "robot's base"
    return (
        '<path class="base" d="M1 0L13 -7V7Z"/>',
        f"to the robot's base, {hypot(*beyond):.2f} m from the nearest start",
    )


def _hatch_id(start_map: StartMap) -> str:
    """Return an id of its own for each map: a page holds several, and ids are the page's."""
    content = f"{start_map.axes}{start_map.n_episodes.tolist()}{start_map.n_success.tolist()}{start_map.points[:1]}"
    return f"hatch-{sha256(content.encode()).hexdigest()[:8]}"


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _rect(x: float, y: float, width: float, height: float, attributes: str, title: str = "") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {attributes}>{_title(title)}</rect>'


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
