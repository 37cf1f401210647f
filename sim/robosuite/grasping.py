"""Finds where a hand can take hold of a thing from above, on a map of the world's heights."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float64, Int64

Position = Float64[np.ndarray, "3"]
Matrix = Float64[np.ndarray, "3 3"]
GeomMask = Bool[np.ndarray, " geom"]

# The Panda's open hand around its grip site: the fingers open along u, v is across them, they point
# along w.
FINGERS_U_M, FINGERS_V_M, TIP_W_M = (0.036, 0.062), 0.013, 0.011
BETWEEN_U_M, BETWEEN_V_M = 0.034, 0.008
PALM_U_M, PALM_V_M, PALM_W_M = 0.105, 0.034, -0.026
CLEARANCE_M = 0.003
# How far the tips are below the top of what they grasp, and how much of it must be that high.
MIN_DEPTH_M, MAX_DEPTH_M, OVERLAP_M = 0.010, 0.030, 0.005

CELL_M, COARSE_CELL_M = 0.003, 0.01


class HeightMap:
    """The highest point above each cell of a horizontal grid, from the bounding boxes of what can be touched.

    Attributes:
        xy: `(n, m, 2)` middle of each cell, m, world.
        height_m: `(n, m)` world; -inf above nothing.
        geom: `(n, m)` whose point that is.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        low: Float64[np.ndarray, "2"],
        high: Float64[np.ndarray, "2"],
        cell_m: float,
        ignored: GeomMask,
    ) -> None:
        """Args:
        low: corner of the grid, m, world; `high` is the opposite one.
        """
        self._low, self._cell_m = low, cell_m
        n, m = np.ceil((high - low) / cell_m).astype(int) + 1
        self.xy = low + cell_m * np.stack(
            np.meshgrid(np.arange(n), np.arange(m), indexing="ij"), axis=-1
        )
        self.height_m, self.geom = np.full((n, m), -np.inf), np.zeros((n, m), dtype=np.int64)
        for geom in np.flatnonzero(collision_geoms(model) & ~ignored):
            self._raise(model, data, int(geom))

    def at(
        self, xy: Float64[np.ndarray, "*shape 2"]
    ) -> tuple[Float64[np.ndarray, "*shape"], Int64[np.ndarray, "*shape"]]:
        """Height and geom of the nearest cell."""
        index = np.clip(
            np.rint((xy - self._low) / self._cell_m), 0, np.array(self.height_m.shape) - 1
        ).astype(int)
        return self.height_m[index[..., 0], index[..., 1]], self.geom[index[..., 0], index[..., 1]]

    def _raise(self, model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> None:
        """Where a vertical line leaves the box: at the first exit from one of its three slabs."""
        rotation = data.geom_xmat[geom].reshape(3, 3)
        middle, half = (
            data.geom_xpos[geom] + rotation @ model.geom_aabb[geom, :3],
            model.geom_aabb[geom, 3:],
        )
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
            half = np.array([1e3, 1e3, 0.0])
        near = (np.abs(self.xy - middle[:2]) <= np.abs(rotation[:2]) @ half).all(axis=-1)
        across = (self.xy[near] - middle[:2]) @ rotation[:2]
        up = np.where(np.abs(rotation[2]) < 1e-9, 1e-9, rotation[2])
        ends = np.stack([(-half - across) / up, (half - across) / up])
        enter, leave = ends.min(axis=0).max(axis=1), ends.max(axis=0).min(axis=1)
        top = np.where(enter <= leave, middle[2] + leave, -np.inf)
        cells = tuple(np.argwhere(near)[top > self.height_m[near]].T)
        self.height_m[cells], self.geom[cells] = top[top > self.height_m[near]], geom


@dataclass(frozen=True)
class Grasp:
    """Where the grip site is when the fingers close, from above.

    Attributes:
        yaw_rad: direction in which the fingers open.
        score: m, as in `find_grasp`; the higher the better.
    """

    pos_world: Position
    yaw_rad: float
    score: float


def find_grasp(
    heights: HeightMap,
    is_thing: GeomMask,
    middle_xy: np.ndarray,
    base_xy: np.ndarray,
    yaw_rad: float,
) -> Grasp | None:
    """The best place to take hold of a thing, and None if there is none.

    The hand goes as deep as fingers and palm have room, but no deeper than `MAX_DEPTH_M`. Good is a
    deep grasp of what stands in the middle between the fingers, with faces parallel to theirs, near
    the thing's middle and the robot's base, with little turning of the wrist.

    Args:
        yaw_rad: from which the wrist turns least.
    """
    on_thing = heights.xy[is_thing[heights.geom] & np.isfinite(heights.height_m)]
    if not len(on_thing):
        return None
    ranges = (
        np.arange(low, high, 1.5 * CELL_M)
        for low, high in zip(on_thing.min(0), on_thing.max(0), strict=True)
    )
    spots = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2)
    far = 0.2 * np.linalg.norm(spots - middle_xy, axis=1) + 0.02 * np.linalg.norm(
        spots - base_xy, axis=1
    )
    found = []
    for turn_rad in np.deg2rad(np.arange(-90, 90, 10)):
        z, fit = _fit(heights, is_thing, spots, yaw_rad + turn_rad)
        score = fit - far - 0.004 * abs(turn_rad)
        best = int(score.argmax())
        found.append(
            Grasp(np.append(spots[best], z[best]), float(yaw_rad + turn_rad), float(score[best]))
        )
    best_grasp = max(found, key=lambda grasp: grasp.score)
    return best_grasp if np.isfinite(best_grasp.score) else None


