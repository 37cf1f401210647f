"""The SO-101 picks one of two blocks up and places it in one of two receptacles, both named by the instruction."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import mujoco
import numpy as np

from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import WORDS_SCENE, TwoBlockScene
from sim.so101.two_block_scene import build_two_block_model, goal_site

# Distinguishes the order of the instructions from the random numbers of an episode.
_ORDER_STREAM = 2
# Episodes after which the order of the instructions repeats itself.
_PERIOD = 40

_WORDS = {"bowl": "in the bowl", "plate": "on the plate"}
_NAMED = tuple(product(WORDS_SCENE.blocks, WORDS_SCENE.receptacles))
INSTRUCTIONS = tuple(
    f"Pick up the {block.replace('_', ' ')} and place it {_WORDS[receptacle]}." for block, receptacle in _NAMED
)


def instruction_index(task: str, episode_index: int) -> int:
    """Return which of `INSTRUCTIONS` an episode has.

    Episodes 4k to 4k + 3 have each once, in a shuffled order that repeats itself every 40 episodes: any 40 in a row
    have each ten times.
    """
    group, place = divmod(episode_index % _PERIOD, len(INSTRUCTIONS))
    return int(episode_rng(task, group, _ORDER_STREAM).permutation(len(INSTRUCTIONS))[place])


class TwoBlockPickPlace(PickPlace):
    """`PickPlace` with two blocks, one to each side, and one or two receptacles."""

    config: TwoBlockScene

    def _build_model(self) -> mujoco.MjModel:
        return build_two_block_model(self.config)

    def _bind_start(self) -> None:
        self._bind_goal(self.config.blocks[0], goal_site(self.config.receptacles[0]))

    def _place_objects(self, rng: np.random.Generator, episode_index: int) -> None:
        config = self.config
        for name, side in zip(config.blocks, _draw_sides(rng), strict=True):
            x_m, y_m = rng.uniform(*config.block_x_m), side * rng.uniform(*config.block_y_m)
            self._place_block(name, x_m, y_m, rng.uniform(*config.block_yaw_rad))
        for name, side in zip(config.receptacles, _draw_sides(rng), strict=False):
            pos_m = rng.uniform(*config.receptacle_x_m), side * rng.uniform(*config.receptacle_y_m), 0.0
            self.data.mocap_pos[self.model.body(name).mocapid[0]] = pos_m


class PickPlaceWords(TwoBlockPickPlace):
    """Success is the named block in the named receptacle; progress is about these two alone.

    The other block in it leaves the named block where it was (never picked up); the named block in the other
    receptacle was let go of far from the goal (dropped during transport).
    """

    def __init__(self, name: str, image_sizes: Mapping[str, tuple[int, int]] | None = None) -> None:
        super().__init__(name, WORDS_SCENE, "deg", image_sizes)
        self.spec = replace(self.spec, instructions=INSTRUCTIONS, goals=("in named_block named_receptacle",))

    @property
    def instruction(self) -> str:
        return INSTRUCTIONS[self._instruction_index]

    @property
    def blocks(self) -> tuple[str, ...]:
        return _named_first(_NAMED[self._instruction_index][0], self.config.blocks)

    @property
    def receptacles(self) -> tuple[str, ...]:
        return _named_first(_NAMED[self._instruction_index][1], self.config.receptacles)

    def _place_objects(self, rng: np.random.Generator, episode_index: int) -> None:
        super()._place_objects(rng, episode_index)
        self._tell(instruction_index(self.config.name, episode_index))

    def _tell(self, index: int) -> None:
        self._instruction_index = index
        block, receptacle = _NAMED[index]
        self._bind_goal(block, goal_site(receptacle))

    def _memory(self) -> list[float]:
        return [*super()._memory(), self._instruction_index]

    def _remember(self, memory: list[float]) -> None:
        super()._remember(memory)
        self._tell(int(memory[2]))


def make_pick_place_words(
    name: str, image_sizes: Mapping[str, tuple[int, int]] | None = None, scene_path: str | None = None
) -> PickPlaceWords:
    """Two blocks, a bowl and a plate, body joints in degrees."""
    refuse_user_scene(name, scene_path)
    return PickPlaceWords(name, image_sizes)


def refuse_user_scene(name: str, scene_path: str | None) -> None:
    """Raise for a model of the user's own: only the scene of one block takes one."""
    if scene_path is not None:
        do = "Only the scenes of one block and one bowl take a model of your own, e.g. so101/pick_place@scene.xml."
        raise WhiskerError(f"environment {name!r}", expected="no scene of your own", got=scene_path, do=do)


def _draw_sides(rng: np.random.Generator) -> tuple[int, int]:
    """Return the sides of two things: 1 is left, -1 is right."""
    first = 1 if rng.random() < 0.5 else -1
    return first, -first


def _named_first(named: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return (named, *(name for name in names if name != named))
