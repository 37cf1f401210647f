"""Runs the episodes of a schedule, by one runner in this thread or by several at once."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from queue import SimpleQueue
from threading import Thread

from eval.episode_runner import EpisodeRunner, FinishedEpisode
from eval.schedule import Episode, Schedule

# What a runner has done: an episode, nothing more to do, or an error that ends the evaluation.
type _Report = FinishedEpisode | None | BaseException


def run_episodes(
    runners: Sequence[EpisodeRunner],
    schedule: Schedule,
) -> Generator[FinishedEpisode]:
    """Yield each episode as it ends. The runners are closed at the end, or when this is closed.

    Several runners are asked in threads of their own. A runner never waits for another one.

    Raises:
        WhiskerError: a runner cannot begin a task.
    """
    with ExitStack() as opened:
        for runner in runners:
            opened.enter_context(closing(runner))
        if len(runners) == 1:
            while (episode := schedule.take(0)) is not None:
                yield runners[0].run(*episode)
        else:
            yield from _run_in_threads(runners, schedule)


def _run_in_threads(
    runners: Sequence[EpisodeRunner],
    schedule: Schedule,
) -> Iterator[FinishedEpisode]:
    reports: SimpleQueue[_Report] = SimpleQueue()
    for number, runner in enumerate(runners):
        # The interpreter does not wait for the thread of a runner that is closed and hangs.
        Thread(
            target=_work,
            args=(number, runner, schedule, reports),
            daemon=True,
        ).start()
    n_working = len(runners)
    while n_working:
        report = reports.get()
        if report is None:
            n_working -= 1
        elif isinstance(report, BaseException):
            raise report
        else:
            yield report


def _work(
    number: int,
    runner: EpisodeRunner,
    schedule: Schedule,
    reports: "SimpleQueue[_Report]",
) -> None:
    """Run episodes until none is left."""
    try:
        while (episode := schedule.take(number)) is not None:
            reports.put(runner.run(*episode))
        runner.leave()
        reports.put(None)
    except BaseException as error:
        reports.put(error)


def in_order(
    finished: Iterator[FinishedEpisode],
    order: Sequence[Episode],
) -> Iterator[FinishedEpisode]:
    """Yield the episodes in an order; those that end early wait.

    Args:
        order: all episodes that will end.
    """
    early: dict[Episode, FinishedEpisode] = {}
    expected = iter(order)
    next_episode = next(expected, None)
    for each in finished:
        early[each.row.task, each.row.episode_index] = each
        while next_episode in early:
            yield early.pop(next_episode)
            next_episode = next(expected, None)
