"""Finds grasps from above on a height map of the scene."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sim.robosuite.height_map import CELL_M, GeomMask, HeightMap, Position

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
    spots = _sample_spots(on_target)
    to_middle_m = np.linalg.norm(spots - middle_xy, axis=1)
    to_base_m = np.linalg.norm(spots - base_xy, axis=1)
    far = _DISTANCE_TO_MIDDLE_WEIGHT * to_middle_m + _DISTANCE_TO_BASE_WEIGHT * to_base_m
    grasps = []
    for turn_rad in np.deg2rad(np.arange(-90, 90, 10)):
        z, fit = _fit_hand(heights, is_target, spots, yaw_rad + turn_rad)
        score = fit - far - _TURN_WEIGHT * abs(turn_rad)
        best = int(score.argmax())
        pos_world = np.append(spots[best], z[best])
        grasps.append(Grasp(pos_world, float(yaw_rad + turn_rad), float(score[best])))
    best_grasp = max(grasps, key=lambda grasp: grasp.score)
    return best_grasp if np.isfinite(best_grasp.score) else None


def _sample_spots(points: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "spot 2"]:
    """Return a grid of positions over the bounding rectangle of the points."""
    low_x, low_y = points.min(0)
    high_x, high_y = points.max(0)
    x = np.arange(low_x, high_x, 1.5 * CELL_M)
    y = np.arange(low_y, high_y, 1.5 * CELL_M)
    grid = np.meshgrid(x, y, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 2)


def _fit_hand(
    heights: HeightMap, is_target: GeomMask, spots: Float64[np.ndarray, "spot 2"], yaw_rad: float
) -> tuple[Float64[np.ndarray, " spot"], Float64[np.ndarray, " spot"]]:
    """Fit the hand at each spot.

    Returns:
        the height of the grip site [m, world], and a score of the fit [m]. The score is -inf if
        the hand does not fit.
    """
    cos = np.cos(yaw_rad)
    sin = np.sin(yaw_rad)
    axes = np.array([[cos, sin], [sin, -cos]])
    under_fingers, _ = heights.at(spots[:, None] + _FINGERS @ axes)
    under_palm, _ = heights.at(spots[:, None] + _PALM @ axes)
    obstacle = np.maximum(
        under_fingers.max(axis=1) + TIP_W_M,
        under_palm.max(axis=1) + PALM_W_M,
    )
    height, geom = heights.at(spots[:, None] + _BETWEEN @ axes)
    own = is_target[geom]
    top = np.where(own, height, -np.inf).max(axis=1)
    tip = np.maximum(obstacle + CLEARANCE_M - TIP_W_M, top - MAX_DEPTH_M)
    in_grip = own & (height > tip[:, None] + OVERLAP_M)
    off_middle, uneven = _measure_grip(in_grip)
    fit = np.minimum(top - tip, MAX_DEPTH_M) - 0.3 * (off_middle + uneven)
    foreign = (~own & (height > tip[:, None])).any(axis=1)
    is_impossible = foreign | (top - tip < MIN_DEPTH_M)
    return tip + TIP_W_M, np.where(is_impossible, -np.inf, fit)


def _measure_grip(
    in_grip: np.ndarray,
) -> tuple[Float64[np.ndarray, " spot"], Float64[np.ndarray, " spot"]]:
    """Return how far the object is off the middle, and how uneven its faces are [m].

    The object's extent along u is found in each row between the fingers. Slanted or round faces
    have extents that differ from row to row, and slip.
    """
    u = np.where(in_grip, _BETWEEN[:, 0], np.nan).reshape(len(in_grip), -1, _N_ROWS)
    left = np.nan_to_num(np.fmin.reduce(u, axis=1), nan=BETWEEN_U_M)
    right = np.nan_to_num(np.fmax.reduce(u, axis=1), nan=-BETWEEN_U_M)
    uneven = np.minimum(np.ptp(left, axis=1) + np.ptp(right, axis=1), BETWEEN_U_M)
    off_middle = np.abs(left.mean(axis=1) + right.mean(axis=1)) / 2
    return off_middle, uneven


def grid_points(
    u_m: tuple[float, float], v_m: float, n_u: int, n_v: int
) -> Float64[np.ndarray, "point 2"]:
    """Return a grid of points between two values of u and from -v to v, row by row."""
    u, v = np.meshgrid(np.linspace(*u_m, n_u), np.linspace(-v_m, v_m, n_v), indexing="ij")
    return np.stack([u.ravel(), v.ravel()], axis=-1)


_FINGER = grid_points(FINGERS_U_M, FINGERS_V_M, 6, 5)
_FINGERS = np.concatenate([_FINGER, -_FINGER])
_N_ROWS = 5
_BETWEEN = grid_points((-BETWEEN_U_M, BETWEEN_U_M), BETWEEN_V_M, 24, _N_ROWS)
_PALM = grid_points((-PALM_U_M, PALM_U_M), PALM_V_M, 22, 6)
