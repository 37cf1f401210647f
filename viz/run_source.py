"""A recorded run as the viewer's server gives it out."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from time import sleep

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.env import Env
from sim.errors import WhiskerError
from viz.page import load_episode, page_data
from viz.page_data import episode_key, scene_data
from viz.replay import open_replay_env

_MOST_EPISODES_KEPT = 12


class RunSource:
    """`viz.server.PageSource` of a run folder. One thread does all that needs an environment: OpenGL belongs to it."""

    def __init__(self, run: Run, first: EpisodeRow, show_flow: bool = False) -> None:
        """Args:
        first: the episode to open with.
        """
        self._run, self._first, self._show_flow = run, first, show_flow
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay")
        self._env: tuple[str, Env] | None = None
        self._opened = ExitStack()
        self._scenes: dict[str, dict] = {}
        self._episodes: dict[str, dict] = {}

    def page(self) -> dict:
        key = episode_key(self._first.task, self._first.episode_index)
        # A run that is still under way has more rows by now.
        return page_data("run", self._run.path.name, self._run.description, self._run.rows, key, self._show_flow)

    def scene(self, task: str) -> dict:
        if task not in {row.task for row in self._run.rows}:
            raise WhiskerError(f"task {task!r} of {str(self._run.path)!r}", expected="one that was run")
        return self._kept(self._scenes, task, lambda: scene_data(self._env_of(task).geometry()))

    def episode(self, key: str) -> dict:
        rows = {episode_key(row.task, row.episode_index): row for row in self._run.rows}
        if key not in rows:
            raise WhiskerError(f"episode {key!r} of {str(self._run.path)!r}", expected="one that was run")
        return self._kept(self._episodes, key, lambda: self._load(rows[key]))

    def command(self, command: dict) -> None:
        raise WhiskerError("a recorded run", expected="no commands: what happened has happened")

    def events(self, wait_s: float) -> Iterator[tuple[str, dict] | None]:
        """Nothing ever happens."""
        while True:
            sleep(wait_s)
            yield None

    def close(self) -> None:
        self._worker.submit(self._opened.close).result()
        self._worker.shutdown()

    def _load(self, row: EpisodeRow) -> dict:
        return load_episode(self._env_of(row.task), self._run, row)

    def _kept(self, kept: dict[str, dict], key: str, make: Callable[[], dict]) -> dict:
        """From before, or made by the worker."""

        def find_or_make() -> dict:
            if key not in kept:
                content = make()
                while len(kept) >= _MOST_EPISODES_KEPT:
                    del kept[next(iter(kept))]
                kept[key] = content
            return kept[key]

        return self._worker.submit(find_or_make).result()

    def _env_of(self, task: str) -> Env:
        """One at a time is open: each of LIBERO's takes 2 GB."""
        if self._env is None or self._env[0] != task:
            self._env = None
            self._opened.close()
            self._env = task, self._opened.enter_context(closing(open_replay_env(self._run, task)))
        return self._env[1]
