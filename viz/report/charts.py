"""The plots of a report as SVG elements, in the page's own colours; each mark that is an episode leads to its line.

A colour is a CSS class that is named for an outcome. Text is HTML beside the drawings where it can
be, so that they may be stretched; all that comes from a run is escaped here.
"""

from collections.abc import Iterable, Sequence
from math import ceil, isnan

from markupsafe import Markup, escape

from eval.outcome import find_facts, label_outcome
from viz.outcome_style import name_class
from viz.report.content import Episode, EventCount

_CELL_PX, _GAP_PX = 18, 2
_LONGEST_GRID_ROW = 50
_DOT_PX = 5
_EVENT_WIDTH, _EVENT_ROW = 600, 30
_TICKS = (1, 2, 5)


def draw_stacked_bar(counts: dict[str, int]) -> Markup:
    """Return a bar of the outcomes, each as wide as its share."""
    total, x, parts = sum(counts.values()), 0.0, []
    for outcome, n in counts.items():
        if n:
            width = 1000 * n / total
            title = f"{label_outcome(outcome)}: {n}"
            parts.append(
                f'<rect class="{name_class(outcome)}" x="{x:.1f}" width="{max(width - 2, 1):.1f}" height="20">'
                f"<title>{escape(title)}</title></rect>"
            )
            x += width
    return _svg("stacked", "0 0 1000 20", parts, "outcomes", stretches=True)


def draw_interval(rate: float, interval: tuple[float, float]) -> Markup:
    """Return a rate on a scale from 0 to 100 %, with its interval; an empty scale where it is undefined."""
    parts = ['<rect class="rail" y="7" width="1000" height="6"/>']
    if not isnan(rate):
        low, high = (1000 * end for end in interval)
        parts.append(
            f'<rect class="interval" x="{low:.1f}" y="3" width="{max(high - low, 2):.1f}" height="14"/>'
        )
        parts.append(
            f'<rect class="rate" x="{min(max(1000 * rate - 3, 0), 994):.1f}" width="6" height="20"/>'
        )
    return _svg(
        "rate-bar", "0 0 1000 20", parts, "success rate with its 95 % interval", stretches=True
    )


def draw_share(n: int, n_lost: int, total: int) -> Markup:
    """Return the bar of a stage: who came through, and who came to it and did not."""
    through, lost = (1000 * part / total if total else 0 for part in (n, n_lost))
    parts = [
        '<rect class="rail" width="1000" height="20"/>',
        f'<rect class="stage" width="{through:.1f}" height="20"/>',
        f'<rect class="lost" x="{through:.1f}" width="{lost:.1f}" height="20"/>',
    ]
    return _svg("stage-bar", "0 0 1000 20", parts, f"{n} of {total}", stretches=True)


def draw_events(counts: Sequence[EventCount], longest: int) -> Markup:
    """Return the failures on a time axis of control steps, one row of dots for each decisive event.

    Dots that would cover each other are put above each other.

    Args:
        longest: control steps of the longest episode.
    """
    parts, y = [], 8.0
    for count in counts:
        levels = _stack([_to_x(episode.row.shown_step, longest) for episode in count.episodes])
        height = max(_EVENT_ROW, (max(levels) + 1) * 2 * _DOT_PX + 12)
        base = y + height - 6 - _DOT_PX
        parts.append(f'<path class="rule" d="M0 {y + height:.1f}H{_EVENT_WIDTH}"/>')
        parts.append(
            f'<text x="0" y="{base + 4:.1f}">{escape(count.event.replace("_", " "))}</text>'
        )
        for episode, level in zip(count.episodes, levels, strict=True):
            x, dot_y = _to_x(episode.row.shown_step, longest), base - 2 * _DOT_PX * level
            dot = f'<circle class="{name_class(episode.row.outcome)}" cx="{x:.1f}" cy="{dot_y:.1f}" r="{_DOT_PX}"/>'
            parts.append(_linked(episode, dot))
        y += height
    for step in _choose_ticks(longest):
        x = _to_x(step, longest)
        parts.append(f'<path class="tick" d="M{x:.1f} {y:.1f}v5"/>')
        parts.append(
            f'<text class="soft" text-anchor="middle" x="{x:.1f}" y="{y + 19:.1f}">{step}</text>'
        )
    parts.append(
        f'<text class="soft" text-anchor="end" x="{_EVENT_WIDTH}" y="{y + 36:.1f}">control step</text>'
    )
    return _svg(
        "events", f"0 0 {_EVENT_WIDTH} {y + 40:.0f}", parts, "decisive events by control step"
    )


def draw_grid(episodes: Sequence[Episode]) -> Markup:
    """Return a cell for each episode of a task, in the order of their indices, coloured by outcome."""
    size = _CELL_PX + _GAP_PX
    n_columns = min(len(episodes), _LONGEST_GRID_ROW)
    parts = []
    for i, episode in enumerate(episodes):
        x, y = size * (i % _LONGEST_GRID_ROW), size * (i // _LONGEST_GRID_ROW)
        outcome = episode.row.outcome
        letter = find_facts(outcome).letter
        cell = f'<rect class="{name_class(outcome)}" x="{x}" y="{y}" width="{_CELL_PX}" height="{_CELL_PX}" rx="3"/>'
        if letter:
            cell += f'<text class="letter" text-anchor="middle" x="{x + _CELL_PX / 2}" y="{y + 13}">{letter}</text>'
        parts.append(_linked(episode, cell))
    height = size * ceil(len(episodes) / _LONGEST_GRID_ROW) - _GAP_PX
    width = size * n_columns - _GAP_PX
    style = f' style="width:{width}px"'
    return _svg("grid", f"0 0 {width} {height}", parts, "episodes by outcome", style)


def _linked(episode: Episode, drawing: str) -> str:
    return (
        f'<a href="#{escape(episode.anchor)}"><title>{escape(episode.title)}</title>{drawing}</a>'
    )


def _svg(
    name: str,
    view_box: str,
    parts: Iterable[str],
    label: str,
    style: str = "",
    *,
    stretches: bool = False,
) -> Markup:
    fit = ' preserveAspectRatio="none"' if stretches else ""
    head = f'<svg class="{name}" viewBox="{view_box}"{fit}{style} role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")


def _to_x(step: int, longest: int) -> float:
    """Return the place of a control step on the axis, to the right of the names."""
    left, right = 130, _EVENT_WIDTH - 16
    return left + (right - left) * step / max(longest, 1)


def _stack(places: Sequence[float]) -> list[int]:
    """Return for each dot, in ascending order of places, the lowest level at which it covers no dot before it."""
    last_at: list[float] = []
    levels = []
    for x in places:
        level = next((i for i, last in enumerate(last_at) if x - last >= 2 * _DOT_PX), len(last_at))
        last_at[level : level + 1] = [x]
        levels.append(level)
    return levels


def _choose_ticks(longest: int) -> range:
    """Return steps at round distances, at most eight."""
    distance = next(
        ten * n for ten in (10**k for k in range(9)) for n in _TICKS if longest / (ten * n) <= 8
    )
    return range(0, longest + 1, distance)
