"""Pick and place with two blocks: the part that its tasks share."""

import mujoco
import numpy as np

from sim.errors import WhiskerError
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import TwoBlockScene
from sim.so101.two_block_scene import build_two_block_model, goal_site


class TwoBlockPickPlace(PickPlace):
    """`PickPlace` with two blocks, one to each side, and one or two receptacles."""

    config: TwoBlockScene

    def _build_model(self) -> mujoco.MjModel:
        return build_two_block_model(self.config)

    def _bind_start(self) -> None:
        self._bind_goal(self.config.blocks[0], goal_site(self.config.receptacles[0]))

    def _place_objects(
        self,
        rng: np.random.Generator,
        episode_index: int,
    ) -> None:
        config = self.config
        for name, side in zip(config.blocks, _draw_sides(rng), strict=True):
            x_m = rng.uniform(*config.block_x_m)
            y_m = side * rng.uniform(*config.block_y_m)
            self._place_block(
                name,
                x_m,
                y_m,
                rng.uniform(*config.block_yaw_rad),
            )
        for name, side in zip(config.receptacles, _draw_sides(rng), strict=False):
            pos_m = (
                rng.uniform(*config.receptacle_x_m),
                side * rng.uniform(*config.receptacle_y_m),
                0.0,
            )
            self.data.mocap_pos[self.model.body(name).mocapid[0]] = pos_m


def refuse_user_scene(name: str, scene_path: str | None) -> None:
    """Raise for a model of the user's own: only the scene of one block takes one."""
    if scene_path is not None:
        hint = "Only the scenes of one block and one bowl take a model of your own, e.g. so101/pick_place@scene.xml."
        raise WhiskerError(
            f"environment {name!r}",
            expected="no scene of your own",
            got=scene_path,
            hint=hint,
        )


def put_first(
    first: str,
    names: tuple[str, ...],
) -> tuple[str, ...]:
    """Return the same names with that one at the front."""
    return (first, *(name for name in names if name != first))


def _draw_sides(rng: np.random.Generator) -> tuple[int, int]:
    """Return the sides of two things: 1 is left, -1 is right."""
    first = 1 if rng.random() < 0.5 else -1
    return first, -first
