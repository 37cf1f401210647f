"""Sends the status, progress messages and events of a viewer to every open page."""

import queue
import time
from collections.abc import Iterator

# Progress messages that change faster than this cannot be read.
_MIN_INTERVAL_S = 0.2

# The name and the content of each event; None when nothing happened for a while.
type Events = Iterator[tuple[str, dict] | None]
type _Listener = queue.SimpleQueue[tuple[str, dict]]


class EventBoard:
    """Passes events on to every listener. It may be used from many threads.

    Attributes:
        status: what the current rollout does ("state"), the episode's key, and a message about it.
            The state is "paused", "running", "busy" or "closed". No event follows "closed".
    """

    def __init__(self) -> None:
        self.status = {"state": "paused", "key": "", "message": ""}
        self._progress = {"message": ""}
        self._last_said_s = 0.0
        self._listeners: list[_Listener] = []

    def events(self, wait_s: float) -> Events:
        """Yield the name and content of every event from now on.

        Yields None whenever nothing happened for `wait_s` seconds.
        """
        listener: _Listener = queue.SimpleQueue()
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
        """Send an event to every listener."""
        for listener in list(self._listeners):
            listener.put((name, content))

    def say(self, message: str) -> None:
        """Show a progress message; "" clears it."""
        if message == self._progress["message"]:
            return
        self._last_said_s = time.monotonic()
        self._progress = {"message": message}
        self.tell("progress", self._progress)

    def count(
        self,
        what: str,
        n_done: int,
        n_all: int,
    ) -> None:
        """Show the progress of work that has `n_all` parts, at most every 0.2 s."""
        if time.monotonic() - self._last_said_s > _MIN_INTERVAL_S:
            self.say(f"{what} {n_done} of {n_all}")

    def set_status(
        self,
        state: str,
        key: str | None = None,
        message: str = "",
    ) -> None:
        """Change the status and send it. None keeps the current key."""
        if key is None:
            key = self.status["key"]
        self.status = {"state": state, "key": key, "message": message}
        self.tell("status", self.status)
