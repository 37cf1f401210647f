"""The legend of a start map."""

from collections.abc import Iterator
from math import hypot

import numpy as np
from markupsafe import Markup

from eval.outcome import label_outcome, rank_outcome
from viz.report.start_cells import LEAST_IN_CELL
from viz.report.start_map import StartMap
from viz.report.start_map_axes import LEFT, WIDTH
from viz.report.start_map_marks import (
    MARK_PX,
    draw_hatched,
    draw_heat,
    draw_mark,
    draw_region,
    draw_text,
)
from viz.report.svg import element

_ROW_PX = 21.0
_CHARACTER_PX = 6.7
_GAP_PX = 16

# An entry is its width in px and its drawing. The origin of the drawing is at its left end, on the
# middle line of the text.
_Entry = tuple[float, Markup]


def draw_legend(start_map: StartMap, top: float) -> tuple[list[Markup], float]:
    """Return the legend, and the height of the whole drawing."""
    parts = []
    x = LEFT
    y = top + 12
    for width, drawing in _list_entries(start_map):
        if x > LEFT and x + width > WIDTH:
            x = LEFT
            y += _ROW_PX
        transform = f"translate({x:.1f} {y:.1f})"
        parts.append(element("g", drawing, transform=transform))
        x += width + _GAP_PX
    return parts, y + 10


def _list_entries(start_map: StartMap) -> Iterator[_Entry]:
    yield from _list_outcomes(start_map)
    if not start_map.remark:
        yield from _list_cells(start_map)
    is_heat_map = len(start_map.axes) > 1
    if start_map.region is not None and is_heat_map:
        yield _make_region_entry(start_map)
    if not is_heat_map and not start_map.remark:
        interval = element("path", class_="interval", d="M8 -7V7M3 -7h10M3 7h10")
        yield _make_entry(interval, "95 % interval")
    if start_map.base_xy_m is not None:
        yield _make_base_entry(start_map, start_map.base_xy_m)


def _list_outcomes(start_map: StartMap) -> Iterator[_Entry]:
    present = {(point.row.outcome, point.row.success) for point in start_map.points}
    in_order = sorted(present, key=lambda shown: (rank_outcome(shown[0]), shown))
    for outcome, success in in_order:
        mark = draw_mark(
            outcome,
            (8.0, 0.0),
            MARK_PX,
            success=success,
        )
        yield _make_entry(mark, label_outcome(outcome), 19.0)


def _list_cells(start_map: StartMap) -> Iterator[_Entry]:
    heats = Markup("")
    for i in range(5):
        heats += draw_heat(
            (11.0 * i, -6.0),
            (11.0, 12.0),
            i / 4,
            is_outlined=False,
        )
    yield _make_entry(heats, "0 to 100 % succeed", 62.0)
    cells = np.ndindex(start_map.n_episodes.shape)
    if not all(start_map.is_judged(*cell) for cell in cells):
        hatched = draw_hatched(start_map, (0.0, -7.0), (22.0, 14.0))
        words = f"fewer than {LEAST_IN_CELL} episodes: too few to judge"
        yield _make_entry(hatched, words, 29.0)


def _make_region_entry(start_map: StartMap) -> _Entry:
    words = "may succeed more often (not confirmed)"
    if start_map.is_region_shown:
        words = "succeeds more often"
    return _make_entry(
        draw_region(start_map, (1.0, -6.0), (24.0, 12.0)),
        words,
        32.0,
    )


def _make_base_entry(start_map: StartMap, base_xy_m: tuple[float, float]) -> _Entry:
    beyond = []
    for axis, at in zip(start_map.axes, base_xy_m, strict=True):
        below = float(axis.edges[0]) - at
        above = at - float(axis.edges[-1])
        beyond.append(max(below, 0.0, above))
    if not any(beyond):
        base = element(
            "circle",
            class_="base",
            cx=8,
            cy=0,
            r=6,
        )
        return _make_entry(base, "robot's base")
    arrow = element("path", class_="base", d="M1 0L13 -7V7Z")
    words = f"to the robot's base, {hypot(*beyond):.2f} m from the nearest start"
    return _make_entry(arrow, words)


def _make_entry(
    drawing: Markup,
    words: str,
    indent: float = 22.0,
) -> _Entry:
    width = indent + _CHARACTER_PX * len(words)
    return width, drawing + draw_text(words, (indent, 4.5))
