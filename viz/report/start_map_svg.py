"""Draws a `StartMap` as SVG: a heat map for two axes, bars for one, and episodes as marks.

The colours are variables of the surrounding page, the same as the viewer's: `--text`, `--soft`,
`--line`, `--panel`, `--success`, `--failure` and `--accent` (the heat). Without them the drawing
has the colours of the light theme. Outcomes differ in shape as well as in colour, so that nobody
has to tell red from green.
"""

from collections.abc import Callable

from markupsafe import Markup

from eval.outcome import label_outcome
from viz.report.start_map import StartMap, StartPoint
from viz.report.start_map_axes import BOTTOM, TOP, WIDTH
from viz.report.start_map_legend import draw_legend
from viz.report.start_map_marks import MARK_PX, draw_hatch_pattern, draw_mark
from viz.report.start_map_plots import Bars, HeatMap
from viz.report.svg import element
from viz.report.wording import in_words

# Above this number of episodes their marks are smaller.
_MANY_POINTS = 120

_STYLE = """
.start-map { font: 13px/1 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums }
.start-map text { fill: var(--text, #1b1f24) }
.start-map .soft { fill: var(--soft, #5c6672) }
.start-map .frame { fill: none; stroke: var(--line, #dcdfe4) }
.start-map .tick { stroke: var(--soft, #5c6672); fill: none }
.start-map .cell { fill: var(--accent, #1e5fd0); stroke: var(--panel, #fff); stroke-width: 2 }
.start-map .hatch { stroke: var(--soft, #5c6672); stroke-width: 1.2; opacity: 0.45 }
.start-map .count { font-weight: 600; paint-order: stroke; stroke: var(--panel, #fff);
  stroke-width: 3.5px; stroke-linejoin: round }
.start-map .success { fill: var(--success, #12873b) }
.start-map .failure { fill: var(--failure, #cc2f26) }
.start-map .mark { stroke: var(--panel, #fff); stroke-width: 1.4; paint-order: stroke }
.start-map .region { fill: none; stroke: var(--text, #1b1f24); stroke-width: 1.8;
  stroke-dasharray: 7 4 }
.start-map .hypothesis { stroke: var(--soft, #5c6672); stroke-width: 1.4; stroke-dasharray: 2 4 }
.start-map .interval { stroke: var(--text, #1b1f24); stroke-width: 1.6; fill: none }
.start-map .base { fill: var(--text, #1b1f24) }
"""

Link = Callable[[StartPoint], str | None]


def start_map_svg(start_map: StartMap, link: Link | None = None) -> str:
    """Return an `<svg>` element for a page; "" if the starts of the episodes do not differ.

    Args:
        link: returns the target of an episode's mark, or None for a mark without a link.
    """
    if not start_map.axes:
        return ""
    plot = HeatMap(start_map) if len(start_map.axes) > 1 else Bars(start_map)
    legend, height = draw_legend(start_map, plot.height + TOP + BOTTOM + 8)
    drawing = element(
        "svg",
        element("style", Markup(_STYLE)),
        element("defs", draw_hatch_pattern(start_map)),
        *plot.draw(),
        *_draw_points(start_map, plot, link),
        *plot.draw_counts(),
        *legend,
        class_="start-map",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        style=f"width:100%;max-width:{WIDTH:g}px;height:auto",
        aria_label=start_map.sentence,
    )
    return str(drawing)


def _draw_points(
    start_map: StartMap,
    plot: Bars | HeatMap,
    link: Link | None,
) -> list[Markup]:
    """Draw a mark for each episode.

    Failures come first, since the round marks of successes hide less of them than they would hide
    of the successes.
    """
    size = MARK_PX if len(start_map.points) <= _MANY_POINTS else 0.75 * MARK_PX
    marks = []
    for point in sorted(start_map.points, key=lambda point: point.row.success):
        x, y = plot.place(point)
        words = _describe_point(point)
        mark = draw_mark(
            point.row.outcome,
            (x, y),
            size,
            words,
            success=point.row.success,
        )
        target = link(point) if link else None
        marks.append(element("a", mark, href=target) if target else mark)
    return marks


def _describe_point(point: StartPoint) -> str:
    row = point.row
    words = f"episode {row.episode_index}: {label_outcome(row.outcome)}"
    if row.success or not row.decisive_event:
        return words
    event = in_words(row.decisive_event)
    return f"{words}, {event} at step {row.decisive_step}"
