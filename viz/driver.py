"""Drives live episodes at the page's command: run, step, go back to a decision, or branch."""

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

# A task of the worker thread. Its argument is the number of the command that started it.
type Task = Callable[[int], None]
type Condition = Callable[[object], bool]


def _is_control_step(event: object) -> bool:
    return not isinstance(event, Decision)


# Command → condition of the last event that it runs to.
_LAST_EVENTS: dict[Any, Condition] = {
    "run": lambda event: False,
    "step": _is_control_step,
    "step_prediction": lambda event: isinstance(event, Decision),
}


class Driver:
    """Runs live episodes in one environment, and publishes their events on a board.

    One thread does all work with the environment and the policy, because OpenGL contexts belong to
    a thread. A new command ends the current one and runs after it.

    Attributes:
        episodes: the live episodes, by their key on the page.
        opened: resources that are closed at the end, in the worker thread.
        branch_folder: the folder that keeps finished branches; None: they are not kept.
        runs_branches: a new branch runs to its end, unless there is another command before.
            Otherwise it waits at its first decision.
    """

    runs_branches = False

    def __init__(self, board: EventBoard) -> None:
        self.board = board
        self.episodes: dict[str, LiveEpisode] = {}
        self.opened = ExitStack()
        self.branch_folder: BranchFolder | None = None
        self._in_env: LiveEpisode | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollout")
        self._n_commands = 0

    def command(self, command: dict) -> None:
        """Start a command of the page.

        Raises:
            WhiskerError: the command is not possible.
        """
        task = self.parse(command)
        self._n_commands += 1
        self._worker.submit(self._guard, task, self._n_commands)

    def close(self) -> None:
        """End the rollout and free its resources."""
        self._n_commands += 1
        self._worker.submit(self.opened.close).result()
        self._worker.shutdown()

    def wait(self) -> None:
        """Wait until all commands so far are done."""
        self._worker.submit(lambda: None).result()

    def in_thread[Result](self, act: Callable[[], Result]) -> Result:
        """Call `act` in the worker thread, and return its result."""
        return self._worker.submit(act).result()

    def parse(self, command: dict) -> Task:
        """Return the task of a command.

        The task takes the command's number, and ends early if there is a later command.

        Raises:
            WhiskerError: the command is not possible.
        """
        name = command.get("command")
        if name == "pause":
            return lambda number: None
        key = command.get("key") or self.board.status["key"]
        if name == "branch":
            return self.parse_branch(command, key)
        if name not in _LAST_EVENTS:
            raise WhiskerError(
                f"command {name!r}",
                expected="run, pause, step, step_prediction, reset or branch",
            )
        episode = self.find(key)
        self._check_can_advance(episode)
        is_last = _LAST_EVENTS[name]
        return lambda number: self.advance(episode, is_last, number, paced=name == "run")

    def parse_branch(
        self,
        command: dict,
        key: str,
    ) -> Task:
        """Return the task that starts a branch off the episode with that key.

        Raises:
            WhiskerError: the branch is not possible.
        """
        owner = self.owner_of(key, read_integer(command, "prediction"))
        episode = self.find(owner)
        cameras = [camera.name for camera in episode.context.env.spec.cameras]
        policy = episode.context.policy.spec
        prediction, overrides = parse_branch(command, policy, cameras, len(episode.decisions))

        def start_branch(number: int) -> None:
            branch = episode.branch(prediction, overrides, self.next_number(episode))
            self.begin(branch, number)

        return start_branch

    def owner_of(
        self,
        key: str,
        prediction: int,
    ) -> str:
        """Return the key of the episode that made a decision.

        A branch inherits its first decisions from the episode that it left.
        """
        while key in self.episodes and 0 <= prediction < self.episodes[key].n_inherited:
            key = self.episodes[key].header["branch"]["of"]
        return key

    def begin(
        self,
        branch: LiveEpisode,
        number: int,
    ) -> None:
        """Show a new branch, and run it as `runs_branches` says."""
        self.add(branch)
        self.advance(branch, lambda event: not self.runs_branches, number)

    def next_number(self, episode: LiveEpisode) -> int:
        """Return the number of the next branch of an episode."""
        task = episode.context.env.spec.task
        index = episode.episode_index
        if self.branch_folder is not None:
            return self.branch_folder.next_number(task, index)
        last = 0
        for other in self.episodes.values():
            if other.episode_index == index and other.left is not None:
                last = max(last, other.left.number)
        return last + 1

    def find(self, key: str) -> LiveEpisode:
        """Return the live episode with that key.

        Raises:
            WhiskerError: there is none.
        """
        if key not in self.episodes:
            known = ", ".join(self.episodes)
            raise WhiskerError(f"episode {key!r}", expected=known)
        return self.episodes[key]

    def finish(self, episode: LiveEpisode) -> None:
        """Save a finished branch, if there is a folder for it.

        Runs in the worker thread, before the page is told that the branch is over.
        """
        if self.branch_folder is None or episode.left is None:
            return
        assert episode.record is not None
        row = BranchRow.of_row(make_row(episode.record), episode.left)
        self.branch_folder.append(episode.record, row)

    def add(self, episode: LiveEpisode) -> None:
        """Send an episode to the page."""
        self.episodes[episode.key] = episode
        self.board.set_status("paused", key=episode.key)
        content = {"header": episode.header, "row": episode.row}
        self.board.tell("episode", content)
        self._tell_parts(episode, 0)

    def advance(
        self,
        episode: LiveEpisode,
        is_last: Condition,
        number: int,
        paced: bool = False,
    ) -> None:
        """Run an episode until `is_last` holds, the episode ends, or there is a later command.

        Args:
            episode: the episode to run.
            is_last: returns whether an event is the last one to run to.
            number: the number of the command.
            paced: run no faster than real time.
        """
        if self._in_env is not episode:
            episode.enter()
            self._in_env = episode
        self.board.set_status("running" if paced else "busy", key=episode.key)
        control_dt_s = episode.context.env.spec.control_dt_s
        while not episode.is_over:
            start_s = time.perf_counter()
            n_told = len(episode.parts)
            event = episode.advance()
            self._tell_parts(episode, n_told)
            if event is None or is_last(event) or self._n_commands != number:
                break
            if paced and _is_control_step(event):
                elapsed_s = time.perf_counter() - start_s
                time.sleep(max(0.0, control_dt_s - elapsed_s))
        try:
            if episode.is_over:
                self.finish(episode)
        finally:
            self.board.tell("row", {"row": episode.row})

    def _check_can_advance(self, episode: LiveEpisode) -> None:
        if episode.is_over:
            raise WhiskerError(
                f"episode {episode.key}",
                expected="a running episode",
                got=f"one that ended: {episode.row['outcome']}",
                hint="Reset to an episode, or branch off at a decision.",
            )
        if episode is not self._in_env:
            check_can_go_back(episode.context.policy.spec)

    def _guard(self, task: Task, number: int) -> None:
        """Run a task. An error in it becomes a message, and does not end the session."""
        message = ""
        try:
            task(number)
        except WhiskerError as error:
            message = str(error)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
        self.board.say("")
        self.board.set_status("paused", message=message)

    def _tell_parts(
        self,
        episode: LiveEpisode,
        n_told: int,
    ) -> None:
        """Send the parts from `n_told` on, each with its index.

        The index tells a page that has just fetched the episode which parts it has already.
        """
        for index, part in enumerate(episode.parts[n_told:], start=n_told):
            content = {"key": episode.key, "part": part, "index": index}
            self.board.tell("part", content)
