"""The SO-101 picks either of two equal blocks up and places it in a bowl: one scene, two equally good futures."""

from collections.abc import Mapping

import numpy as np

from sim.env import Progress, episode_rng
from sim.so101.scene import GRIPPER_BODY, MOVING_JAW_BODY
from sim.so101.scene_config import EITHER_SCENE
from sim.so101.two_block_scene import goal_site
from sim.so101.two_blocks import TwoBlockPickPlace, put_first, refuse_user_scene

# Distinguishes the expert's choice from the random numbers of an episode's places.
_CHOICE_STREAM = 2
_NONE_HELD = -1


class PickPlaceEither(TwoBlockPickPlace):
    """Success is either block in the bowl.

    Progress is about one block at a time: the one that both jaws touched last, and before they
    touched any, the one nearer to the tool centre point. The expert takes one of them at random, by
    the episode's index and not by where they are.
    """

    def __init__(
        self,
        name: str,
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(name, EITHER_SCENE, "deg", image_sizes)

    @property
    def blocks(self) -> tuple[str, ...]:
        return put_first(self._chosen, self.config.blocks)

    def _bind_start(self) -> None:
        model = self.model
        self._block_bodies = [model.body(block).id for block in self.config.blocks]
        self._fingers = [model.body(finger).id for finger in (GRIPPER_BODY, MOVING_JAW_BODY)]
        self._follow(0)

    def _place_objects(
        self,
        rng: np.random.Generator,
        episode_index: int,
    ) -> None:
        super()._place_objects(rng, episode_index)
        choice = episode_rng(self.config.name, episode_index, _CHOICE_STREAM).random()
        self._chosen = self.config.blocks[int(choice < 0.5)]
        self._last_held = _NONE_HELD
        self._follow(0)

    def _follow(self, index: int) -> None:
        self._followed = index
        self._bind_goal(self.config.blocks[index], goal_site(self.config.receptacles[0]))

    def _progress_of_block(self) -> Progress:
        held = self._find_held()
        self._last_held = self._last_held if held is None else held
        follow = self._find_nearest() if self._last_held == _NONE_HELD else self._last_held
        if follow != self._followed:
            self._follow(follow)
        return super()._progress_of_block()

    def _find_held(self) -> int | None:
        """Return which block both jaws touch; None for neither."""
        touching = {
            frozenset(pair) for pair in self.model.geom_bodyid[self.data.contact.geom].tolist()
        }
        for index, block in enumerate(self._block_bodies):
            if all(frozenset((block, finger)) in touching for finger in self._fingers):
                return index
        return None

    def _find_nearest(self) -> int:
        """Return which block is nearer to the tool centre point."""
        offsets = self.data.xpos[self._block_bodies] - self.data.site_xpos[self._tcp_site]
        return int(np.argmin(np.linalg.norm(offsets, axis=1)))

    def _memory(self) -> list[float]:
        return [*super()._memory(), float(self._last_held)]

    def _remember(self, memory: list[float]) -> None:
        super()._remember(memory)
        self._last_held = int(memory[2])


def make_pick_place_either(
    name: str,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    scene_path: str | None = None,
) -> PickPlaceEither:
    """Two red blocks and a bowl, body joints in degrees."""
    refuse_user_scene(name, scene_path)
    return PickPlaceEither(name, image_sizes)
