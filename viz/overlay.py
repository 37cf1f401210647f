"""Draws whiskers into camera images: the current plan, earlier plans and the path that was taken.

The lines are never hidden: a line behind the robot or the table is drawn over it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil, sqrt

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from eval.episode_arrays import EpisodeArrays
from viz.overlay_style import (
    ENSEMBLE_LABEL,
    HALO_OPACITY,
    HALO_WIDER_PX,
    HALOS,
    IMAGE_WIDTH_PX,
    LAYERS,
    LEAST_TRAIL_S,
    LINES,
    N_GHOSTS,
    TRAILS,
    Colour,
    LineStyle,
)
from viz.whiskers import Steps, Whiskers, find_prediction

# Everything closer to the camera than this along its axis is cut off, m. Otherwise (u, v) would
# grow without bound.
_NEAR_M = 0.01
# Lines are drawn this many times as large and scaled down, because OpenCV's own antialiased lines
# are up to 2.5 px too wide.
_OVERSAMPLING = 8
# OpenCV takes coordinates as integers with this many fractional bits.
_SHIFT = 4
_LABEL_COLOUR = (25, 25, 25)

_Image = UInt8[np.ndarray, "height width 3"]
_Projection = Float64[np.ndarray, "3 4"]
_Polyline = Float64[np.ndarray, "_moment 3"]
_Polyline2D = Float64[np.ndarray, "_moment 2"]
_Point = Float64[np.ndarray, "3"]


@dataclass(frozen=True)
class Overlay:
    """Holds the lines of one moment of an episode, as positions of the tool centre point, m, world.

    Attributes:
        tool: the current position.
        plan: the current plan from here on.
        n_to_execute: number of its remaining steps that will be executed.
        taken: the path taken so far, or its last part.
        ghosts: the complete plans before it, the latest first; at most `N_GHOSTS`.
        alternatives: the other plans that were sampled with the current one.
        intermediate_plans: the intermediate plans of the current one, the oldest first.
    """

    tool: _Point
    plan: _Polyline
    n_to_execute: int
    taken: _Polyline
    ghosts: Sequence[_Polyline] = ()
    alternatives: Sequence[_Polyline] = ()
    intermediate_plans: Sequence[_Polyline] = ()


def find_trail_begin(
    prediction_step: Steps,
    step: int,
    control_dt_s: float,
    n_plans: int = TRAILS[0],
) -> int:
    """Return the control step at which the drawn part of the path taken begins.

    Args:
        prediction_step: the control step of each prediction.
        step: the control step that is drawn.
        control_dt_s: duration of a control step, s.
        n_plans: the path is drawn since the beginning of this many plans, the current one included.
            0 draws all of it.
    """
    first_plan = find_prediction(prediction_step, step) + 1 - n_plans
    if n_plans == 0 or first_plan < 0:
        return 0
    latest_begin = step - ceil(LEAST_TRAIL_S / control_dt_s)
    return max(0, min(int(prediction_step[first_plan]), latest_begin))


def compute_overlay(
    whiskers: Whiskers,
    arrays: EpisodeArrays,
    step: int,
    trail_begin: int = 0,
) -> Overlay:
    """Return the lines before a control step. A prediction made at that step is the current one.

    Args:
        whiskers: the whiskers of the episode.
        arrays: the arrays of the episode.
        step: the control step.
        trail_begin: the control step at which the drawn part of the path taken begins.
    """
    current = whiskers.prediction_at(step)
    n_since = step - int(whiskers.prediction_step[current])
    paths = whiskers.path_world
    earlier_plans = paths[max(0, current - N_GHOSTS) : current, 0]
    intermediate_plans: Sequence[_Polyline] = ()
    if whiskers.intermediate_path_world is not None:
        intermediate_plans = list(whiskers.intermediate_path_world[current])
    return Overlay(
        tool=arrays.ee_pos_world[step],
        plan=paths[current, 0, n_since:],
        n_to_execute=int(whiskers.n_executed[current]) - n_since,
        taken=arrays.ee_pos_world[trail_begin : step + 1],
        ghosts=list(earlier_plans[::-1]),
        alternatives=list(paths[current, 1:]),
        intermediate_plans=intermediate_plans,
    )


def project_path(projection: _Projection, path: _Polyline) -> list[_Polyline2D]:
    """Return the pieces of a path in front of the camera, as (u, v) of `Drawable.projection`, px.

    A path that crosses the plane 1 cm in front of the camera is cut exactly there. A piece ends
    before nan.
    """
    homogeneous = np.column_stack([path, np.ones(len(path))])
    in_camera = homogeneous @ projection.T
    is_visible = in_camera[:, 2] >= _NEAR_M
    if len(path) and is_visible.all():
        return [in_camera[:, :2] / in_camera[:, 2:]]
    pieces: list[list[np.ndarray]] = []
    is_open = False
    for start, end in pairwise(in_camera):
        visible = _cut_at_near_plane(start, end)
        if visible is None:
            is_open = False
            continue
        if not is_open:
            pieces.append([visible[0]])
        pieces[-1].append(visible[1])
        is_open = bool(end[2] >= _NEAR_M)
    stacked = map(np.array, pieces)
    return [points[:, :2] / points[:, 2:] for points in stacked]


def _cut_at_near_plane(
    start: _Point,
    end: _Point,
) -> tuple[_Point, _Point] | None:
    """Return the part of a segment of (w u, w v, w) with w ≥ `_NEAR_M`.

    These coordinates are linear along the segment; (u, v) are not.
    """
    start_depth_m = start[2]
    end_depth_m = end[2]
    start_is_visible = start_depth_m >= _NEAR_M
    end_is_visible = end_depth_m >= _NEAR_M
    is_hidden = not (start_is_visible or end_is_visible)
    if is_hidden or not np.isfinite([start, end]).all():
        return None
    if start_is_visible and end_is_visible:
        return start, end
    share = (_NEAR_M - start_depth_m) / (end_depth_m - start_depth_m)
    cut = start + (end - start) * share
    return (start, cut) if start_is_visible else (cut, end)


@dataclass(frozen=True)
class StyledLine:
    """Holds a line of an overlay with its own colour and opacity."""

    style: LineStyle
    path: _Polyline
    colour: Colour
    opacity: float


def style_lines(overlay: Overlay) -> list[StyledLine]:
    """Return the lines of an overlay, the lowest first."""
    paths = _list_paths(overlay)
    lines = []
    for style in LINES.values():
        for path, share in paths.get(style.kind, ()):
            colour = style.colour_at(share)
            opacity = style.opacity_at(share)
            lines.append(StyledLine(style, path, colour, opacity))
    return lines


def _list_paths(overlay: Overlay) -> dict[str, list[tuple[_Polyline, float]]]:
    """Return the paths of each kind of line, and how close each is to the current plan.

    The current plan itself has the share 1.
    """
    n_to_execute = max(0, overlay.n_to_execute)
    n_intermediate = len(overlay.intermediate_plans)
    intermediate_plans = []
    for nth, path in enumerate(overlay.intermediate_plans):
        intermediate_plans.append((path, nth / n_intermediate))
    ghosts = []
    for age, path in enumerate(overlay.ghosts, start=1):
        ghosts.append((path, 1 - age / (N_GHOSTS + 1)))
    # The oldest is drawn first, so that newer plans lie over older ones.
    ghosts.reverse()
    tool = np.stack([overlay.tool, overlay.tool])
    return {
        "alternative": [(path, 1.0) for path in overlay.alternatives],
        "intermediate_plan": intermediate_plans,
        "ghost": ghosts,
        "taken": [(overlay.taken, 1.0)],
        "rest": [(overlay.plan[n_to_execute:], 1.0)],
        "plan": [(overlay.plan[: n_to_execute + 1], 1.0)],
        "tool": [(tool, 1.0)],
    }


def draw_overlay(
    image: _Image,
    projection: _Projection,
    overlay: Overlay,
) -> _Image:
    """Return a copy of the image with the lines drawn into it."""
    image = image.copy()
    drawn = _list_drawn(overlay, image)
    for _, alike in groupby(drawn, key=lambda line: (line.style.kind, line.colour)):
        _draw_alike(image, projection, list(alike))
    return image


def draw_legend(
    image: _Image,
    overlay: Overlay,
    is_ensemble: bool = False,
) -> _Image:
    """Return a copy of the image with a legend of its colours in the lower left corner.

    Args:
        image: the image with the overlay.
        overlay: the overlay.
        is_ensemble: the intermediate plans are the members of a temporal ensemble.
    """
    drawn = {line.style.layer for line in _list_drawn(overlay, image)}
    layers = [layer for name, layer in LAYERS.items() if name in drawn]
    image = image.copy()
    scale = image.shape[0] / 480
    for row, layer in enumerate(reversed(layers)):
        label = layer.label
        if is_ensemble and layer.layer == "intermediate_plans":
            label = ENSEMBLE_LABEL
        margin_px = (12 + 17 * row) * scale
        y = round(image.shape[0] - margin_px)
        _draw_swatch(image, LINES[layer.swatch], y, scale)
        _draw_label(image, label, y, scale)
    return image


def _draw_swatch(
    image: _Image,
    style: LineStyle,
    y: int,
    scale: float,
) -> None:
    start = (round(10 * scale), y)
    end = (round(32 * scale), y)
    weight = 2 * max(1, round(scale))
    halo = style.halo or HALOS["light"]
    cv2.line(image, start, end, halo, 2 * weight, cv2.LINE_AA)
    cv2.line(image, start, end, style.colour_at(0.5), weight, cv2.LINE_AA)


def _draw_label(
    image: _Image,
    label: str,
    y: int,
    scale: float,
) -> None:
    place = (round(39 * scale), round(y + 4 * scale))
    font = cv2.FONT_HERSHEY_SIMPLEX
    size = 0.42 * scale
    weight = max(1, round(scale))
    for colour, thickness in ((HALOS["light"], 3 * weight), (_LABEL_COLOUR, weight)):
        cv2.putText(image, label, place, font, size, colour, thickness, cv2.LINE_AA)


def _list_drawn(overlay: Overlay, image: _Image) -> list[StyledLine]:
    """Return the lines of an overlay that are drawn in this image."""
    lines = style_lines(overlay)
    if image.shape[1] >= IMAGE_WIDTH_PX:
        return lines
    return [line for line in lines if line.style.images == "all"]


# A line, and a piece of it in px.
type _Piece = tuple[StyledLine, np.ndarray]


def _draw_alike(
    image: _Image,
    projection: _Projection,
    lines: Sequence[StyledLine],
) -> None:
    """Draw lines of one kind and colour into an image.

    Where they cross, the opacity is that of the last one: opacities do not add up.
    """
    pieces: list[_Piece] = []
    for line in lines:
        pieces += [(line, piece) for piece in project_path(projection, line.path)]
    if not pieces:
        return
    style = lines[0].style
    scale = sqrt(image.shape[1] / IMAGE_WIDTH_PX)
    if style.halo is not None:
        halo_width_px = style.width_px + HALO_WIDER_PX
        _blend(image, style.halo, pieces, halo_width_px * scale, HALO_OPACITY)
    _blend(image, lines[0].colour, pieces, style.width_px * scale, 1.0)


def _blend(
    image: _Image,
    colour: Colour,
    pieces: Sequence[_Piece],
    width_px: float,
    opacity: float,
) -> None:
    # The lowest and the highest (x, y) of the pixels that the lines may touch.
    points = np.concatenate([piece for _, piece in pieces])
    extremes = [
        np.floor(points.min(axis=0) - width_px),
        np.ceil(points.max(axis=0) + width_px),
    ]
    low, high = np.clip(extremes, 0, image.shape[1::-1]).astype(int)
    if (low == high).any():
        return
    region = image[low[1] : high[1], low[0] : high[0]]
    coverage = _draw_coverage(pieces, low, high, width_px, opacity)
    size = region.shape[1::-1]
    share = cv2.resize(coverage, size, interpolation=cv2.INTER_AREA)[..., None]
    share = share / np.float32(255)
    target = np.array(colour, np.float32)
    region[:] = np.rint(region + share * (target - region))


def _draw_coverage(
    pieces: Sequence[_Piece],
    low: np.ndarray,
    high: np.ndarray,
    width_px: float,
    opacity: float,
) -> UInt8[np.ndarray, "_height _width"]:
    """Return how much the lines cover each pixel of a region, oversampled; 255 covers it fully."""
    width_and_height = _OVERSAMPLING * (high - low)
    coverage = np.zeros(width_and_height[::-1], np.uint8)
    # OpenCV draws an even width one pixel wider.
    width = 2 * round((width_px * _OVERSAMPLING - 1) / 2)
    for line, piece in pieces:
        # The centre of a pixel is at a half here, and at an integer in OpenCV.
        centred = (piece - low) * _OVERSAMPLING - 0.5
        points = np.rint(centred * 2**_SHIFT).astype(np.int32)
        cover = round(255 * line.opacity * opacity)
        cv2.polylines(coverage, [points], False, cover, width, cv2.LINE_8, _SHIFT)
    return coverage
