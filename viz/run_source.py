"""A recorded run as the viewer's server gives it out."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from threading import Lock
from typing import TYPE_CHECKING

from eval.branches import BranchRow
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Snapshots
from sim.errors import WhiskerError
from sim.registry import family_of
from viz.event_board import EventBoard
from viz.page import choose_first, page_data
from viz.page_data import episode_key, row_data, row_key, scene_data
from viz.replay import open_replay_env
from viz.replayed_episode import ReplayedEpisode
from viz.run_report import has_report, read_report

if TYPE_CHECKING:
    from viz.live_episode import LiveEpisode
    from viz.run_branches import RunBranches

_MOST_EPISODES_KEPT = 12


class RunSource:
    """`viz.server.PageSource` of a run folder. One thread does all that needs an environment: OpenGL belongs to it.

    Plans are simulated and images are rendered when the page asks for those of a prediction: the
    scene is not kept waiting for them.
    """

    def __init__(
        self,
        run: Run,
        first: EpisodeRow | None,
        show_intermediate: bool = False,
        name: str | None = None,
    ) -> None:
        """Begin to read the first episode, while the browser starts.

        Args:
            first: the episode to open with; None: the first that failed by then, which is read when
                it is asked for.
            name: of the run, as the page's address has it; None: that of its folder.
        """
        self._run, self._first, self._show_intermediate = run, first, show_intermediate
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
        # A run that is still under way has more rows by now.
        rows = self._run.rows
        first = self._first or choose_first(rows)
        key = row_key(first) if first else None
        page = page_data(
            "run",
            self._name,
            self._run.description,
            [*rows, *self._run.branches],
            key,
            self._show_intermediate,
        )
        under_way = {key: episode.row for key, episode in self._live().items()}
        kept = [row for row in page["episodes"] if row["key"] not in under_way]
        state = {
            "n_rows": len(rows),
            "n_missing": len(self._run.missing),
            "has_report": has_report(self._run.path),
        }
        return page | state | {"episodes": [*kept, *under_way.values()]}

    def report(self) -> bytes:
        """Return the report of the run, an HTML page.

        Raises:
            WhiskerError: the run has no report.
        """
        return read_report(self._run.path)

    def rows(self, after: int) -> dict:
        """Return the rows that were written after the first `after` of them: none, while nothing new has ended."""
        rows = self._run.rows
        return {
            "rows": [row_data(row) for row in rows[after:]],
            "n_rows": len(rows),
            "n_missing": len(self._run.missing),
        }

    def scene(self, task: str) -> dict:
        if task not in {row.task for row in self._run.rows}:
            raise WhiskerError(
                f"task {task!r} of {str(self._run.path)!r}", expected="one that was run"
            )
        return self._in_worker(lambda: self._scene_of(task))

    def episode(self, key: str) -> dict:
        if key in self._live():
            return self._live()[key].as_data()
        row = self._row(key)
        return self._in_worker(lambda: self._outline_of(row))

    def plan(self, key: str, prediction: int) -> dict:
        return self._ask_about(key, prediction, lambda episode: episode.plan(prediction))

    def images(self, key: str, prediction: int) -> dict:
        return self._ask_about(key, prediction, lambda episode: episode.images(prediction))

    def command(self, command: dict) -> None:
        """Branch off at a decision, or go on with a branch: what was recorded stays as it is."""
        with self._making_branches:
            self._branches = self._branches or self._make_branches()
        self._branches.command(command)

    def events(self, wait_s: float) -> Iterator[tuple[str, dict] | None]:
        return self._board.events(wait_s)

    def rest(self) -> None:
        """Free the environments and what is kept; whoever asks again waits as at first.

        A branch under way goes on.
        """
        if self._branches is not None:
            self._branches.rest()
        self._worker.submit(self._free)

    def close(self) -> None:
        self._board.set_status("closed", message="whiskers has ended")
        if self._branches is not None:
            self._branches.close()
        self._worker.submit(self._free).result()
        self._worker.shutdown()

    def _make_branches(self) -> "RunBranches":
        """Import what policies need, which takes seconds: few of those who look at a run branch off."""
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

    def _row(self, key: str) -> EpisodeRow:
        rows = {row_key(row): row for row in [*self._run.rows, *self._run.branches]}
        if key not in rows:
            raise WhiskerError(
                f"episode {key!r} of {str(self._run.path)!r}", expected="one that was run"
            )
        return rows[key]

    def _ask_about(
        self, key: str, prediction: int, ask: "Callable[[ReplayedEpisode | LiveEpisode], dict]"
    ) -> dict:
        """Ask the episode that made a decision, or a branch that did."""
        if self._branches is not None:
            key = self._branches.owner_of(key, prediction)
        live = self._live()
        if key in live:
            return ask(live[key])
        row = self._row(key)
        while isinstance(row, BranchRow) and prediction < row.branch.at_prediction:
            row = self._row(episode_key(row.task, row.episode_index, row.branch.of))
        return self._in_worker(lambda: ask(self._episode_of(row)))

    def _in_worker(self, make: Callable[[], dict]) -> dict:
        def make_and_be_silent() -> dict:
            try:
                return make()
            finally:
                self._board.say("")

        try:
            made = self._worker.submit(make_and_be_silent)
        except RuntimeError as error:  # it was shut down while a page still asked
            raise WhiskerError(
                "whiskers", expected="one that runs", got="one that has ended"
            ) from error
        return made.result()

    # What follows runs in the worker's thread.

    def _free(self) -> None:
        self._env = None
        for kept in (self._scenes, self._outlines, self._replayed):
            kept.clear()
        self._opened.close()

    def _prepare(self, first: EpisodeRow) -> None:
        """Have ready what the page is going to ask for.

        What is wrong with it is said when it does.
        """
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
        return _kept(
            self._outlines, row_key(row), lambda: self._episode_of(row).outline(self._board.count)
        )

    def _episode_of(self, row: EpisodeRow) -> ReplayedEpisode:
        """Return an episode in the environment that is open now."""
        env = self._env_of(row.task)
        return _kept(
            self._replayed, row_key(row), lambda: ReplayedEpisode.load(env, self._run, row)
        )

    def _env_of(self, task: str) -> Snapshots:
        """One at a time is open: each of LIBERO's takes 2 GB."""
        if self._env is None or self._env[0] != task:
            self._env = None
            self._opened.close()
            self._replayed.clear()
            name = self._run.description.tasks[task]
            self._board.say(
                f"opening {name}"
                + (" in its own process" if family_of(name).in_own_process else "")
            )
            self._env = task, self._opened.enter_context(closing(open_replay_env(self._run, task)))
        return self._env[1]


def _kept[Content](kept: dict[str, Content], key: str, make: Callable[[], Content]) -> Content:
    """Return what is there from before, or is made now; the oldest has to go."""
    if key not in kept:
        content = make()
        while len(kept) >= _MOST_EPISODES_KEPT:
            del kept[next(iter(kept))]
        kept[key] = content
    return kept[key]
