"""Protocols of what the viewer's server serves: one run or several, recorded or live."""

from typing import Protocol, runtime_checkable

from viz.event_board import Events


@runtime_checkable
class PageSource(Protocol):
    """Provides the data of the page. It is called from many threads."""

    def page(self) -> dict:
        """Return the data that the page has before it loads an episode."""

    def scene(self, task: str) -> dict:
        """Return the shapes of a task's scene.

        Raises:
            WhiskerError: there is no such task.
        """

    def episode(self, key: str) -> dict:
        """Return an episode.

        Raises:
            WhiskerError: there is no such episode, or it cannot be read.
        """

    def plan(self, key: str, prediction: int) -> dict:
        """Return the paths of a prediction's plans, if the episode came without them.

        Raises:
            WhiskerError: there is no such prediction, or it cannot be read.
        """

    def images(
        self,
        key: str,
        prediction: int,
    ) -> dict:
        """Return the cameras' images at a prediction, if the episode came without them.

        Raises:
            WhiskerError: there is no such prediction, or it cannot be read.
        """

    def command(self, command: dict) -> None:
        """Start a command of the page.

        Raises:
            WhiskerError: the command is not possible.
        """

    def events(self, wait_s: float) -> Events:
        """Yield the name and content of every event from now on.

        Yields None whenever nothing happened for `wait_s` seconds.
        """


@runtime_checkable
class GrowingSource(PageSource, Protocol):
    """Provides recorded episodes, whose number grows while their run goes on."""

    def rows(self, after: int) -> dict:
        """Return the rows without the first `after` of them.

        Raises:
            WhiskerError: they cannot be read.
        """


@runtime_checkable
class ReportedSource(PageSource, Protocol):
    """A source of a run that may have a report."""

    def report(self) -> bytes:
        """Return the report, an HTML page.

        Raises:
            WhiskerError: the run has no report.
        """


@runtime_checkable
class RunSources(Protocol):
    """Provides several runs, one of which each request names. It is called from many threads."""

    def listing(self) -> dict:
        """Return the list of the runs."""

    def open(self, run: str) -> PageSource:
        """Return the source of a run's pages.

        Raises:
            WhiskerError: there is no such run.
        """

    def report(self, run: str) -> bytes:
        """Return the report of a run, an HTML page.

        Raises:
            WhiskerError: there is no such run, or it has no report.
        """

    def compare(self, run: str, against: str) -> dict:
        """Return what two runs show when they are compared episode by episode.

        Raises:
            WhiskerError: there is no such run, or the two cannot be compared.
        """

    def other_episode(
        self,
        run: str,
        against: str,
        key: str,
    ) -> dict:
        """Return the recording of an episode of `run` that the run `against` made.

        Raises:
            WhiskerError: the two cannot be compared, or the other one has no such episode.
        """
