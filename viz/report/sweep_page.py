"""Writes the page of a sweep: a curve of success with intervals, whose points open the runs."""

from collections.abc import Sequence
from math import log
from pathlib import Path

from markupsafe import Markup

from eval.sweep import Sweep, load_sweep
from eval.sweep_result import SweepPoint, describe_sweep, read_points
from sim.files import atomic_write
from viz.report.html_page import make_style, render
from viz.report.provenance import describe_command
from viz.report.svg import element, title

SWEEP_PAGE = "sweep.html"
_WIDTH = 900
_HEIGHT = 340
_LEFT = 56
_RIGHT = 30
_TOP = 16
_BOTTOM = 54


def write_sweep_page(folder: Path) -> Path:
    """Write `sweep.html` into the folder of a sweep and return its path.

    Raises:
        WhiskerError: the folder is no sweep, or one of its runs is damaged.
    """
    sweep = load_sweep(folder)
    points = read_points(folder, sweep)
    page = folder / SWEEP_PAGE
    html = render(
        "sweep.html.j2",
        style=Markup(make_style()),
        flag=sweep.flag.replace("_", " "),
        points=list(points.values()),
        curve=_draw_curve(sweep, list(points.values())),
        sentences=list(describe_sweep(sweep, points)),
        links={point.label: _link(point) for point in points.values()},
        commands={
            point.label: describe_command(point.run.description) for point in points.values()
        },
    )
    with atomic_write(page) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    return page


def place_points(labels: Sequence[str]) -> list[float]:
    """Return the horizontal place of each point, from 0 to 1.

    Numbers are placed to scale, on a logarithmic one if they span more than a factor of ten; other
    labels at equal distances.
    """

    n = len(labels)
    try:
        values = [float(label) for label in labels]
    except ValueError:
        return [i / (n - 1) if n > 1 else 0.5 for i in range(n)]
    if min(values) > 0 and max(values) > 10 * min(values):
        values = [log(value) for value in values]
    span = max(values) - min(values)
    return [(value - min(values)) / span if span else 0.5 for value in values]


def _draw_curve(sweep: Sweep, points: Sequence[SweepPoint]) -> Markup:
    """Return rates with their intervals over the values of the flag; each links to its report."""
    xs = [_LEFT + 20 + x * (_WIDTH - _LEFT - _RIGHT - 40) for x in _places_of(points)]
    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = _to_y(percent / 100)
        parts.append(
            element(
                "line",
                class_="grid",
                x1=_LEFT,
                x2=_WIDTH - _RIGHT,
                y1=y,
                y2=y,
            )
        )
        parts.append(
            element(
                "text",
                f"{percent} %",
                class_="axis",
                x=_LEFT - 8,
                y=y + 4,
                text_anchor="end",
            )
        )
    ordered = sorted(zip(xs, points, strict=True), key=lambda pair: pair[0])
    line = " ".join(f"{x:.1f},{_to_y(point.summary.success_rate):.1f}" for x, point in ordered)
    parts.append(element("polyline", class_="curve", points=line))
    for x, point in ordered:
        parts.append(_draw_point(x, point))
        parts.append(
            element(
                "text",
                point.label,
                class_="axis",
                x=x,
                y=_HEIGHT - _BOTTOM + 22,
                text_anchor="middle",
            )
        )
    name = element(
        "text",
        sweep.flag.replace("_", " "),
        class_="axis",
        x=(_LEFT + _WIDTH - _RIGHT) / 2,
        y=_HEIGHT - 8,
        text_anchor="middle",
    )
    return element(
        "svg",
        *parts,
        name,
        class_="sweep",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label="success rate by value, with 95 % intervals",
    )


def _draw_point(x: float, point: SweepPoint) -> Markup:
    low, high = point.interval
    rate = point.summary.success_rate
    said = f"{point.label}: {rate:.1%} ({low:.1%} to {high:.1%}) {point.standing}".strip()
    return element(
        "a",
        element(
            "line",
            class_="interval",
            x1=x,
            x2=x,
            y1=_to_y(low),
            y2=_to_y(high),
        ),
        element(
            "circle",
            title(said),
            class_=_class_of(point),
            cx=x,
            cy=_to_y(rate),
            r=7.0,
        ),
        href=_link(point),
    )


def _places_of(points: Sequence[SweepPoint]) -> list[float]:
    return place_points([point.label for point in points])


def _class_of(point: SweepPoint) -> str:
    """Return the CSS class: "best", "like-the-best", "worse", "left-out" or "point"."""
    return f"mark {point.standing.replace(' ', '-') or 'point'}"


def _to_y(rate: float) -> float:
    return _TOP + (1 - rate) * (_HEIGHT - _TOP - _BOTTOM)


def _link(point: SweepPoint) -> str:
    """Return the address of a run's report, relative to the page."""
    return f"{point.run.path.name}/report.html"
