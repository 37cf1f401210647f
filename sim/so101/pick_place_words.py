"""The SO-101 picks one of two blocks up and places it in one of two receptacles, both named by the instruction."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np

from sim.env import episode_rng
from sim.so101.goals import declare_goal
from sim.so101.scene_config import WORDS_SCENE
from sim.so101.two_block_scene import goal_site
from sim.so101.two_blocks import TwoBlockPickPlace, put_first, refuse_user_scene

# Distinguishes the order of the instructions from the random numbers of an episode.
_ORDER_STREAM = 2
# Episodes after which the order of the instructions repeats itself.
_PERIOD = 40

_WORDS = {"bowl": "in the bowl", "plate": "on the plate"}
_NAMED = tuple(product(WORDS_SCENE.blocks, WORDS_SCENE.receptacles))
INSTRUCTIONS = tuple(
    f"Pick up the {block.replace('_', ' ')} and place it {_WORDS[receptacle]}."
    for block, receptacle in _NAMED
)


def instruction_index(task: str, episode_index: int) -> int:
    """Return which of `INSTRUCTIONS` an episode has.

    Episodes 4k to 4k + 3 have each once, in a shuffled order that repeats itself every 40 episodes:
    any 40 in a row have each ten times.
    """
    group, place = divmod(episode_index % _PERIOD, len(INSTRUCTIONS))
    return int(episode_rng(task, group, _ORDER_STREAM).permutation(len(INSTRUCTIONS))[place])


class PickPlaceWords(TwoBlockPickPlace):
    """Success is the named block in the named receptacle; progress is about these two alone.

    The other block in it leaves the named block where it was (never picked up); the named block in
    the other receptacle was let go of far from the goal (dropped during transport).
    """

    def __init__(
        self,
        name: str,
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(name, WORDS_SCENE, "deg", image_sizes)
        self.spec = replace(
            self.spec,
            instructions=INSTRUCTIONS,
            goals=(declare_goal("in named_block named_receptacle"),),
        )

    @property
    def instruction(self) -> str:
        return INSTRUCTIONS[self._instruction_index]

    @property
    def blocks(self) -> tuple[str, ...]:
        return put_first(_NAMED[self._instruction_index][0], self.config.blocks)

    @property
    def receptacles(self) -> tuple[str, ...]:
        return put_first(_NAMED[self._instruction_index][1], self.config.receptacles)

    def _place_objects(
        self,
        rng: np.random.Generator,
        episode_index: int,
    ) -> None:
        super()._place_objects(rng, episode_index)
        self._tell(instruction_index(self.config.name, episode_index))

    def _tell(self, index: int) -> None:
        self._instruction_index = index
        block, receptacle = _NAMED[index]
        self._bind_goal(block, goal_site(receptacle))

    def _memory(self) -> list[float]:
        return [*super()._memory(), float(self._instruction_index)]

    def _remember(self, memory: list[float]) -> None:
        super()._remember(memory)
        self._tell(int(memory[2]))


def make_pick_place_words(
    name: str,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    scene_path: str | None = None,
) -> PickPlaceWords:
    """Two blocks, a bowl and a plate, body joints in degrees."""
    refuse_user_scene(name, scene_path)
    return PickPlaceWords(name, image_sizes)
