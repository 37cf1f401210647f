"""A rollout and its viewer together: a person pauses, steps, resets, and tries other futures."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from eval.branches import BranchFolder
from eval.config import EvalConfig
from eval.doctor.examination import examine
from eval.doctor.finding import Finding
from eval.episode_row import make_row
from eval.evaluation import Setup, set_up
from eval.provenance import describe
from eval.rollout import RolloutSettings
from eval.run_folder import RunFolder
from sim.capabilities import Snapshots, require
from sim.errors import WhiskerError
from sim.registry import make_env
from viz.branch_command import read_integer
from viz.driver import Driver
from viz.event_board import EventBoard
from viz.live_episode import LiveContext, LiveEpisode, make_key
from viz.page import page_data
from viz.page_data import first_stages, header_data, scene_data


class LiveSession(Driver):
    """`viz.server.PageSource` of episodes that run while one looks.

    Whoever listens gets every event.
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
        self._config, self._show_intermediate, self._run_dir = config, show_intermediate, run_dir
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
        return page | {"episodes": [episode.row for episode in list(self.episodes.values())]}

    def scene(self, task: str) -> dict:
        return self._scene

    def episode(self, key: str) -> dict:
        return self.find(key).as_data()

    def plan(self, key: str, prediction: int) -> dict:
        return self.find(key).plan(prediction)

    def images(self, key: str, prediction: int) -> dict:
        return self.find(key).images(prediction)

    def events(self, wait_s: float) -> Iterator[tuple[str, dict] | None]:
        return self.board.events(wait_s)

    def close(self) -> None:
        super().close()
        self.board.set_status("closed", message="whiskers has ended")

    # What follows runs in the thread of the environment, but for `parse`.

    def _open(self) -> None:
        config = self._config
        self._setup: Setup = set_up(config)
        self.opened.enter_context(closing(self._setup.env))
        env = require(self._setup.env, Snapshots, "whiskers --live")
        self.findings: list[Finding] = [f for f in examine(config, self._setup) if f.is_ill]
        setup = self._setup
        env_name = setup.tasks[env.spec.task]
        blind_env = self.opened.enter_context(closing(make_env(env_name, {}, config.control)))
        whisker_env = require(blind_env, Snapshots, "whiskers --live")
        settings = RolloutSettings(setup.n_action_steps, setup.horizon, config.samples)
        self._stage = LiveContext(env, whisker_env, setup.policy, settings)
        self._description = describe(config, setup)
        self._scene = scene_data(whisker_env)
        if self._run_dir is not None:
            self._run = self.opened.enter_context(
                closing(RunFolder.create(self._run_dir, self._description))
            )
            self.branch_folder = self.opened.enter_context(closing(BranchFolder(self._run.path)))
        self._begin_episode(config.first_episode)

    def parse(self, command: dict) -> Callable[[int], None]:
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
        # A second life of an episode is the same once more.
        if (row.task, row.episode_index) not in {
            (known.task, known.episode_index) for known in self._run.rows
        }:
            self._run.append(episode.record, row)

    def _begin_episode(self, episode_index: int) -> None:
        env = self._stage.env
        key = make_key(env.spec.task, episode_index, self.episodes)
        episode = LiveEpisode.begin(self._stage, episode_index, key)
        self.enter(episode)
        episode.advance()  # resets the environment
        places = [env.ee_pos_world(), *(goal.object_pos_world for goal in env.progress())]
        around = [place[None] for place in places if place is not None]
        told = (
            episode.decisions[-1].observation.instruction
            if episode.decisions
            else env.spec.instruction
        )
        episode.header = header_data(
            self._description, env.spec, key, told, around, first_stages(env.spec)
        )
        self.add(episode)
