"""Whiskers drawn into a camera's picture: what was planned, what had been planned, and the way really taken.

Nothing hides them: a line behind the robot or the table is drawn over it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import cv2
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from eval.recorder import EpisodeArrays
from viz.whiskers import Whiskers

# sRGB, the same wherever whiskers are drawn.
PLAN_COLOUR = (0, 100, 52)
GHOST_COLOUR = (40, 90, 230)
TAKEN_COLOUR = (255, 145, 30)
ALTERNATIVE_COLOUR = (75, 75, 75)
# The rims of lines. Whoever cannot tell green from orange, or orange from a yellow arm, still sees that the plan is a
# dark line with a light rim and the way taken a light line with a dark rim.
LIGHT_HALO_COLOUR = (255, 255, 255)
DARK_HALO_COLOUR = (40, 20, 0)
N_GHOSTS = 12

# The way taken is drawn since so many plans, the one in force included, and at least for so long: a policy that plans
# at every step would leave none otherwise. The viewer's page has the same.
DEFAULT_TRAIL, LEAST_TRAIL_S = 2, 0.5

# Widths in a picture of 480 rows, px.
_PLAN_PX, _REST_PX, _TAKEN_PX, _GHOST_PX, _ALTERNATIVE_PX, _HALO_PX, _TOOL_PX = 3.0, 1.5, 3.0, 1.5, 1.0, 1.0, 8.0
_REST_OPACITY, _GHOST_OPACITY, _ALTERNATIVE_OPACITY, _HALO_OPACITY = 0.75, 0.85, 0.8, 0.55
# What is nearer to the camera than this along its axis is cut off, m: (u, v) would grow without bound.
_NEAR_M = 0.01
# OpenCV takes places as integers with this many binary digits of fraction.
_SHIFT = 4

_Polyline = Float64[np.ndarray, "_moment 3"]
_Colour = tuple[int, int, int]


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
        drafts: those that it was made from, oldest first.
    """

    tool: Float64[np.ndarray, "3"]
    plan: _Polyline
    n_to_execute: int
    taken: _Polyline
    ghosts: Sequence[_Polyline] = ()
    alternatives: Sequence[_Polyline] = ()
    drafts: Sequence[_Polyline] = ()


def find_trail_begin(
    prediction_step: Int64[np.ndarray, " P"], step: int, control_dt_s: float, n_plans: int = DEFAULT_TRAIL
) -> int:
    """Return the control step from which on the way taken is drawn at `step`.

    Args:
        n_plans: plans, the one in force included, since whose beginning it is drawn; 0: all of the way.
    """
    first = int(np.searchsorted(prediction_step, step, side="right")) - n_plans
    if n_plans == 0 or first < 0:
        return 0
    return max(0, min(int(prediction_step[first]), step - ceil(LEAST_TRAIL_S / control_dt_s)))


def compute_overlay(whiskers: Whiskers, arrays: EpisodeArrays, step: int, trail_begin: int = 0) -> Overlay:
    """Return the lines of the world before that control step; a prediction made there counts already.

    Args:
        trail_begin: control step from which on the way taken is drawn.
    """
    current = whiskers.prediction_at(step)
    n_since = step - int(whiskers.prediction_step[current])
    drafts = whiskers.draft_path_world
    return Overlay(
        tool=arrays.ee_pos_world[step],
        plan=whiskers.path_world[current, 0, n_since:],
        n_to_execute=int(whiskers.n_executed[current]) - n_since,
        taken=arrays.ee_pos_world[trail_begin : step + 1],
        ghosts=list(whiskers.path_world[max(0, current - N_GHOSTS) : current, 0][::-1]),
        alternatives=list(whiskers.path_world[current, 1:]),
        drafts=() if drafts is None else list(drafts[current]),
    )


def project_path(projection: Float64[np.ndarray, "3 4"], path: _Polyline) -> list[Float64[np.ndarray, "_moment 2"]]:
    """The pieces of a path that lie in front of the camera, as (u, v) [px] of `sim.env.Env.projection`.

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


def draw_overlay(
    image: UInt8[np.ndarray, "height width 3"], projection: Float64[np.ndarray, "3 4"], overlay: Overlay
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture with the lines on a copy; from below: alternatives, drafts, ghosts, the way taken, the plan."""
    canvas = _Canvas(image, projection)
    canvas.draw(ALTERNATIVE_COLOUR, [_Line(p, _ALTERNATIVE_PX, _ALTERNATIVE_OPACITY) for p in overlay.alternatives])
    for nth, path in enumerate(overlay.drafts):  # the plan itself would be the next
        canvas.draw(draft_colour(nth / len(overlay.drafts)), [_Line(path, _REST_PX, _ALTERNATIVE_OPACITY)])
    # The oldest first: where they cross, the younger is on top.
    ghosts = [_Line(path, _GHOST_PX, ghost_opacity(age)) for age, path in enumerate(overlay.ghosts, start=1)]
    canvas.draw(GHOST_COLOUR, ghosts[::-1], LIGHT_HALO_COLOUR)
    canvas.draw(TAKEN_COLOUR, [_Line(overlay.taken, _TAKEN_PX)], DARK_HALO_COLOUR)
    n_to_execute = max(0, overlay.n_to_execute)
    rest, executed = overlay.plan[n_to_execute:], overlay.plan[: n_to_execute + 1]
    canvas.draw(PLAN_COLOUR, [_Line(rest, _REST_PX, _REST_OPACITY), _Line(executed, _PLAN_PX)], LIGHT_HALO_COLOUR)
    canvas.draw(LIGHT_HALO_COLOUR, [_dot(overlay.tool, _TOOL_PX)])
    canvas.draw(PLAN_COLOUR, [_dot(overlay.tool, _TOOL_PX - 3)])
    return canvas.image


