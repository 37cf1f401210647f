"""Whiskers drawn into a camera's picture: what was planned, what had been planned, and the way really taken.

Nothing hides them: a line behind the robot or the table is drawn over it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil, sqrt

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from eval.recorder import EpisodeArrays
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
from viz.whiskers import Whiskers

# What is nearer to the camera than this along its axis is cut off, m: (u, v) would grow without
# bound.
_NEAR_M = 0.01
# Lines are drawn so many times as large, and shrunk: OpenCV's own smooth lines are up to 2.5 px too
# wide.
_FINER = 8
# OpenCV takes places as integers with this many binary digits of fraction.
_SHIFT = 4

_Polyline = Float64[np.ndarray, "_moment 3"]


@dataclass(frozen=True)
class Overlay:
    """What is drawn of one moment of an episode: positions of the tool centre point, m, world.

    Attributes:
        tool: where it is.
        plan: the plan in force, from here on.
        n_to_execute: how many of its steps are still going to be run.
        taken: the way up to here, or its last part.
        ghosts: the plans before it, whole, the latest first; at most `N_GHOSTS`.
        alternatives: the other plans that were sampled with the one in force.
        intermediate plans: those that it was made from, oldest first.
    """

    tool: Float64[np.ndarray, "3"]
    plan: _Polyline
    n_to_execute: int
    taken: _Polyline
    ghosts: Sequence[_Polyline] = ()
    alternatives: Sequence[_Polyline] = ()
    intermediate_plans: Sequence[_Polyline] = ()


def find_trail_begin(
    prediction_step: Int64[np.ndarray, " P"],
    step: int,
    control_dt_s: float,
    n_plans: int = TRAILS[0],
) -> int:
    """Return the control step from which on the way taken is drawn at `step`.

    Args:
        n_plans: plans, the one in force included, since whose beginning it is drawn; 0: all of the
            way.
    """
    first = int(np.searchsorted(prediction_step, step, side="right")) - n_plans
    if n_plans == 0 or first < 0:
        return 0
    return max(0, min(int(prediction_step[first]), step - ceil(LEAST_TRAIL_S / control_dt_s)))


def compute_overlay(
    whiskers: Whiskers, arrays: EpisodeArrays, step: int, trail_begin: int = 0
) -> Overlay:
    """Return the lines of the world before that control step; a prediction made there counts already.

    Args:
        trail_begin: control step from which on the way taken is drawn.
    """
    current = whiskers.prediction_at(step)
    n_since = step - int(whiskers.prediction_step[current])
    intermediate_plans = whiskers.intermediate_path_world
    return Overlay(
        tool=arrays.ee_pos_world[step],
        plan=whiskers.path_world[current, 0, n_since:],
        n_to_execute=int(whiskers.n_executed[current]) - n_since,
        taken=arrays.ee_pos_world[trail_begin : step + 1],
        ghosts=list(whiskers.path_world[max(0, current - N_GHOSTS) : current, 0][::-1]),
        alternatives=list(whiskers.path_world[current, 1:]),
        intermediate_plans=() if intermediate_plans is None else list(intermediate_plans[current]),
    )


def project_path(
    projection: Float64[np.ndarray, "3 4"], path: _Polyline
) -> list[Float64[np.ndarray, "_moment 2"]]:
    """The pieces of a path that lie in front of the camera, as (u, v) [px] of `sim.capabilities.Drawable.projection`.

    Where the path passes the plane 1 cm before the camera it is cut, exactly there; at nan it ends.
    """
    in_camera = np.column_stack([path, np.ones(len(path))]) @ projection.T
    if len(path) and (in_camera[:, 2] >= _NEAR_M).all():
        return [in_camera[:, :2] / in_camera[:, 2:]]
    pieces: list[list[np.ndarray]] = []
    is_open = False
    for start, end in pairwise(in_camera):
        visible = _cut_at_near_plane(start, end)
        if visible is not None:
            if not is_open:
                pieces.append([visible[0]])
            pieces[-1].append(visible[1])
        is_open = visible is not None and bool(end[2] >= _NEAR_M)
    return [np.array([point[:2] / point[2] for point in piece]) for piece in pieces]


@dataclass(frozen=True)
class StyledLine:
    """A line of an overlay, as it is to be drawn: with its own colour and opacity."""

    style: LineStyle
    path: _Polyline
    colour: Colour
    opacity: float


def style_lines(overlay: Overlay) -> list[StyledLine]:
    """Return the lines of an overlay, the lowest first."""
    n_to_execute, n_intermediate_plans = (
        max(0, overlay.n_to_execute),
        len(overlay.intermediate_plans),
    )
    # Each with the share of the way to the plan in force that it is.
    paths: dict[str, list[tuple[_Polyline, float]]] = {
        "alternative": [(path, 1.0) for path in overlay.alternatives],
        # The plan itself would be the next.
        "intermediate_plan": [
            (path, nth / n_intermediate_plans)
            for nth, path in enumerate(overlay.intermediate_plans)
        ],
        # The oldest first: where they cross, the younger is on top.
        "ghost": [
            (path, 1 - age / (N_GHOSTS + 1)) for age, path in enumerate(overlay.ghosts, start=1)
        ][::-1],
        "taken": [(overlay.taken, 1.0)],
        "rest": [(overlay.plan[n_to_execute:], 1.0)],
        "plan": [(overlay.plan[: n_to_execute + 1], 1.0)],
        "tool": [(np.stack([overlay.tool, overlay.tool]), 1.0)],
    }
    return [
        StyledLine(style, path, style.colour_at(share), style.opacity_at(share))
        for style in LINES.values()
        for path, share in paths.get(style.kind, ())
    ]


def draw_overlay(
    image: UInt8[np.ndarray, "height width 3"],
    projection: Float64[np.ndarray, "3 4"],
    overlay: Overlay,
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the image with the lines on a copy."""
    canvas = _Canvas(image, projection)
    lines = [line for line in style_lines(overlay) if _is_drawn(line.style, image)]
    for _, of_colour in groupby(lines, key=lambda line: (line.style.kind, line.colour)):
        canvas.draw(list(of_colour))
    return canvas.image


