"""Hands out the episodes of an evaluation to those that run them."""

from collections import deque
from collections.abc import Iterable, Sequence
from threading import Lock

# A task and the index of an episode of it.
type Episode = tuple[str, int]


class Schedule:
    """Episodes that have not been begun, in blocks of one task each.

    Whoever has run an episode gets the next one of the same block, because another task needs
    another environment. Nobody waits: if no block is left that nobody has begun, the blocks are
    shared. It may be asked from several threads.

    Attributes:
        episodes: all episodes, in the order of the blocks.
        running: number of a runner → the episode that it has been given last.
    """

    def __init__(self, blocks: Iterable[tuple[str, Sequence[int]]]) -> None:
        """Args:
        blocks: a task and the indices of its episodes, in the order in which they should run.
        """
        self._blocks = [(task, deque(indices)) for task, indices in blocks if indices]
        self._n_helpers = [0] * len(self._blocks)
        self._block_of: dict[int, int] = {}
        self._lock = Lock()
        self.episodes = [(task, index) for task, indices in self._blocks for index in indices]
        self.running: dict[int, Episode] = {}

    def take(self, runner: int) -> Episode | None:
        """Return the next episode of a runner, which is named by a number; None if none is left."""
        with self._lock:
            self.running.pop(runner, None)
            block = self._block_of.get(runner)
            if block is None or not self._blocks[block][1]:
                block = self._change_block(runner)
                if block is None:
                    return None
            task, indices = self._blocks[block]
            self.running[runner] = (task, indices.popleft())
            return self.running[runner]

    def _change_block(self, runner: int) -> int | None:
        """Return the block with the fewest helpers, the first of these; None if all are empty."""
        left = self._block_of.pop(runner, None)
        if left is not None:
            self._n_helpers[left] -= 1
        open_blocks = [index for index, (_, indices) in enumerate(self._blocks) if indices]
        if not open_blocks:
            return None
        chosen = min(open_blocks, key=self._n_helpers.__getitem__)
        self._n_helpers[chosen] += 1
        self._block_of[runner] = chosen
        return chosen
