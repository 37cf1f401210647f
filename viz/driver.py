"""Drives live episodes as a page asks: on, step by step, back to a decision and into another future."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from eval.branches import BranchFolder, BranchRow
from eval.episode_row import make_row
from eval.rollout import Decision
from sim.errors import WhiskerError
from viz.branch_command import check_can_go_back, parse_branch, read_integer
from viz.event_board import EventBoard
from viz.live_episode import LiveEpisode


class Driver:
    """Live episodes in one environment. How they go is told on a board.

    One thread does all that needs the environment or the policy (OpenGL belongs to a thread); a
    command ends the one under way and takes its turn.

    Attributes:
        episodes: by the key that the page knows them by.
        opened: is closed at the end, in the thread.
        branch_folder: where branches are kept; None: nowhere.
    """

    def __init__(self, board: EventBoard) -> None:
        self.board = board
        self.episodes: dict[str, LiveEpisode] = {}
        self.opened = ExitStack()
        self.branch_folder: BranchFolder | None = None
        self._in_env: LiveEpisode | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollout")
        self._n_commands = 0

    def command(self, command: dict) -> None:
        """Begin what the page asked for.

        Raises:
            WhiskerError: it cannot be done.
        """
        act = self.parse(command)
        self._n_commands += 1
        self._worker.submit(self._guard, act, self._n_commands)

    def close(self) -> None:
        """End the rollout and free what it holds."""
        self._n_commands += 1
        self._worker.submit(self.opened.close).result()
        self._worker.shutdown()

    def wait(self) -> None:
        """Wait until all commands so far are done."""
        self._worker.submit(lambda: None).result()

    def in_thread[Result](self, act: Callable[[], Result]) -> Result:
        """Return what `act` returns in the thread of the environment."""
        return self._worker.submit(act).result()

    def later(self, act: Callable[[], None]) -> None:
        """Have something done in the thread of the environment, once it is free."""
        self._worker.submit(act)

    def parse(self, command: dict) -> Callable[[int], None]:
        """Return what to do; it is given the command's number, and is to end when there is a later one.

        Raises:
            WhiskerError: it cannot be done.
        """
        name = command.get("command")
        if name == "pause":
            return lambda number: None
        key = command.get("key") or self.board.status["key"]
        if name == "branch":
            return self.parse_branch(command, key)
        stops: dict[Any, Callable[[object], bool]] = {
            "run": lambda event: False,
            "step": lambda event: not isinstance(event, Decision),
            "step_prediction": lambda event: isinstance(event, Decision),
        }
        if name not in stops:
            raise WhiskerError(
                f"command {name!r}", expected="run, pause, step, step_prediction, reset or branch"
            )
        episode = self.find(key)
        if episode.is_over:
            raise WhiskerError(
                f"episode {episode.key}",
                expected="one under way",
                got=f"one that ended: {episode.row['outcome']}",
                hint="Reset to an episode, or branch off at a decision.",
            )
        if episode is not self._in_env:
            check_can_go_back(episode.stage.policy.spec)
        return lambda number: self.advance(episode, stops[name], number, paced=name == "run")

    def parse_branch(self, command: dict, key: str) -> Callable[[int], None]:
        """Return what to do for a branch off the episode of that key.

        Raises:
            WhiskerError: it cannot be done.
        """
        episode = self.find(self.owner_of(key, read_integer(command, "prediction")))
        cameras, policy = (
            [camera.name for camera in episode.stage.env.spec.cameras],
            episode.stage.policy.spec,
        )
        prediction, overrides = parse_branch(command, policy, cameras, len(episode.decisions))
        return lambda number: self.begin(
            episode.branch(prediction, overrides, self.next_number(episode)), number
        )

    def owner_of(self, key: str, prediction: int) -> str:
        """Return the key of the episode that made a decision of an episode: a branch was another one before it left."""
        while key in self.episodes and 0 <= prediction < self.episodes[key].n_inherited:
            key = self.episodes[key].header["branch"]["of"]
        return key

    def begin(self, branch: LiveEpisode, number: int) -> None:
        """Show a branch at its first decision."""
        self.add(branch)
        self.advance(branch, lambda event: True, number)

    def next_number(self, episode: LiveEpisode) -> int:
        """Return the number of the next branch of an episode."""
        task, index = episode.stage.env.spec.task, episode.episode_index
        if self.branch_folder is not None:
            return self.branch_folder.next_number(task, index)
        alike = [other for other in self.episodes.values() if other.episode_index == index]
        return 1 + max((other.left.number for other in alike if other.left), default=0)

    def find(self, key: str) -> LiveEpisode:
        """Return a live episode.

        Raises:
            WhiskerError: there is none of that key.
        """
        if key not in self.episodes:
            raise WhiskerError(f"episode {key!r}", expected=", ".join(self.episodes))
        return self.episodes[key]

    def finish(self, episode: LiveEpisode) -> None:
        """Keep a branch that is over, if there is a folder for it.

        Called in the thread, before the page is told.
        """
        if self.branch_folder is not None and episode.left is not None:
            assert episode.record is not None
            row = BranchRow.of_row(make_row(episode.record), episode.left)
            self.branch_folder.append(episode.record, row)

    def add(self, episode: LiveEpisode) -> None:
        """Show an episode to the page."""
        self.episodes[episode.key] = episode
        self.board.set_status("paused", key=episode.key)
        self.board.tell("episode", {"header": episode.header, "row": episode.row})
        self._tell_parts(episode, 0)

    def advance(
        self,
        episode: LiveEpisode,
        is_last: Callable[[object], bool],
        number: int,
        paced: bool = False,
    ) -> None:
        """Go on until the last event that is asked for, the episode's end, or a later command.

        Args:
            number: of the command.
            paced: no faster than the robot would be.
        """
        if self._in_env is not episode:
            episode.enter()
            self._in_env = episode
        self.board.set_status("running" if paced else "busy", key=episode.key)
        control_dt_s = episode.stage.env.spec.control_dt_s
        while not episode.is_over:
            start_s, n_parts = time.perf_counter(), len(episode.parts)
            event = episode.advance()
            self._tell_parts(episode, n_parts)
            if event is None or is_last(event) or self._n_commands != number:
                break
            if paced and not isinstance(event, Decision):
                time.sleep(max(0.0, control_dt_s - (time.perf_counter() - start_s)))
        try:
            if episode.is_over:
                self.finish(episode)
        finally:
            self.board.tell("row", {"row": episode.row})

    def enter(self, episode: LiveEpisode) -> None:
        """Say that the environment is at this episode now."""
        self._in_env = episode

    def _guard(self, act: Callable[[int], None], number: int) -> None:
        """Nothing that a command runs into ends the session."""
        message = ""
        try:
            act(number)
        except WhiskerError as error:
            message = str(error)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
        self.board.say("")
        self.board.set_status("paused", message=message)

    def _tell_parts(self, episode: LiveEpisode, n_told: int) -> None:
        """Tell of new parts, each with its index: a page that has just asked for the episode may know it already."""
        for index, part in enumerate(episode.parts[n_told:], start=n_told):
            self.board.tell("part", {"key": episode.key, "part": part, "index": index})