def draw_legend(
    image: UInt8[np.ndarray, "height width 3"], overlay: Overlay, is_ensemble: bool = False
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the image with the names of the colours that are in it, in its lower left corner, on a copy.

    Args:
        is_ensemble: the intermediate plans are the members of a temporal ensemble.
    """
    drawn = {line.style.layer for line in style_lines(overlay) if _is_drawn(line.style, image)}
    layers = [layer for name, layer in LAYERS.items() if name in drawn]
    image, scale = image.copy(), image.shape[0] / 480
    font, size, weight = cv2.FONT_HERSHEY_SIMPLEX, 0.42 * scale, max(1, round(scale))
    for row, layer in enumerate(reversed(layers)):
        style = LINES[layer.swatch]
        label = (
            ENSEMBLE_LABEL if is_ensemble and layer.layer == "intermediate_plans" else layer.label
        )
        y = round(image.shape[0] - (12 + 17 * row) * scale)
        start, end, text = (
            (round(10 * scale), y),
            (round(32 * scale), y),
            (round(39 * scale), round(y + 4 * scale)),
        )
        for paint, extra in ((style.halo or HALOS["light"], 2 * weight), (style.colour_at(0.5), 0)):
            cv2.line(image, start, end, paint, 2 * weight + extra, cv2.LINE_AA)
        for paint, extra in ((HALOS["light"], 2 * weight), ((25, 25, 25), 0)):
            cv2.putText(image, label, text, font, size, paint, weight + extra, cv2.LINE_AA)
    return image


def _is_drawn(style: LineStyle, image: UInt8[np.ndarray, "height width 3"]) -> bool:
    return style.images == "all" or image.shape[1] >= IMAGE_WIDTH_PX


class _Canvas:
    """An image that lines are blended into, each group of one kind and colour at once."""

    def __init__(
        self, image: UInt8[np.ndarray, "height width 3"], projection: Float64[np.ndarray, "3 4"]
    ) -> None:
        self.image = image.copy()
        self._projection, self._scale = projection, sqrt(image.shape[1] / IMAGE_WIDTH_PX)

    def draw(self, lines: Sequence[StyledLine]) -> None:
        """Draw lines of one kind and colour.

        Where they cross, the last one's opacity holds: they do not add up.
        """
        style, projected = (
            lines[0].style,
            [(line, project_path(self._projection, line.path)) for line in lines],
        )
        if style.halo is not None:
            self._blend(style.halo, projected, HALO_WIDER_PX, HALO_OPACITY)
        self._blend(lines[0].colour, projected)

    def _blend(
        self, colour: Colour, projected: Sequence, wider_px: float = 0.0, opacity: float = 1.0
    ) -> None:
        pieces = [(line, piece) for line, of_line in projected for piece in of_line]
        if not pieces:
            return
        width_px = (pieces[0][0].style.width_px + wider_px) * self._scale
        corners = np.concatenate([piece for _, piece in pieces])
        low = np.clip(np.floor(corners.min(axis=0) - width_px), 0, self.image.shape[1::-1]).astype(
            int
        )
        high = np.clip(np.ceil(corners.max(axis=0) + width_px), 0, self.image.shape[1::-1]).astype(
            int
        )
        if (low == high).any():
            return
        region = self.image[low[1] : high[1], low[0] : high[0]]
        coverage = np.zeros(_FINER * (high - low)[::-1], np.uint8)
        # OpenCV draws an even width one pixel wider.
        width = 2 * round((width_px * _FINER - 1) / 2)
        for line, piece in pieces:
            # A pixel's middle is a half for us and whole for OpenCV.
            places = np.rint(((piece - low) * _FINER - 0.5) * 2**_SHIFT).astype(np.int32)
            cv2.polylines(
                coverage,
                [places],
                False,
                round(255 * line.opacity * opacity),
                width,
                cv2.LINE_8,
                _SHIFT,
            )
        share = cv2.resize(coverage, region.shape[1::-1], interpolation=cv2.INTER_AREA)[
            ..., None
        ] / np.float32(255)
        region[:] = np.rint(region + share * (np.array(colour, np.float32) - region))


def _cut_at_near_plane(
    start: Float64[np.ndarray, "3"], end: Float64[np.ndarray, "3"]
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]] | None:
    """The part of a segment of (w u, w v, w) with w ≥ `_NEAR_M`.

    These are linear along it, (u, v) are not.
    """
    is_in_front = start[2] >= _NEAR_M, end[2] >= _NEAR_M
    if not any(is_in_front) or not np.isfinite([start, end]).all():
        return None
    cut = (
        start + (end - start) * ((_NEAR_M - start[2]) / (end[2] - start[2]))
        if not all(is_in_front)
        else start
    )
    return (start if is_in_front[0] else cut), (end if is_in_front[1] else cut)
