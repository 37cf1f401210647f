"""A rollout and its viewer together: a person pauses, steps, resets, and tries other futures."""

from contextlib import closing
from pathlib import Path

import numpy as np

from eval.branches import BranchFolder
from eval.config import EvalConfig
from eval.doctor.diagnosis import run_checks
from eval.episode_row import make_row
from eval.evaluation import set_up
from eval.provenance import describe
from eval.rollout import RolloutSettings
from eval.run_folder import RunFolder
from sim.capabilities import Snapshots, require
from sim.env import Env
from sim.errors import WhiskerError
from sim.registry import make_env
from viz.branch_command import read_integer
from viz.driver import Driver, Task
from viz.event_board import EventBoard, Events
from viz.live_episode import LiveContext, LiveEpisode, make_key
from viz.page import page_data
from viz.page_data import first_stages, header_data, scene_data


class LiveSession(Driver):
    """Serves episodes that run while a person looks, as a `viz.server.PageSource`.

    Every listener gets every event.
    """

    def __init__(
        self, config: EvalConfig, show_intermediate: bool = False, run_dir: Path | None = None
    ) -> None:
        """Set environment and policy up; the first episode waits at its first decision.

        Args:
            run_dir: where a run folder is made for the episodes and branches that come to their
                end; None: they are not kept.

        Raises:
            WhiskerError: what cannot run, or a folder that cannot be written.
        """
        super().__init__(EventBoard())
        self._config = config
        self._show_intermediate = show_intermediate
        self._run_dir = run_dir
        self._run: RunFolder | None = None
        try:
            self.in_thread(self._open)
        except BaseException:
            self.close()
            raise

    @property
    def status(self) -> dict:
        return self.board.status

    @property
    def run_path(self) -> Path | None:
        """The run folder that is being written; None: there is none."""
        return self._run.path if self._run else None

    def page(self) -> dict:
        name = self._run.path.name if self._run else "live"
        page = page_data(
            "live", name, self._description, [], self.status["key"], self._show_intermediate
        )
        episodes = list(self.episodes.values())
        return page | {"episodes": [episode.row for episode in episodes]}

    def scene(self, task: str) -> dict:
        return self._scene

    def episode(self, key: str) -> dict:
        return self.find(key).as_data()

    def plan(self, key: str, prediction: int) -> dict:
        return self.find(key).plan(prediction)

    def images(
        self,
        key: str,
        prediction: int,
    ) -> dict:
        return self.find(key).images(prediction)

    def events(self, wait_s: float) -> Events:
        return self.board.events(wait_s)

    def close(self) -> None:
        super().close()
        self.board.set_status("closed", message="whiskers has ended")

    # What follows runs in the thread of the environment, but for `parse`.

    def _open(self) -> None:
        config = self._config
        self._setup = setup = set_up(config)
        self.opened.enter_context(closing(setup.env))
        env = require(setup.env, Snapshots, "whiskers live")
        self.findings = [f for f in run_checks(config, setup) if f.is_problem]
        env_name = setup.tasks[env.spec.task]
        blind_env = self.opened.enter_context(
            closing(make_env(env_name, {}, config.env.control, config.env.init_grid))
        )
        whisker_env = require(blind_env, Snapshots, "whiskers live")
        settings = RolloutSettings(
            setup.n_action_steps,
            setup.max_steps,
            config.recording.samples,
            success=setup.success,
        )
        self._context = LiveContext(env, whisker_env, setup.policy, settings)
        self._description = describe(config, setup)
        self._scene = scene_data(whisker_env)
        if self._run_dir is not None:
            folder = RunFolder.create(self._run_dir, self._description)
            self._run = self.opened.enter_context(closing(folder))
            self.branch_folder = self.opened.enter_context(closing(BranchFolder(self._run.path)))
        self._begin_episode(config.first_episode)

    def parse(self, command: dict) -> Task:
        if command.get("command") != "reset":
            return super().parse(command)
        index = read_integer(command, "episode_index")
        n_episodes = self._setup.env.spec.n_episodes
        if index < 0 or (n_episodes is not None and index >= n_episodes):
            expected = "0 or more" if n_episodes is None else f"0 to {n_episodes - 1}"
            raise WhiskerError(f"episode {index}", expected=expected)
        return lambda number: self._begin_episode(index)

    def finish(self, episode: LiveEpisode) -> None:
        super().finish(episode)
        if self._run is None or episode.left is not None:
            return
        assert episode.record is not None
        row = make_row(episode.record)
        known = {(one.task, one.episode_index) for one in self._run.rows}
        # An episode that is begun a second time goes as it went the first time.
        if (row.task, row.episode_index) not in known:
            self._run.append(episode.record, row)

    def _begin_episode(self, episode_index: int) -> None:
        env = self._context.env
        key = make_key(env.spec.task, episode_index, self.episodes)
        episode = LiveEpisode.begin(self._context, episode_index, key)
        self._in_env = episode
        episode.advance()  # resets the environment
        instruction = env.spec.instruction
        if episode.decisions:
            instruction = episode.decisions[-1].observation.instruction
        episode.header = header_data(
            self._description,
            env.spec,
            key,
            instruction,
            _find_places(env),
            first_stages(env.spec),
        )
        self.add(episode)


def _find_places(env: Env) -> list[np.ndarray]:
    """Return the positions of the tool and of the goals' objects, `(1, 3)` m, world."""
    places: list[np.ndarray | None] = [env.ee_pos_world()]
    places += [goal.object_pos_world for goal in env.progress()]
    return [place[None] for place in places if place is not None]
