"""The task in which the instruction names one of two blocks and one of two receptacles."""

from dataclasses import replace
from itertools import product

import numpy as np

from sim.arrays import ImageSizes
from sim.env import episode_rng
from sim.so101.goals import declare_goal
from sim.so101.scene_config import WORDS_SCENE, TwoBlockScene
from sim.so101.two_block_scene import goal_site
from sim.so101.two_blocks import TwoBlockPickPlace, put_first

# Separates the random stream of the instructions' order from that of the objects' places.
_ORDER_STREAM = 2
# The order of the instructions repeats after this many episodes.
_PERIOD = 40

_WORDS = {"bowl": "in the bowl", "plate": "on the plate"}
_NAMED = tuple(product(WORDS_SCENE.blocks, WORDS_SCENE.receptacles))
INSTRUCTIONS = tuple(
    f"Pick up the {block.replace('_', ' ')} and place it {_WORDS[receptacle]}."
    for block, receptacle in _NAMED
)


def instruction_index(task: str, episode_index: int) -> int:
    """Return the index in `INSTRUCTIONS` of an episode's instruction.

    Episodes 4k to 4k + 3 have each instruction once, in a shuffled order that repeats every 40
    episodes. Any 40 consecutive episodes therefore have each instruction ten times.
    """
    group, place = divmod(episode_index % _PERIOD, len(INSTRUCTIONS))
    return int(episode_rng(task, group, _ORDER_STREAM).permutation(len(INSTRUCTIONS))[place])


class PickPlaceWords(TwoBlockPickPlace):
    """Succeeds with the named block in the named receptacle. Progress is about these two alone.

    If the robot moves the other block instead, the outcome is `never_picked_up`, because the named
    block stays in place. If it uses the other receptacle, the outcome is
    `dropped_during_transport`, because the named block is released far from the goal.
    """

    def __init__(
        self,
        name: str,
        config: TwoBlockScene,
        image_sizes: ImageSizes | None,
    ) -> None:
        super().__init__(name, config, image_sizes=image_sizes)
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
        self._set_instruction(instruction_index(self.config.name, episode_index))

    def _set_instruction(self, index: int) -> None:
        self._instruction_index = index
        block, receptacle = _NAMED[index]
        self._bind_goal(block, goal_site(receptacle))

    def _memory(self) -> list[float]:
        return [*super()._memory(), float(self._instruction_index)]

    def _set_memory(self, memory: list[float]) -> None:
        super()._set_memory(memory)
        self._set_instruction(int(memory[2]))
