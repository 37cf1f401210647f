"""Episodes that begin on a regular grid of initial states, in place of drawn ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from sim.capabilities import SettableStart, require
from sim.env import Env
from sim.errors import UnknownNameError, WhiskerError
from sim.spec import EnvSpec
from sim.wrapper import EnvWrapper

# More cells than anybody evaluates are a typing error.
_MOST_CELLS = 1_000_000


@dataclass(frozen=True)
class InitGrid:
    """A regular grid of initial states.

    Attributes:
        text: as it was asked for.
        counts: scalar of the initial state → number of its values, the slowest first.
    """

    text: str
    counts: Mapping[str, int]

    @property
    def n_cells(self) -> int:
        return prod(self.counts.values())

    def find_cell(self, index: int, ranges: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Return the scalars at the middle of a cell; the last scalar changes fastest."""
        places = np.unravel_index(index, tuple(self.counts.values()))
        cell = {}
        for (name, count), place in zip(self.counts.items(), places, strict=True):
            low, high = ranges[name]
            cell[name] = low + (float(place) + 0.5) / count * (high - low)
        return cell


class GridEnv(EnvWrapper):
    """An environment whose episode k begins in cell k of a grid.

    Whatever the grid does not set is drawn as in episode k of the environment.
    """

    def __init__(self, env: Env, text: str) -> None:
        """Wrap an environment.

        Args:
            text: the grid, for `parse_grid`.

        Raises:
            WhiskerError: the initial state of the environment cannot be set like that.
        """
        super().__init__(env)
        self._settable = require(env, SettableStart, "--init-grid")
        self._ranges = self._settable.start_ranges()
        self._grid = parse_grid(text, self._ranges)

    @property
    def spec(self) -> EnvSpec:
        spec = self._env.spec
        task = name_grid_task(spec.task, self._grid.text)
        return replace(spec, task=task, n_episodes=self._grid.n_cells)

    def reset(self, episode_index: int) -> None:
        self._settable.reset_at(
            episode_index,
            self._grid.find_cell(episode_index, self._ranges),
        )


def name_grid_task(task: str, text: str) -> str:
    """Return the task of episodes on a grid: "pick_place_grid_10x10"."""
    return f"{task}_grid_{re.sub(r'[^A-Za-z0-9]+', '-', text)}"


def count_cells(text: str) -> int:
    """Return the number of cells of a grid, without its environment.

    Raises:
        WhiskerError: the text is no grid.
    """
    return prod(count for _, count in _parse_counts(text))


def parse_grid(text: str, ranges: Mapping[str, tuple[float, float]]) -> InitGrid:
    """Return the grid that a flag describes.

    Args:
        text: "10x10" for the environment's first scalars, or "object x=10,object yaw=4".
        ranges: from `SettableStart.start_ranges`.

    Raises:
        UnknownNameError: the environment has no such scalar.
        WhiskerError: the text is no grid, or has more numbers than the environment has scalars.
    """
    names = list(ranges)
    pairs = _parse_counts(text)
    if len(pairs) > len(names):
        raise WhiskerError(
            f"--init-grid {text}",
            expected=f"at most {len(names)} numbers: {', '.join(names) or 'none can be set'}",
            got=str(len(pairs)),
        )
    counts = {}
    for place, (name, count) in enumerate(pairs):
        name = name or names[place]
        if name not in ranges:
            raise UnknownNameError("scalar of the initial state", name, names)
        counts[name] = count
    return InitGrid(text, counts)


def _parse_counts(text: str) -> list[tuple[str, int]]:
    """Return the name of each scalar, "" if it has none, with the number of its values."""
    parts = text.split(",") if "=" in text else [f"={count}" for count in text.split("x")]
    pairs = []
    for part in parts:
        name, _, count = part.partition("=")
        pairs.append((name.strip(), int(count) if count.strip().isdecimal() else 0))
    if not 0 < prod(count for _, count in pairs) <= _MOST_CELLS:
        raise WhiskerError(
            f"--init-grid {text}",
            expected="numbers of values, such as 10x10 or 'object x=10,object yaw=4', with at "
            f"most {_MOST_CELLS} cells",
            got=repr(text),
        )
    return pairs
