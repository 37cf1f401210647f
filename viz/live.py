"""A rollout and its viewer together: a person pauses, steps, resets, and tries other futures."""

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

from eval.config import EvalConfig
from eval.doctor.examination import examine
from eval.doctor.finding import Finding
from eval.evaluation import Setup, set_up
from eval.provenance import describe
from eval.rollout import Decision
from policies.baselines import ScriptedPolicy
from sim.errors import WhiskerError
from sim.registry import make_env
from viz.live_episode import Changes, LiveEpisode, Stage, make_key
from viz.page import page_data
from viz.page_data import header_data, scene_data


class LiveSession:
    """`viz.server.PageSource` of episodes that run while one looks.

    There is one environment. One thread does all that needs it or the policy (OpenGL belongs to a thread); a command
    ends the one under way and takes its turn. Whoever listens gets every event.
    """

    def __init__(self, config: EvalConfig, show_flow: bool = False) -> None:
        """Set environment and policy up; the first episode waits at its first decision.

        Raises:
            WhiskerError: what cannot run.
        """
        self._config, self._show_flow = config, show_flow
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollout")
        self._n_commands = 0
        self._listeners: list[queue.SimpleQueue[tuple[str, dict]]] = []
        self._episodes: dict[str, LiveEpisode] = {}
        self.status = {"state": "paused", "key": "", "message": ""}
        self._opened = ExitStack()
        try:
            self._worker.submit(self._open).result()
        except BaseException:
            self.close()
            raise

    def page(self) -> dict:
        page = page_data("live", "live", self._description, [], self.status["key"], self._show_flow)
        return page | {"episodes": [episode.row for episode in list(self._episodes.values())]}

    def scene(self, task: str) -> dict:
        return self._scene

    def episode(self, key: str) -> dict:
        episode = self._find(key)
        return {"header": episode.header, "parts": list(episode.parts)}

    def events(self, wait_s: float) -> Iterator[tuple[str, dict] | None]:
        listener: queue.SimpleQueue[tuple[str, dict]] = queue.SimpleQueue()
        self._listeners.append(listener)
        try:
            yield "status", self.status
            while self.status["state"] != "closed":
                try:
                    yield listener.get(timeout=wait_s)
                except queue.Empty:
                    yield None
        finally:
            self._listeners.remove(listener)

    def command(self, command: dict) -> None:
        """Begin what the page asked for; how it goes is told by events.

        Raises:
            WhiskerError: it cannot be done.
        """
        act = self._parse(command)
        self._n_commands += 1
        self._worker.submit(self._guard, act, self._n_commands)

    def close(self) -> None:
        """End the rollout and free what it holds."""
        self._n_commands += 1
        self._worker.submit(self._opened.close).result()
        self._worker.shutdown()
        self._tell("status", {"state": "closed", "key": self.status["key"], "message": "whiskers has ended"})

    def wait(self) -> None:
        """Until all commands so far are done."""
        self._worker.submit(lambda: None).result()

    # What follows runs in the worker's thread, but for `_parse` and `_find`.

    def _open(self) -> None:
        config = self._config
        self._setup: Setup = set_up(config)
        self._opened.enter_context(closing(self._setup.env))
        self.findings: list[Finding] = [f for f in examine(config, self._setup) if f.is_ill]
        setup, env = self._setup, self._setup.env
        env_name = setup.tasks[env.spec.task]
        whisker_env = self._opened.enter_context(closing(make_env(env_name, {}, config.control)))
        self._stage = Stage(env, whisker_env, setup.policy, setup.n_action_steps, setup.horizon, config.samples)
        self._description = describe(config, setup)
        self._scene = scene_data(whisker_env.geometry())
        self._begin_episode(config.first_episode)

    def _parse(self, command: dict) -> Callable[[int], None]:
        """What to do; it is given the command's number, and is to end when there is a later one."""
        name = command.get("command")
        if name == "pause":
            return lambda number: None
        if name == "reset":
            index = _integer(command, "episode_index")
            n_episodes = self._setup.env.spec.n_episodes
            if index < 0 or (n_episodes is not None and index >= n_episodes):
                expected = "0 or more" if n_episodes is None else f"0 to {n_episodes - 1}"
                raise WhiskerError(f"episode {index}", expected=expected)
            return lambda number: self._begin_episode(index)
        episode = self._find(command.get("key") or self.status["key"])
        if name == "branch":
            return self._parse_branch(command, episode)
        stops: dict[Any, Callable[[object], bool]] = {
            "run": lambda event: False,
            "step": lambda event: not isinstance(event, Decision),
            "step_prediction": lambda event: isinstance(event, Decision),
        }
        if name not in stops:
            raise WhiskerError(f"command {name!r}", expected="run, pause, step, step_prediction, reset or branch")
        if episode.is_over:
            raise WhiskerError(
                f"episode {episode.key}",
                expected="one under way",
                got=f"one that ended: {episode.row['outcome']}",
                do="Reset to an episode, or branch off at a decision.",
            )
        if episode is not self._in_env:
            self._check_can_go_back()
        return lambda number: self._advance(episode, stops[name], number, paced=name == "run")

    def _check_can_go_back(self) -> None:
        policy = self._setup.policy
        if isinstance(policy, ScriptedPolicy):
            raise WhiskerError(
                f"policy {policy.spec.type!r}",
                expected="one that can go back to a decision, or to another episode",
                do="What it planned is kept beside the environment's state. Reset instead.",
            )

    def _parse_branch(self, command: dict, episode: LiveEpisode) -> Callable[[int], None]:
        self._check_can_go_back()
        policy, spec = self._setup.policy, self._setup.env.spec
        prediction, seed = _integer(command, "prediction"), _integer(command, "seed", 0)
        n_action_steps = None if command.get("n_action_steps") is None else _integer(command, "n_action_steps")
        instruction, blinded = command.get("instruction") or None, tuple(command.get("blinded") or ())
        seen, n_decisions = [camera.name for camera in spec.cameras], len(episode.decisions)
        most = min(policy.spec.max_action_steps, policy.spec.chunk_size)
        wrong = [
            (not 0 <= prediction < n_decisions, f"prediction {prediction}", f"0 to {n_decisions - 1}"),
            (seed < 0, f"seed {seed}", "0 or more"),
            (n_action_steps is not None and not 1 <= n_action_steps <= most, "n_action_steps", f"1 to {most}"),
            (not set(blinded) <= set(seen), "the blinded cameras", ", ".join(seen) or "none: the policy does not look"),
            (bool(seed) and not policy.spec.stochastic, "another seed", "a policy that draws; this one does not"),
            (bool(instruction) and not policy.spec.reads_instruction, "another instruction", "a policy that reads it"),
        ]
        for is_wrong, subject, expected in wrong:
            if is_wrong:
                raise WhiskerError(subject, expected=expected)
        changes = Changes(seed, n_action_steps, instruction, blinded)
        return lambda number: self._begin_branch(episode, prediction, changes)

    def _find(self, key: str) -> LiveEpisode:
        if key not in self._episodes:
            raise WhiskerError(f"episode {key!r}", expected=", ".join(self._episodes))
        return self._episodes[key]

    def _guard(self, act: Callable[[int], None], number: int) -> None:
        """Nothing that a command runs into ends the session."""
        try:
            act(number)
            self._set_status("paused")
        except Exception as error:
            self._set_status("paused", message=f"{type(error).__name__}: {error}")

    def _begin_episode(self, episode_index: int) -> None:
        env = self._stage.env
        key = make_key(env.spec.task, episode_index, self._episodes)
        episode = LiveEpisode.begin(self._stage, episode_index, key)
        self._in_env = episode
        episode.advance()  # resets the environment
        around = [env.ee_pos_world()[None], *(goal.object_pos_world[None] for goal in env.progress())]
        episode.header = header_data(self._description, env.spec, key, around)
        self._add(episode)

    def _begin_branch(self, of: LiveEpisode, prediction: int, changes: Changes) -> None:
        branch = of.branch(prediction, changes, f"{of.key} ~{sum('~' in key for key in self._episodes) + 1}")
        self._add(branch)
        self._advance(branch, lambda event: True, self._n_commands)

    def _add(self, episode: LiveEpisode) -> None:
        self._episodes[episode.key] = episode
        self._set_status("paused", key=episode.key)
        self._tell("episode", {"header": episode.header, "row": episode.row})
        self._tell_parts(episode, 0)

    def _advance(
        self, episode: LiveEpisode, is_last: Callable[[object], bool], number: int, paced: bool = False
    ) -> None:
        """Until the event that is the last to be asked for, the episode's end, or a later command.

        Args:
            paced: no faster than the robot would be.
        """
        if self._in_env is not episode:
            episode.enter()
            self._in_env = episode
        self._set_status("running" if paced else "busy", key=episode.key)
        while not episode.is_over:
            start_s, n_parts = time.perf_counter(), len(episode.parts)
            event = episode.advance()
            self._tell_parts(episode, n_parts)
            if event is None or is_last(event) or self._n_commands != number:
                break
            if paced and not isinstance(event, Decision):
                time.sleep(max(0.0, self._setup.env.spec.control_dt_s - (time.perf_counter() - start_s)))
        self._tell("row", {"row": episode.row})

    def _tell_parts(self, episode: LiveEpisode, n_told: int) -> None:
        """Each with its index: a page that has just asked for the episode may know it already."""
        for index, part in enumerate(episode.parts[n_told:], start=n_told):
            self._tell("part", {"key": episode.key, "part": part, "index": index})

    def _set_status(self, state: str, key: str | None = None, message: str = "") -> None:
        self.status = {"state": state, "key": self.status["key"] if key is None else key, "message": message}
        self._tell("status", self.status)

    def _tell(self, name: str, content: dict) -> None:
        for listener in list(self._listeners):
            listener.put((name, content))


def _integer(command: dict, name: str, default: int | None = None) -> int:
    value = command.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WhiskerError(name, expected="an integer", got=repr(value))
    return value
