"""The policy of one episode at a time, whose plans are made together with those of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

from policies.action_chunk import ActionChunk
from policies.batched_forwards import BatchedForwards
from policies.policy import EpisodeMemory, Generators, Memories, PolicySpec


class BatchingPolicy:
    """`policies.policy.Policy` that asks `BatchedForwards`, which it shares with others.

    It plans for one episode at a time. Several of these are used from several threads.
    """

    def __init__(self, forwards: BatchedForwards) -> None:
        self._forwards = forwards
        self._row = 0

    @property
    def spec(self) -> PolicySpec:
        return self._forwards.policy.spec

    @contextmanager
    def episode(self, task: str, episode_index: int) -> Iterator[None]:
        """Plan for this episode. Which row of a batch it has depends on nothing but the episode."""
        self._row = choose_row(task, episode_index, self._forwards.n_rows)
        with self._forwards.episode():
            yield

    def reset(self) -> EpisodeMemory:
        return self._forwards.run(lambda policy: policy.reset())

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        """Return the plan of the episode.

        Args:
            memories: of exactly one episode.
        """
        (memory,) = memories
        (rng,) = rngs
        return self._forwards.plan(self._row, memory, rng)

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        return self._forwards.run(lambda policy: policy.sample(memory, rngs))


def choose_row(task: str, episode_index: int, n_rows: int) -> int:
    """Return the row of a batch that an episode has, whoever runs beside it.

    Consecutive episodes of a task have different rows. Tasks begin at different ones, because the
    first episodes of several tasks may run at once.
    """
    return (crc32(task.encode()) + episode_index) % n_rows
