"""Makes the forward passes of one policy for several episodes that run at once."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from threading import Condition, Thread
from typing import Any

import numpy as np

from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, Policy

# Time in which a forward pass may end before its thread is left to itself.
_END_LIMIT_S = 3.0
_CLOSED = "the policy is closed"


@dataclass(frozen=True, eq=False)
class _Request:
    """A request for one plan, and the promise of it."""

    memory: EpisodeMemory
    rng: np.random.Generator
    asked_s: float = field(default_factory=time.monotonic)
    answer: Future[ActionChunk] = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of the policy, and the promise of its result."""

    call: Callable[[Policy], Any]
    answer: Future[Any] = field(default_factory=Future)


class BatchedForwards:
    """Plans for several episodes in one forward pass of a policy, in a thread of its own.

    A forward pass always has the same number of rows, and a row that nobody asked for is a copy of
    another one. A kernel may round the rows of its batch differently, so whoever asks says which
    row it wants. The bits of a plan then depend on its observation, its generator and its row, and
    not on the rest of the batch.

    A request waits for others only as long as that pays: until every row is asked for, until every
    episode that runs has asked, or until it has waited as long as the last forward pass took.

    It may be asked from several threads.
    """

    def __init__(self, policy: Policy, n_rows: int) -> None:
        self.policy = policy
        self.n_rows = n_rows
        self._waiting: list[deque[_Request]] = [deque() for _ in range(n_rows)]
        self._calls: deque[_Call] = deque()
        self._changed = Condition()
        self._n_episodes = 0
        self._last_forward_s = 0.0
        self._closed_s: float | None = None
        self._is_too_large = False
        # The interpreter does not wait for a forward pass that hangs.
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def closed_s(self) -> float | None:
        """Return the time of `close`, by `time.monotonic`; None before."""
        return self._closed_s

    @property
    def is_too_large(self) -> bool:
        """Return whether the GPU had no memory for a forward pass of so many rows."""
        return self._is_too_large

    @property
    def n_waiting(self) -> int:
        """Return the number of requests that no forward pass has begun for."""
        return sum(map(len, self._waiting))

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Count an episode as running. Others wait for the requests of those that run.

        Raises:
            RuntimeError: this is closed.
        """
        with self._changed:
            self._check_open()
            self._n_episodes += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_episodes -= 1
                self._changed.notify_all()

    def plan(self, row: int, memory: EpisodeMemory, rng: np.random.Generator) -> ActionChunk:
        """Return the plan for one memory, whose recurrent state is replaced, as a chunk of one row.

        Raises:
            RuntimeError: this is closed.
            Exception: the forward pass raised it for this memory.
        """
        request = _Request(memory, rng)
        with self._changed:
            self._check_open()
            self._waiting[row].append(request)
            self._changed.notify_all()
        return request.answer.result()

    def run[Result](self, call: Callable[[Policy], Result]) -> Result:
        """Return what a call of the policy returns in the thread of the forward passes."""
        asked = _Call(call)
        with self._changed:
            self._check_open()
            self._calls.append(asked)
            self._changed.notify_all()
        return asked.answer.result()

    def close(self) -> None:
        """End the thread. Whoever waits gets an error. A second call does nothing."""
        with self._changed:
            if self._closed_s is not None:
                return
            self._closed_s = time.monotonic()
            self._changed.notify_all()
        self._thread.join(_END_LIMIT_S)

    def _check_open(self) -> None:
        if self._closed_s is not None:
            raise RuntimeError(_CLOSED)

    def _work(self) -> None:
        while (job := self._take_job()) is not None:
            job()
        with self._changed:
            left: list[_Call | _Request] = [*self._calls, *chain.from_iterable(self._waiting)]
            for asked in left:
                asked.answer.set_exception(RuntimeError(_CLOSED))

    def _take_job(self) -> Callable[[], None] | None:
        """Wait for the next call or the next forward pass; None once this is closed."""
        with self._changed:
            while self._closed_s is None:
                if self._calls:
                    return partial(self._make, self._calls.popleft())
                left_s = self._compute_wait_s()
                if left_s is not None and left_s <= 0:
                    requests = [queue.popleft() if queue else None for queue in self._waiting]
                    return partial(self._answer, requests)
                self._changed.wait(left_s)
            return None

    def _make(self, asked: _Call) -> None:
        try:
            asked.answer.set_result(asked.call(self.policy))
        except BaseException as error:
            asked.answer.set_exception(error)

    def _compute_wait_s(self) -> float | None:
        """Return how long the waiting requests wait for others; None: there are none."""
        oldest = [queue[0] for queue in self._waiting if queue]
        if not oldest:
            return None
        if len(oldest) == self.n_rows or self.n_waiting >= self._n_episodes:
            return 0.0
        first_s = min(request.asked_s for request in oldest)
        return first_s + self._last_forward_s - time.monotonic()

    def _answer(self, requests: Sequence[_Request | None]) -> None:
        """Answer the requests, one a row. If that raises, each is answered by itself."""
        asked = [request for request in requests if request is not None]
        try:
            begin_s = time.monotonic()
            plans = self._forward(requests, asked[0])
            self._last_forward_s = time.monotonic() - begin_s
        except BaseException as error:
            self._is_too_large |= _is_out_of_memory(error)
            if len(asked) == 1 or self._is_too_large:
                for each in asked:
                    each.answer.set_exception(error)
                return
            # The fault of one episode is not that of its neighbours.
            for alone in asked:
                self._answer([each if each is alone else None for each in requests])
            return
        for request, (memory, chunk) in zip(requests, plans, strict=True):
            if request is not None:
                request.memory.recurrent_state = memory.recurrent_state
                request.answer.set_result(chunk)

    def _forward(
        self,
        requests: Sequence[_Request | None],
        filler: _Request,
    ) -> list[tuple[EpisodeMemory, ActionChunk]]:
        """Return for each row the memory after the forward pass, and the chunk of that row.

        The requests are copied, so that they can be answered again if this raises.
        """
        rows = [request or filler for request in requests]
        memories = [row.memory.copy() for row in rows]
        rngs = [deepcopy(row.rng) for row in rows]
        chunk = self.policy.predict(memories, rngs)
        return [(memory, chunk.row(index)) for index, memory in enumerate(memories)]


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError)
