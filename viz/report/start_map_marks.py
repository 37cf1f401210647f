"""The marks of a start map that its plots and its legend share."""

from hashlib import sha256

from markupsafe import Markup

from eval.outcome import find_facts
from viz.report.start_map import StartMap
from viz.report.svg import element, title

# Left and top, and width and height, in px.
Place = tuple[float, float]
Size = tuple[float, float]

MARK_PX = 5.0
# Width of the rim of a mark of any size, px.
_RIM_PX = 2.2
_LEAST_HEAT = 0.07
_MOST_HEAT = 0.55


def draw_mark(
    outcome: str,
    place: Place,
    size: float,
    words: str = "",
    *,
    success: bool,
) -> Markup:
    """Return the mark of an episode, in the shape of its outcome.

    Args:
        words: the hover text.
    """
    x, y = place
    kind = "success" if success else "failure"
    return element(
        "path",
        title(words),
        class_=f"mark {kind}",
        d=find_facts(outcome).mark,
        transform=f"translate({x:.1f} {y:.1f}) scale({size:g})",
        style=f"stroke-width:{_RIM_PX / size:.3f}",
    )


def draw_heat(
    place: Place,
    size: Size,
    share: float,
    words: str = "",
    *,
    is_outlined: bool = True,
) -> Markup:
    """Return a rectangle whose colour gets stronger with the share of successes."""
    opacity = _LEAST_HEAT + share * (_MOST_HEAT - _LEAST_HEAT)
    style = None if is_outlined else "stroke:none"
    return draw_rect(
        place,
        size,
        words,
        class_="cell",
        style=style,
        fill_opacity=f"{opacity:.3f}",
    )


def draw_hatched(
    start_map: StartMap,
    place: Place,
    size: Size,
    words: str = "",
) -> Markup:
    """Return a hatched rectangle, the mark of cells with too few episodes."""
    return draw_rect(
        place,
        size,
        words,
        style=f"fill:url(#{_hatch_id(start_map)})",
    )


def draw_region(
    start_map: StartMap,
    place: Place,
    size: Size,
) -> Markup:
    """Return the outline of the region from which the policy succeeds more often."""
    kind = "region" if start_map.is_region_shown else "region hypothesis"
    return draw_rect(place, size, class_=kind)


def draw_rect(
    place: Place,
    size: Size,
    words: str = "",
    **attributes: str | None,
) -> Markup:
    """Return a rectangle from left and top, width and height, with an optional hover text."""
    x, y = place
    width, height = size
    return element(
        "rect",
        title(words),
        x=x,
        y=y,
        width=width,
        height=height,
        **attributes,
    )


def draw_text(
    words: str,
    place: Place,
    kind: str | None = None,
    anchor: str = "start",
) -> Markup:
    """Return words at a place of the map."""
    x, y = place
    return element(
        "text",
        words,
        x=x,
        y=y,
        text_anchor=anchor,
        class_=kind,
    )


def draw_hatch_pattern(start_map: StartMap) -> Markup:
    """Return the pattern with which hatched rectangles are filled."""
    return element(
        "pattern",
        element("path", class_="hatch", d="M0 0V7"),
        id=_hatch_id(start_map),
        width=7,
        height=7,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )


def _hatch_id(start_map: StartMap) -> str:
    """Return an id that differs between maps, since ids are shared by all maps of a page."""
    parts = (
        start_map.axes,
        start_map.n_episodes.tolist(),
        start_map.n_success.tolist(),
        start_map.points[:1],
    )
    content = "".join(map(str, parts))
    digest = sha256(content.encode()).hexdigest()
    return f"hatch-{digest[:8]}"
