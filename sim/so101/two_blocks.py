"""The shared part of the pick-and-place tasks with two blocks."""

from collections.abc import Mapping

import mujoco
import numpy as np

from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import TwoBlockScene
from sim.so101.two_block_scene import build_two_block_model, goal_site


class TwoBlockPickPlace(PickPlace):
    """`PickPlace` with one block on each side, and one or two receptacles."""

    config: TwoBlockScene

    def _build_model(self) -> mujoco.MjModel:
        return build_two_block_model(self.config)

    def _bind_initial_goal(self) -> None:
        self._bind_goal(self.config.blocks[0], goal_site(self.config.receptacles[0]))

    def start_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Return nothing that can be set: a block may lie where another one was drawn."""
        return {}

    def _place_objects(
        self,
        rng: np.random.Generator,
        episode_index: int,
    ) -> None:
        config = self.config
        for name, side in zip(config.blocks, _draw_sides(rng), strict=True):
            x_m = rng.uniform(*config.block_x_m)
            y_m = side * rng.uniform(*config.block_y_m)
            yaw_rad = rng.uniform(*config.block_yaw_rad)
            self._place_block(name, x_m, y_m, yaw_rad)
        for name, side in zip(config.receptacles, _draw_sides(rng), strict=False):
            x_m = rng.uniform(*config.receptacle_x_m)
            y_m = side * rng.uniform(*config.receptacle_y_m)
            self.data.mocap_pos[self.model.body(name).mocapid[0]] = x_m, y_m, 0.0


def put_first(first: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same names, with one of them moved to the front."""
    return (first, *(name for name in names if name != first))


def _draw_sides(rng: np.random.Generator) -> tuple[int, int]:
    """Return the sides of two objects: 1 is left, -1 is right."""
    return (1, -1) if rng.random() < 0.5 else (-1, 1)
