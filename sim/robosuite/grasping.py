"""Finds grasps from above on a height map of the scene."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sim.robosuite.height_map import CELL_M, GeomMask, HeightMap, Position

Spots = Float64[np.ndarray, "spot 2"]
PerSpot = Float64[np.ndarray, " spot"]

# The shape of the Panda's open hand around its grip site. The fingers open along u, v is across
# them, and they point along w.
FINGERS_U_M = (0.036, 0.062)
FINGERS_V_M = 0.013
TIP_W_M = 0.011
BETWEEN_U_M = 0.034
BETWEEN_V_M = 0.008
PALM_U_M = 0.105
PALM_V_M = 0.034
PALM_W_M = -0.026
CLEARANCE_M = 0.003
# Depth of the finger tips below the top of the object.
MIN_DEPTH_M = 0.010
MAX_DEPTH_M = 0.030
# A point of the object is in the grip if it is at least this much higher than the tips.
OVERLAP_M = 0.005

# Weights of `find_grasp`'s score: m per m of distance, and m per rad of turning.
_DISTANCE_TO_MIDDLE_WEIGHT = 0.2
_DISTANCE_TO_BASE_WEIGHT = 0.02
_TURN_WEIGHT = 0.004


@dataclass(frozen=True)
class Grasp:
    """Holds the pose of the grip site when the fingers close, from above.

    Attributes:
        yaw_rad: direction in which the fingers open.
        score: m, as in `find_grasp`; higher is better.
    """

    pos_world: Position
    yaw_rad: float
    score: float


def find_grasp(
    heights: HeightMap,
    is_target: GeomMask,
    middle_xy: np.ndarray,
    base_xy: np.ndarray,
    yaw_rad: float,
) -> Grasp | None:
    """Return the best grasp of an object, or None if there is none.

    The hand goes as deep as fingers and palm have room, but no deeper than `MAX_DEPTH_M`. The score
    prefers a deep grasp, an object centred between the fingers with faces parallel to theirs, a
    place near the object's middle and the robot's base, and little turning of the wrist.

    Args:
        is_target: geoms of the object.
        yaw_rad: yaw at which the wrist is not turned.
    """
    on_target = heights.xy[is_target[heights.geom] & np.isfinite(heights.height_m)]
    if not len(on_target):
        return None
    # A grid over the bounding rectangle of the object.
    low, high = on_target.min(0), on_target.max(0)
    spots = _mesh(*(np.arange(*ends, 1.5 * CELL_M) for ends in zip(low, high, strict=True)))
    to_middle_m = np.linalg.norm(spots - middle_xy, axis=1)
    far = _DISTANCE_TO_MIDDLE_WEIGHT * to_middle_m + _DISTANCE_TO_BASE_WEIGHT * np.linalg.norm(
        spots - base_xy, axis=1
    )
    grasps = []
    for turn_rad in np.deg2rad(np.arange(-90, 90, 10)):
        yaw = yaw_rad + turn_rad
        z, fit = _fit_hand(heights, is_target, spots, yaw)
        score = fit - far - _TURN_WEIGHT * abs(turn_rad)
        best = int(score.argmax())
        grasps.append(Grasp(np.append(spots[best], z[best]), float(yaw), float(score[best])))
    best_grasp = max(grasps, key=lambda grasp: grasp.score)
    return best_grasp if np.isfinite(best_grasp.score) else None


def _fit_hand(
    heights: HeightMap,
    is_target: GeomMask,
    spots: Spots,
    yaw_rad: float,
) -> tuple[PerSpot, PerSpot]:
    """Fit the hand at each spot.

    Returns:
        the height of the grip site [m, world], and a score of the fit [m]. The score is -inf if
        the hand does not fit.
    """
    cos = np.cos(yaw_rad)
    sin = np.sin(yaw_rad)
    axes = np.array([[cos, sin], [sin, -cos]])
    middle = spots[:, None]
    under_fingers, _ = heights.at(middle + _FINGERS @ axes)
    under_palm, _ = heights.at(middle + _PALM @ axes)
    obstacle = np.maximum(
        under_fingers.max(axis=1) + TIP_W_M,
        under_palm.max(axis=1) + PALM_W_M,
    )
    height, geom = heights.at(middle + _BETWEEN @ axes)
    own = is_target[geom]
    top = np.where(own, height, -np.inf).max(axis=1)
    tip = np.maximum(obstacle + CLEARANCE_M - TIP_W_M, top - MAX_DEPTH_M)
    tips = tip[:, None]
    off_middle, uneven = _measure_grip(own & (height > tips + OVERLAP_M))
    depth = top - tip
    fit = np.minimum(depth, MAX_DEPTH_M) - 0.3 * (off_middle + uneven)
    is_impossible = (~own & (height > tips)).any(axis=1) | (depth < MIN_DEPTH_M)
    return tip + TIP_W_M, np.where(is_impossible, -np.inf, fit)


def _measure_grip(in_grip: np.ndarray) -> tuple[PerSpot, PerSpot]:
    """Return how far the object is off the middle, and how uneven its faces are [m].

    The object's extent along u is found in each row between the fingers. Slanted or round faces
    have extents that differ from row to row, and slip.
    """
    rows = np.where(in_grip, _BETWEEN[:, 0], np.nan).reshape(len(in_grip), -1, _N_ROWS)
    left = np.nan_to_num(np.fmin.reduce(rows, axis=1), nan=BETWEEN_U_M)
    right = np.nan_to_num(np.fmax.reduce(rows, axis=1), nan=-BETWEEN_U_M)
    uneven = np.ptp(left, axis=1) + np.ptp(right, axis=1)
    middle = left.mean(axis=1) + right.mean(axis=1)
    return np.abs(middle) / 2, np.minimum(uneven, BETWEEN_U_M)


def grid_points(
    u_m: tuple[float, float],
    v_m: float,
    n_u: int,
    n_v: int,
) -> Float64[np.ndarray, "point 2"]:
    """Return a grid of points between two values of u and from -v to v, row by row."""
    return _mesh(np.linspace(*u_m, n_u), np.linspace(-v_m, v_m, n_v))


def _mesh(u: np.ndarray, v: np.ndarray) -> Float64[np.ndarray, "point 2"]:
    """Return every pair of a u and a v, row by row."""
    return np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)


_FINGER = grid_points(FINGERS_U_M, FINGERS_V_M, 6, 5)
_FINGERS = np.concatenate([_FINGER, -_FINGER])
_N_ROWS = 5
_BETWEEN = grid_points((-BETWEEN_U_M, BETWEEN_U_M), BETWEEN_V_M, 24, _N_ROWS)
_PALM = grid_points((-PALM_U_M, PALM_U_M), PALM_V_M, 22, 6)
