"""Computes a height map of the scene from the bounding boxes of its geoms."""

import mujoco
import numpy as np
from jaxtyping import Bool, Float64, Int64

from sim.arrays import Vector3

Position = Vector3
Matrix = Float64[np.ndarray, "3 3"]
GeomMask = Bool[np.ndarray, " geom"]

CELL_M = 0.003
COARSE_CELL_M = 0.01


def collision_geoms(model: mujoco.MjModel) -> GeomMask:
    """Return the mask of the geoms that collide, as opposed to those that are only visible."""
    return (model.geom_contype | model.geom_conaffinity) != 0


class HeightMap:
    """Holds the highest point above each cell of a horizontal grid.

    The heights are those of the bounding boxes of collision geoms.

    Attributes:
        xy: `(n, m, 2)` middle of each cell, m, world.
        height_m: `(n, m)` world; -inf in an empty cell.
        geom: `(n, m)` index of the geom that has the highest point.
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
        """Compute the map.

        Args:
            low: corner of the grid, m, world; `high` is the opposite one.
            ignored: geoms that are left out.
        """
        self._low = low
        self._cell_m = cell_m
        shape = np.ceil((high - low) / cell_m).astype(int) + 1
        self.xy = low + cell_m * np.stack([*np.indices(shape)], axis=-1)
        self.height_m = np.full(shape, -np.inf)
        self.geom = np.zeros(shape, dtype=np.int64)
        for geom in np.flatnonzero(collision_geoms(model) & ~ignored):
            self._add_geom(model, data, int(geom))

    def at(
        self, xy: Float64[np.ndarray, "*shape 2"]
    ) -> tuple[Float64[np.ndarray, "*shape"], Int64[np.ndarray, "*shape"]]:
        """Return height and geom of the nearest cell."""
        nearest = np.rint((xy - self._low) / self._cell_m)
        index = np.clip(nearest, 0, np.array(self.height_m.shape) - 1).astype(int)
        cells = index[..., 0], index[..., 1]
        return self.height_m[cells], self.geom[cells]

    def _add_geom(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        geom: int,
    ) -> None:
        """Raise the map to the top of a geom's bounding box.

        A box is the intersection of three slabs. A vertical line leaves it where it first leaves
        one of them.
        """
        rotation = data.geom_xmat[geom].reshape(3, 3)
        box = model.geom_aabb[geom]
        middle = data.geom_xpos[geom] + rotation @ box[:3]
        half = box[3:]
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
            half = np.array([1e3, 1e3, 0.0])
        reach = np.abs(rotation[:2]) @ half
        offset = self.xy - middle[:2]
        near = (np.abs(offset) <= reach).all(axis=-1)
        across = offset[near] @ rotation[:2]
        up = np.where(np.abs(rotation[2]) < 1e-9, 1e-9, rotation[2])
        below = (-half - across) / up
        above = (half - across) / up
        enter = np.minimum(below, above).max(axis=1)
        leave = np.maximum(below, above).min(axis=1)
        top = np.where(enter <= leave, middle[2] + leave, -np.inf)
        is_higher = top > self.height_m[near]
        row, column = np.nonzero(near)
        cells = row[is_higher], column[is_higher]
        self.height_m[cells] = top[is_higher]
        self.geom[cells] = geom