def ghost_opacity(age: int) -> float:
    """Of the prediction that many before the one in force: it fades with the square of what is left of its time."""
    return _GHOST_OPACITY * (1 - age / (N_GHOSTS + 1)) ** 2


def draft_colour(share: float) -> _Colour:
    """Of a draft when that share of the plan is made: grey to green."""
    ends = zip(ALTERNATIVE_COLOUR, PLAN_COLOUR, strict=True)
    red, green, blue = (round(start + share * (end - start)) for start, end in ends)
    return red, green, blue


def draw_legend(image: UInt8[np.ndarray, "height width 3"], overlay: Overlay) -> UInt8[np.ndarray, "height width 3"]:
    """The picture with the names of the colours that are in it, in its lower left corner, on a copy."""
    names = [("plan", PLAN_COLOUR), ("taken", TAKEN_COLOUR)]
    names += [("earlier plans", GHOST_COLOUR)] if overlay.ghosts else []
    names += [("other samples", ALTERNATIVE_COLOUR)] if overlay.alternatives else []
    names += [("drafts", draft_colour(0.5))] if overlay.drafts else []
    image, scale = image.copy(), image.shape[0] / 480
    font, size, weight = cv2.FONT_HERSHEY_SIMPLEX, 0.42 * scale, max(1, round(scale))
    for row, (name, colour) in enumerate(reversed(names)):
        y = round(image.shape[0] - (12 + 17 * row) * scale)
        start, end, text = (round(10 * scale), y), (round(32 * scale), y), (round(39 * scale), round(y + 4 * scale))
        rim = DARK_HALO_COLOUR if colour == TAKEN_COLOUR else LIGHT_HALO_COLOUR
        for paint, extra in ((rim, 2 * weight), (colour, 0)):
            cv2.line(image, start, end, paint, 2 * weight + extra, cv2.LINE_AA)
        for paint, extra in ((LIGHT_HALO_COLOUR, 2 * weight), ((25, 25, 25), 0)):
            cv2.putText(image, name, text, font, size, paint, weight + extra, cv2.LINE_AA)
    return image


@dataclass(frozen=True)
class _Line:
    path: _Polyline
    width_px: float
    opacity: float = 1.0


def _dot(position: Float64[np.ndarray, "3"], width_px: float) -> _Line:
    return _Line(np.stack([position, position]), width_px)


class _Canvas:
    """A picture that lines are blended into, each group of one colour at once."""

    def __init__(self, image: UInt8[np.ndarray, "height width 3"], projection: Float64[np.ndarray, "3 4"]) -> None:
        self.image = image.copy()
        self._projection, self._scale = projection, image.shape[0] / 480

    def draw(self, colour: _Colour, lines: Sequence[_Line], halo: _Colour | None = None) -> None:
        """Where lines of one call cross, the last one's opacity holds: they do not add up."""
        projected = [(line, project_path(self._projection, line.path)) for line in lines]
        if halo is not None:
            self._blend(halo, projected, 2 * _HALO_PX, _HALO_OPACITY)
        self._blend(colour, projected)

    def _blend(self, colour: _Colour, projected: Sequence, wider_px: float = 0.0, opacity: float = 1.0) -> None:
        coverage = np.zeros(self.image.shape[:2], np.uint8)
        for line, pieces in projected:
            width = max(1, round((line.width_px + wider_px) * self._scale))
            value = round(255 * line.opacity * opacity)
            # A pixel's middle is a half for us and whole for OpenCV.
            places = [np.rint((piece - 0.5) * 2**_SHIFT).astype(np.int32) for piece in pieces]
            cv2.polylines(coverage, places, False, value, width, cv2.LINE_AA, _SHIFT)
        x, y, width, height = cv2.boundingRect(coverage)
        region = self.image[y : y + height, x : x + width]
        share = coverage[y : y + height, x : x + width, None].astype(np.float32) / 255
        region[:] = np.rint(region + share * (np.array(colour, np.float32) - region))


def _cut_at_near_plane(
    start: Float64[np.ndarray, "3"], end: Float64[np.ndarray, "3"]
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]] | None:
    """The part of a segment of (w u, w v, w) with w ≥ `_NEAR_M`. These are linear along it, (u, v) are not."""
    is_in_front = start[2] >= _NEAR_M, end[2] >= _NEAR_M
    if not any(is_in_front) or not np.isfinite([start, end]).all():
        return None
    cut = start + (end - start) * ((_NEAR_M - start[2]) / (end[2] - start[2])) if not all(is_in_front) else start
    return (start if is_in_front[0] else cut), (end if is_in_front[1] else cut)
