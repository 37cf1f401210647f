"""The plots of a report as SVG elements. The mark of an episode links to its line in the list.

Colours are CSS classes of the page, named after outcomes. Where possible, text is HTML beside a
drawing, so that the drawing may be stretched.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, isnan

from markupsafe import Markup

from eval.outcome import find_facts, label_outcome
from viz.outcome_style import name_class
from viz.report.episodes import Episode, EventCount
from viz.report.svg import element, title
from viz.report.wording import in_words

_CELL_PX = 18
_GAP_PX = 2
_LONGEST_GRID_ROW = 50
_DOT_PX = 5
_EVENT_WIDTH = 600
_EVENT_ROW = 30
_TICKS = (1, 2, 5)
_MOST_TICKS = 8


def draw_stacked_bar(counts: dict[str, int]) -> Markup:
    """Return a bar with a segment for each outcome, as wide as its share."""
    total = sum(counts.values())
    segments = []
    x = 0.0
    for outcome, n in counts.items():
        if not n:
            continue
        width = 1000 * n / total
        segment = element(
            "rect",
            title(f"{label_outcome(outcome)}: {n}"),
            class_=name_class(outcome),
            x=x,
            width=max(width - 2, 1.0),
            height=20,
        )
        segments.append(segment)
        x += width
    return _draw_bar("stacked", "outcomes", segments)


def draw_interval(rate: float, interval: tuple[float, float]) -> Markup:
    """Return a rate with its interval on a scale from 0 to 100 %. It is empty if undefined."""
    parts = [element("rect", class_="rail", y=7, width=1000, height=6)]
    if not isnan(rate):
        low = 1000 * interval[0]
        width = max(1000 * interval[1] - low, 2.0)
        middle = 1000 * rate - 3
        x = min(max(middle, 0.0), 994.0)
        parts += [
            element("rect", class_="interval", x=low, y=3, width=width, height=14),
            element("rect", class_="rate", x=x, width=6, height=20),
        ]
    return _draw_bar("rate-bar", "success rate with its 95 % interval", parts)


def draw_share(
    n_passed: int,
    n_lost: int,
    total: int,
) -> Markup:
    """Return the bar of a stage, with the episodes that passed it and those that failed at it."""
    passed = 1000 * n_passed / total if total else 0.0
    lost = 1000 * n_lost / total if total else 0.0
    parts = [
        element("rect", class_="rail", width=1000, height=20),
        element("rect", class_="stage", width=passed, height=20),
        element("rect", class_="lost", x=passed, width=lost, height=20),
    ]
    return _draw_bar("stage-bar", f"{n_passed} of {total}", parts)


def draw_events(counts: Sequence[EventCount], longest: int) -> Markup:
    """Return the failures on a time axis of control steps, with a row of dots per decisive event.

    Dots that would overlap are stacked.

    Args:
        longest: number of control steps of the longest episode.
    """
    parts: list[Markup] = []
    y = 8.0
    for count in counts:
        places = [_to_x(step, longest) for step in count.steps]
        levels = _stack(places)
        n_levels = max(levels) + 1
        y += max(_EVENT_ROW, n_levels * 2 * _DOT_PX + 12)
        parts += _draw_event_row(count, places, levels, y)
    parts += _draw_step_axis(longest, y)
    view_box = f"0 0 {_EVENT_WIDTH} {y + 40:.0f}"
    return _draw("events", view_box, "decisive events by control step", parts)


def draw_grid(episodes: Sequence[Episode]) -> Markup:
    """Return a cell for each episode of a task in index order, coloured by outcome."""
    size = _CELL_PX + _GAP_PX
    cells = []
    for i, episode in enumerate(episodes):
        row, column = divmod(i, _LONGEST_GRID_ROW)
        cells.append(_draw_cell(episode, size * column, size * row))
    n_rows = ceil(len(episodes) / _LONGEST_GRID_ROW)
    n_columns = min(len(episodes), _LONGEST_GRID_ROW)
    width = size * n_columns - _GAP_PX
    height = size * n_rows - _GAP_PX
    view_box = f"0 0 {width} {height}"
    return _draw(
        "grid",
        view_box,
        "episodes by outcome",
        cells,
        style=f"width:{width}px",
    )


def _draw_event_row(
    count: EventCount,
    places: Sequence[float],
    levels: Sequence[int],
    bottom: float,
) -> Iterator[Markup]:
    base = bottom - 6 - _DOT_PX
    yield element(
        "path",
        class_="rule",
        d=f"M0 {bottom:.1f}H{_EVENT_WIDTH}",
    )
    yield element(
        "text",
        in_words(count.event),
        x=0,
        y=base + 4,
    )
    for episode, x, level in zip(count.episodes, places, levels, strict=True):
        dot = element(
            "circle",
            class_=name_class(episode.row.outcome),
            cx=x,
            cy=base - 2 * _DOT_PX * level,
            r=_DOT_PX,
        )
        yield _link(episode, dot)


def _draw_step_axis(longest: int, y: float) -> Iterator[Markup]:
    """Yield the ticks and the label of the axis of control steps, below y."""
    for step in _choose_ticks(longest):
        x = _to_x(step, longest)
        yield element(
            "path",
            class_="tick",
            d=f"M{x:.1f} {y:.1f}v5",
        )
        yield _write(str(step), "middle", x, y + 19)
    yield _write("control step", "end", _EVENT_WIDTH, y + 36)


def _write(
    words: str,
    anchor: str,
    x: float | int,
    y: float,
) -> Markup:
    return element(
        "text",
        words,
        class_="soft",
        text_anchor=anchor,
        x=x,
        y=y,
    )


def _draw_cell(
    episode: Episode,
    x: int,
    y: int,
) -> Markup:
    outcome = episode.row.outcome
    letter = find_facts(outcome).letter
    cell = element(
        "rect",
        class_=name_class(outcome),
        x=x,
        y=y,
        width=_CELL_PX,
        height=_CELL_PX,
        rx=3,
    )
    if letter:
        middle = x + _CELL_PX / 2
        cell += element(
            "text",
            letter,
            class_="letter",
            text_anchor="middle",
            x=middle,
            y=y + 13,
        )
    return _link(episode, cell)


def _link(episode: Episode, drawing: Markup) -> Markup:
    return element(
        "a",
        title(episode.title),
        drawing,
        href=f"#{episode.anchor}",
    )


def _draw_bar(
    name: str,
    label: str,
    parts: Iterable[Markup],
) -> Markup:
    """Return a drawing of 1000 by 20 units that is stretched to the room it gets."""
    return _draw(name, "0 0 1000 20", label, parts, preserveAspectRatio="none")


def _draw(
    name: str,
    view_box: str,
    label: str,
    parts: Iterable[Markup],
    **attributes: str,
) -> Markup:
    return element(
        "svg",
        *parts,
        class_=name,
        viewBox=view_box,
        role="img",
        aria_label=label,
        **attributes,
    )


def _to_x(step: int, longest: int) -> float:
    """Return the place of a control step on the axis, to the right of the names."""
    left = 130
    right = _EVENT_WIDTH - 16
    return left + (right - left) * step / max(longest, 1)


def _stack(places: Sequence[float]) -> list[int]:
    """Return the lowest level for each dot at which it overlaps none before it. Places ascend."""
    last_at: list[float] = []
    levels = []
    for x in places:
        free_levels = (i for i, last in enumerate(last_at) if x - last >= 2 * _DOT_PX)
        level = next(free_levels, len(last_at))
        last_at[level : level + 1] = [x]
        levels.append(level)
    return levels


def _choose_ticks(longest: int) -> range:
    """Return at most eight steps at a round distance."""
    powers = (10**k for k in range(9))
    distances = (power * n for power in powers for n in _TICKS)
    distance = next(d for d in distances if longest / d <= _MOST_TICKS)
    return range(0, longest + 1, distance)
