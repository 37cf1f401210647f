"""Tells the pages that are open of a status, of progress in words, and of events."""

import queue
import time
from collections.abc import Iterator

# Words of progress that change faster cannot be read.
_LEAST_BETWEEN_S = 0.2


class EventBoard:
    """Passes events on to every listener. May be used from many threads.

    Attributes:
        status: what the rollout under way is doing, of which episode, and what there is to say
            about it. Its "state" is "paused", "running", "busy" or "closed", after which nothing is
            to come.
    """

    def __init__(self) -> None:
        self.status = {"state": "paused", "key": "", "message": ""}
        self._progress = {"message": ""}
        self._last_said_s = 0.0
        self._listeners: list[queue.SimpleQueue[tuple[str, dict]]] = []

    def events(self, wait_s: float) -> Iterator[tuple[str, dict] | None]:
        """Yield the name and content of everything that happens from now on; None when nothing did for that long."""
        listener: queue.SimpleQueue[tuple[str, dict]] = queue.SimpleQueue()
        self._listeners.append(listener)
        try:
            yield "status", self.status
            yield "progress", self._progress
            while self.status["state"] != "closed" or not listener.empty():
                try:
                    yield listener.get(timeout=wait_s)
                except queue.Empty:
                    yield None
        finally:
            self._listeners.remove(listener)

    def tell(self, name: str, content: dict) -> None:
        """Tell every listener of an event."""
        for listener in list(self._listeners):
            listener.put((name, content))

    def say(self, message: str) -> None:
        """Say what is being waited for; "" when nothing is."""
        if message == self._progress["message"]:
            return
        self._last_said_s = time.monotonic()
        self._progress = {"message": message}
        self.tell("progress", self._progress)

    def count(self, what: str, n_done: int, n_all: int) -> None:
        """Say how far something has come that has many parts."""
        if time.monotonic() - self._last_said_s > _LEAST_BETWEEN_S:
            self.say(f"{what} {n_done} of {n_all}")

    def set_status(self, state: str, key: str | None = None, message: str = "") -> None:
        """Change the status and tell it; the key stays if there is no other."""
        self.status = {
            "state": state,
            "key": self.status["key"] if key is None else key,
            "message": message,
        }
        self.tell("status", self.status)
