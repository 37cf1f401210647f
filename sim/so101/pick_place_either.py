"""The task in which the SO-101 places either of two equal blocks in a bowl.

One scene has two equally good futures.
"""

import numpy as np

from sim.env import Progress, episode_rng
from sim.so101.scene import GRIPPER_BODY, MOVING_JAW_BODY
from sim.so101.two_block_scene import goal_site
from sim.so101.two_blocks import TwoBlockPickPlace, put_first

# Separates the random stream of the expert's choice from that of the objects' places.
_CHOICE_STREAM = 2
_NONE_HELD = -1


class PickPlaceEither(TwoBlockPickPlace):
    """Succeeds with either block in the bowl.

    Progress follows one block at a time: the one that both jaws touched last or, before any such
    contact, the one nearer to the tool centre point. The expert chooses a block at random, by the
    episode's index and not by the blocks' places.
    """

    @property
    def blocks(self) -> tuple[str, ...]:
        return put_first(self._chosen, self.config.blocks)

    def _bind_initial_goal(self) -> None:
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
        self._chosen = self.config.blocks[
            int(episode_rng(self.config.name, episode_index, _CHOICE_STREAM).random() < 0.5)
        ]
        self._last_held = _NONE_HELD
        self._follow(0)

    def _follow(self, index: int) -> None:
        self._followed = index
        self._bind_goal(self.config.blocks[index], goal_site(self.config.receptacles[0]))

    def _progress_of_block(self) -> Progress:
        held = self._find_held()
        if held is not None:
            self._last_held = held
        follow = self._last_held
        if follow == _NONE_HELD:
            follow = int(
                np.argmin(
                    np.linalg.norm(self.data.xpos[self._block_bodies] - self.ee_pos_world(), axis=1)
                )
            )
        if follow != self._followed:
            self._follow(follow)
        return super()._progress_of_block()

    def _find_held(self) -> int | None:
        """Return the index of the block that both jaws touch; None if there is none."""
        touching = set(map(frozenset, self.model.geom_bodyid[self.data.contact.geom].tolist()))
        for index, block in enumerate(self._block_bodies):
            if all(frozenset((block, finger)) in touching for finger in self._fingers):
                return index
        return None

    def _memory(self) -> list[float]:
        return [*super()._memory(), float(self._last_held)]

    def _set_memory(self, memory: list[float]) -> None:
        super()._set_memory(memory)
        self._last_held = int(memory[2])
