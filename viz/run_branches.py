"""Branches of a recorded run while one looks: its policy is loaded when the first is asked for."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from eval.branches import BranchFolder, BranchRow, Overrides
from eval.config import EvalConfig
from eval.episode_row import EpisodeRow
from eval.evaluation import set_up
from eval.rollout import RolloutSettings
from eval.run import Run
from policies.checkpoint_files import compute_fingerprint, open_checkpoint
from policies.loading import find_loader
from sim.capabilities import Snapshots, require
from sim.errors import WhiskerError
from sim.process import EnvProcessError
from viz.branch_command import parse_branch, read_integer
from viz.driver import Driver
from viz.event_board import EventBoard
from viz.live_episode import LiveContext, LiveEpisode
from viz.page_data import episode_key, row_key
from viz.recorded_branch import branch_off


class RunBranches(Driver):
    """Drives branches of a run's episodes in another copy of its world, and keeps those that come to their end."""

    def __init__(self, board: EventBoard, run: Run) -> None:
        """Nothing is loaded yet."""
        super().__init__(board)
        self._run = run
        self._stage: LiveContext | None = None

    def parse(self, command: dict) -> Callable[[int], None]:
        name, key = command.get("command"), command.get("key", "")
        if name not in ("pause", "branch") and key not in self.episodes:
            raise WhiskerError(
                f"episode {key!r}",
                expected="a branch under way",
                got="one that is over",
                hint="Branch off at one of its decisions.",
            )
        return super().parse(command)

    def parse_branch(self, command: dict, key: str) -> Callable[[int], None]:
        key = self.owner_of(key, read_integer(command, "prediction"))
        if key in self.episodes:
            return super().parse_branch(command, key)
        row = self._find_row(key)
        policy = self._run.description.policy
        prediction, overrides = parse_branch(
            command, policy, list(policy.image_sizes), row.n_predictions
        )
        # Before it was left, a branch is the episode that it left.
        while isinstance(row, BranchRow) and prediction < row.branch.at_prediction:
            row = self._find_row(episode_key(row.task, row.episode_index, row.branch.of))
        return lambda number: self._begin_recorded(row, prediction, overrides, number)

    def begin(self, branch: LiveEpisode, number: int) -> None:
        """Run a branch to its end, unless there is another command before."""
        self.add(branch)
        self.advance(branch, lambda event: False, number)

    def rest(self) -> None:
        """Free the policy and the environment, once what is under way has come to its end or is paused."""
        self.later(self._leave_stage)

    def _find_row(self, key: str) -> EpisodeRow:
        """Return the row of an episode, or of a branch that was kept."""
        rows = {row_key(row): row for row in [*self._run.rows, *self._run.branches]}
        if key not in rows:
            raise WhiskerError(
                f"episode {key!r} of {str(self._run.path)!r}", expected="one that was run"
            )
        return rows[key]

    # What follows runs in the thread of the environment.

    def _begin_recorded(
        self, row: EpisodeRow, prediction: int, overrides: Overrides, number: int
    ) -> None:
        self.board.set_status("busy", key=row_key(row))
        stage = self._stage_of(row.task)
        assert self.branch_folder is not None
        self.board.say("going back to the decision")
        taken = self.branch_folder.next_number(row.task, row.episode_index)
        try:
            branch = branch_off(stage, self._run, row, prediction, overrides, taken)
        except EnvProcessError:
            self._stage = None  # the next branch opens another
            raise
        self.board.say("")
        self.begin(branch, number)

    def _stage_of(self, task: str) -> LiveContext:
        """Load policy and environment, if they are not those of the last branch. One environment is open at a time.

        Raises:
            WhiskerError: the checkpoint is gone or has changed, branches cannot be kept, or nothing
                can be run here.
        """
        if self._stage is not None and self._stage.env.spec.task == task:
            return self._stage
        self._leave_stage()
        self.branch_folder = self.opened.enter_context(closing(BranchFolder(self._run.path)))
        description = self._run.description
        config = replace(
            description.config,
            env=description.tasks[task],
            collect_features=False,
            hook=(),
            pool=None,
        )
        self.board.say(f"loading {config.checkpoint or config.policy} and opening {config.env}")
        self._check_checkpoint(config)
        setup = set_up(config)
        self.opened.enter_context(closing(setup.env))
        env = require(setup.env, Snapshots, "branches")
        settings = RolloutSettings(
            description.resolved.n_action_steps, setup.horizon, config.samples
        )
        self._stage = LiveContext(env, env, setup.policy, settings)
        return self._stage

    def _leave_stage(self) -> None:
        self._stage = self.branch_folder = None
        # They cannot go on without their environment; those that are over are read from the disk.
        self.episodes.clear()
        self.opened.close()

    def _check_checkpoint(self, config: EvalConfig) -> None:
        """Raise if the checkpoint is not what the run was made with."""
        if config.policy is not None and find_loader(config.policy).made_from != "files":
            return
        checkpoint = open_checkpoint(
            config.policy,
            config.checkpoint,
            trust_remote_code=config.trust_remote_code,
            env=config.env,
        )
        then, now = (
            self._run.description.policy.files_sha256,
            compute_fingerprint(checkpoint.source),
        )
        changed = sorted(
            name for name in then.keys() | now.keys() if then.get(name) != now.get(name)
        )
        if then and changed:
            raise WhiskerError(
                f"checkpoint {checkpoint.name!r}",
                expected="the files that the run was made with",
                got=f"another {', '.join(changed)}",
                hint="A branch needs the policy of the run: put its checkpoint back.",
            )
