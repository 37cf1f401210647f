"""Serves a recorded run to the viewer's page."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from threading import Lock
from typing import TYPE_CHECKING

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Snapshots
from sim.errors import WhiskerError
from sim.registry import family_of
from viz.event_board import EventBoard, Events
from viz.page import choose_first, page_data
from viz.page_data import find_by_key, find_owner, row_data, row_key, scene_data
from viz.replay import open_replay_env
from viz.replayed_episode import ReplayedEpisode
from viz.run_report import has_report, read_report

if TYPE_CHECKING:
    from viz.live_episode import LiveEpisode
    from viz.run_branches import RunBranches

_MAX_KEPT = 12

type _Episode = ReplayedEpisode | LiveEpisode


class RunSource:
    """`viz.page_source.PageSource` of a run folder.

    One thread does all work with an environment, because OpenGL contexts belong to a thread. Plans
    are simulated and images are rendered when the page asks for them, so that the scene does not
    wait for them.
    """

    def __init__(
        self,
        run: Run,
        first: EpisodeRow | None,
        show_intermediate: bool = False,
        name: str | None = None,
    ) -> None:
        """Start to read the first episode, while the browser starts.

        Args:
            run: the run.
            first: the episode to open first. None opens the first failed one at the time of the
                page's request, and reads nothing before.
            show_intermediate: show the intermediate plans at first.
            name: name of the run in the page's address; None: the name of its folder.
        """
        self._run = run
        self._first = first
        self._show_intermediate = show_intermediate
        self._name = run.path.name if name is None else name
        self._board = EventBoard()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay")
        self._env: tuple[str, Snapshots] | None = None
        self._opened = ExitStack()
        self._scenes: dict[str, dict] = {}
        self._outlines: dict[str, dict] = {}
        self._replayed: dict[str, ReplayedEpisode] = {}
        self._branches: RunBranches | None = None
        self._making_branches = Lock()
        if first is not None:
            self._worker.submit(self._prepare, first)

    def page(self) -> dict:
        """Return the data that the page has before it loads an episode."""
        rows = self._run.rows
        first = self._first or choose_first(rows)
        page = page_data(
            "run",
            self._name,
            self._run.description,
            [*rows, *self._run.branches],
            row_key(first) if first else None,
            self._show_intermediate,
        )
        live = self._live()
        saved_rows = [row for row in page["episodes"] if row["key"] not in live]
        live_rows = [episode.row for episode in live.values()]
        page["episodes"] = saved_rows + live_rows
        page["n_rows"] = len(rows)
        page["n_missing"] = len(self._run.missing)
        page["has_report"] = has_report(self._run.path)
        return page

    def report(self) -> bytes:
        """Return the report of the run, an HTML page.

        Raises:
            WhiskerError: the run has no report.
        """
        return read_report(self._run.path)

    def rows(self, after: int) -> dict:
        """Return the rows of the run without the first `after` of them, as they ended."""
        rows = self._run.rows_as_they_ended
        return {
            "rows": [row_data(row) for row in rows[after:]],
            "n_rows": len(rows),
            "n_missing": len(self._run.missing),
        }

    def scene(self, task: str) -> dict:
        """Return the shapes of a task's scene."""
        if task not in {row.task for row in self._run.rows}:
            subject = f"task {task!r} of {str(self._run.path)!r}"
            raise WhiskerError(subject, expected="one that was run")
        return self._in_worker(lambda: self._scene_of(task))

    def episode(self, key: str) -> dict:
        """Return an episode without its plans and images, or a live branch so far."""
        live = self._live()
        if key in live:
            return live[key].as_data()
        row = find_by_key(self._run, key)
        return self._in_worker(lambda: self._outline_of(row))

    def other_episode(self, other: Run, key: str) -> dict:
        """Return another run's recording of an episode of this run, without plans and images.

        It is replayed in the environment of this run, so that the environment stays open.

        Args:
            other: a run whose episodes begin and end like those of this one.
            key: the key of the episode.

        Raises:
            WhiskerError: one of the runs has no such episode, or the other one's cannot be read.
        """
        task = find_by_key(self._run, key).task
        row = find_by_key(other, key)

        def replay() -> dict:
            episode = ReplayedEpisode.load(self._env_of(task), other, row)
            return {"row": row_data(row), **episode.outline(self._board.count)}

        return self._in_worker(replay)

    def plan(
        self,
        key: str,
        prediction: int,
    ) -> dict:
        """Return the paths of a prediction's plans."""
        return self._ask_owner(key, prediction, lambda episode: episode.plan(prediction))

    def images(
        self,
        key: str,
        prediction: int,
    ) -> dict:
        """Return the cameras' images at a prediction."""
        return self._ask_owner(key, prediction, lambda episode: episode.images(prediction))

    def command(self, command: dict) -> None:
        """Start a branch at a decision, or continue one. The recorded episodes do not change."""
        with self._making_branches:
            if self._branches is None:
                self._branches = self._make_branches()
        self._branches.command(command)

    def events(self, wait_s: float) -> Events:
        """Yield the events of the branches."""
        return self._board.events(wait_s)

    def rest(self) -> None:
        """Free the environments and the kept data. The next request loads them again.

        A running branch goes on.
        """
        if self._branches is not None:
            self._branches.rest()
        with suppress(RuntimeError):  # it was closed, and has nothing left to free
            self._worker.submit(self._free)

    def close(self) -> None:
        """End the branches and free everything."""
        self._board.set_status("closed", message="whiskers has ended")
        if self._branches is not None:
            self._branches.close()
        self._worker.submit(self._free).result()
        self._worker.shutdown()

    def _make_branches(self) -> "RunBranches":
        """Import what policies need. This takes seconds, and only branches need it."""
        self._board.set_status("busy")
        self._board.say("loading what policies need")
        try:
            from viz.run_branches import RunBranches

            return RunBranches(self._board, self._run)
        finally:
            self._board.say("")
            self._board.set_status("paused")

    def _live(self) -> "dict[str, LiveEpisode]":
        """Return the branches that began since the page was opened, by key."""
        return {} if self._branches is None else dict(self._branches.episodes)

    def _ask_owner(
        self,
        key: str,
        prediction: int,
        ask: "Callable[[_Episode], dict]",
    ) -> dict:
        """Call `ask` with the episode or branch that made a prediction."""
        if self._branches is not None:
            key = self._branches.owner_of(key, prediction)
        live = self._live()
        if key in live:
            return ask(live[key])
        row = find_owner(self._run, find_by_key(self._run, key), prediction)
        return self._in_worker(lambda: ask(self._episode_of(row)))

    def _in_worker(self, make: Callable[[], dict]) -> dict:
        def make_and_clear_progress() -> dict:
            try:
                return make()
            finally:
                self._board.say("")

        try:
            made = self._worker.submit(make_and_clear_progress)
        except RuntimeError as error:
            # The worker was shut down while a page was still open.
            raise WhiskerError(
                "whiskers", expected="a running server", got="one that has ended"
            ) from error
        return made.result()

    # The methods below run in the worker's thread.

    def _free(self) -> None:
        self._env = None
        self._scenes.clear()
        self._outlines.clear()
        self._replayed.clear()
        self._opened.close()

    def _prepare(self, first: EpisodeRow) -> None:
        """Load what the page requests first. Errors are reported when it does."""
        with suppress(Exception):
            self._scene_of(first.task)
            self._outline_of(first)
        self._board.say("")

    def _scene_of(self, task: str) -> dict:
        if task not in self._scenes:
            env = self._env_of(task)
            self._board.say(f"reading the shapes of {env.spec.name}")
            self._scenes[task] = scene_data(env)
        return self._scenes[task]

    def _outline_of(self, row: EpisodeRow) -> dict:
        return _get_or_make(
            self._outlines,
            row_key(row),
            lambda: self._episode_of(row).outline(self._board.count),
        )

    def _episode_of(self, row: EpisodeRow) -> ReplayedEpisode:
        """Return an episode in the environment that is open now."""
        env = self._env_of(row.task)
        return _get_or_make(
            self._replayed,
            row_key(row),
            lambda: ReplayedEpisode.load(env, self._run, row),
        )

    def _env_of(self, task: str) -> Snapshots:
        """Return the environment of a task. Only one is open, since one of LIBERO takes 2 GB."""
        if self._env is not None and self._env[0] == task:
            return self._env[1]
        self._env = None
        self._opened.close()
        self._replayed.clear()
        name = self._run.description.tasks[task]
        where = " in its own process" if family_of(name).in_own_process else ""
        self._board.say(f"opening {name}{where}")
        env = self._opened.enter_context(closing(open_replay_env(self._run, task)))
        self._env = (task, env)
        return env


def _get_or_make[Content](
    kept: dict[str, Content],
    key: str,
    make: Callable[[], Content],
) -> Content:
    """Return the kept value of a key, or make it. The oldest value is dropped if there are many."""
    if key not in kept:
        content = make()
        while len(kept) >= _MAX_KEPT:
            del kept[next(iter(kept))]
        kept[key] = content
    return kept[key]