def _fit(
    heights: HeightMap, is_thing: GeomMask, spots: Float64[np.ndarray, "spot 2"], yaw_rad: float
) -> tuple[Float64[np.ndarray, " spot"], Float64[np.ndarray, " spot"]]:
    """Height of the grip site above each spot [m, world], and how well the hand fits there [m]: -inf if not at all."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    axes = np.array([[cos, sin], [sin, -cos]])
    obstacle = np.maximum(
        heights.at(spots[:, None] + _FINGERS @ axes)[0].max(axis=1) + TIP_W_M,
        heights.at(spots[:, None] + _PALM @ axes)[0].max(axis=1) + PALM_W_M,
    )
    height, geom = heights.at(spots[:, None] + _BETWEEN @ axes)
    own = is_thing[geom]
    top = np.where(own, height, -np.inf).max(axis=1)
    tip = np.maximum(obstacle + CLEARANCE_M - TIP_W_M, top - MAX_DEPTH_M)
    in_grip = own & (height > tip[:, None] + OVERLAP_M)
    # In each row along the fingers' opening, from where to where the thing is: what is slanted or
    # round slips.
    u = np.where(in_grip, _BETWEEN[:, 0], np.nan).reshape(len(spots), -1, _N_ROWS)
    left = np.nan_to_num(np.fmin.reduce(u, axis=1), nan=BETWEEN_U_M)
    right = np.nan_to_num(np.fmax.reduce(u, axis=1), nan=-BETWEEN_U_M)
    uneven = np.minimum(np.ptp(left, axis=1) + np.ptp(right, axis=1), BETWEEN_U_M)
    off_middle = np.abs(left.mean(axis=1) + right.mean(axis=1)) / 2
    fit = np.minimum(top - tip, MAX_DEPTH_M) - 0.3 * (off_middle + uneven)
    foreign = (~own & (height > tip[:, None])).any(axis=1)
    return tip + TIP_W_M, np.where(foreign | (top - tip < MIN_DEPTH_M), -np.inf, fit)


def grid_points(
    u_m: tuple[float, float], v_m: float, n_u: int, n_v: int
) -> Float64[np.ndarray, "point 2"]:
    """Points between two values of u and from -v to v, row by row."""
    u, v = np.meshgrid(np.linspace(*u_m, n_u), np.linspace(-v_m, v_m, n_v), indexing="ij")
    return np.stack([u.ravel(), v.ravel()], axis=-1)


_FINGER = grid_points(FINGERS_U_M, FINGERS_V_M, 6, 5)
_FINGERS = np.concatenate([_FINGER, -_FINGER])
_N_ROWS = 5
_BETWEEN = grid_points((-BETWEEN_U_M, BETWEEN_U_M), BETWEEN_V_M, 24, _N_ROWS)
_PALM = grid_points((-PALM_U_M, PALM_U_M), PALM_V_M, 22, 6)


def collision_geoms(model: mujoco.MjModel) -> GeomMask:
    """Geoms that collide, in place of those that are only seen."""
    return (model.geom_contype | model.geom_conaffinity) != 0
