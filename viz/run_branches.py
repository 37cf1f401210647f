"""Drives branches of a recorded run, whose policy is loaded when the first branch is asked for."""

from contextlib import closing

from eval.branches import BranchFolder, Overrides
from eval.config import EvalConfig
from eval.episode_row import EpisodeRow
from eval.evaluation import set_up
from eval.rollout import RolloutSettings
from eval.run import Run
from policies.checkpoint_files import compute_fingerprint, open_checkpoint
from policies.loading import find_loader
from policies.native.native_checkpoint import fingerprint, open_native_checkpoint
from policies.policy import PolicySpec
from sim.capabilities import Snapshots, require
from sim.errors import WhiskerError
from sim.flags import replace_flags
from sim.process import EnvProcessError
from viz.branch_command import parse_branch, read_integer
from viz.driver import Driver, Task
from viz.event_board import EventBoard
from viz.live_episode import LiveContext
from viz.page_data import find_by_key, find_owner, row_key
from viz.recorded_branch import branch_off


class RunBranches(Driver):
    """Drives branches of a run's episodes in a copy of its world, and keeps those that end."""

    runs_branches = True

    def __init__(
        self,
        board: EventBoard,
        run: Run,
    ) -> None:
        """Make the driver. It loads nothing before the first branch."""
        super().__init__(board)
        self._run = run
        self._context: LiveContext | None = None

    def parse(self, command: dict) -> Task:
        key = command.get("key", "")
        needs_episode = command.get("command") not in ("pause", "branch")
        if needs_episode and key not in self.episodes:
            raise WhiskerError(
                f"episode {key!r}",
                expected="a branch under way",
                got="one that is over",
                hint="Branch off at one of its decisions.",
            )
        return super().parse(command)

    def parse_branch(
        self,
        command: dict,
        key: str,
    ) -> Task:
        key = self.owner_of(key, read_integer(command, "prediction"))
        if key in self.episodes:
            return super().parse_branch(command, key)
        row = find_by_key(self._run, key)
        policy = self._run.description.policy
        prediction, overrides = parse_branch(
            command, policy, list(policy.image_sizes), row.n_predictions
        )
        owner = find_owner(self._run, row, prediction)
        return lambda number: self._begin_recorded(owner, prediction, overrides, number)

    def rest(self) -> None:
        """Free policy and environment once the branch under way has ended or is paused."""
        self._worker.submit(self._leave_context)

    # What follows runs in the thread of the environment.

    def _begin_recorded(
        self, row: EpisodeRow, prediction: int, overrides: Overrides, number: int
    ) -> None:
        self.board.set_status("busy", key=row_key(row))
        context = self._context_of(row.task)
        assert self.branch_folder is not None
        self.board.say("going back to the decision")
        taken = self.branch_folder.next_number(row.task, row.episode_index)
        try:
            branch = branch_off(context, self._run, row, prediction, overrides, taken)
        except EnvProcessError:
            self._context = None  # the next branch opens another
            raise
        self.board.say("")
        self.begin(branch, number)

    def _context_of(self, task: str) -> LiveContext:
        """Load policy and environment, if they are not those of the last branch.

        One environment is open at a time.

        Raises:
            WhiskerError: the checkpoint is gone or has changed, branches cannot be kept, or nothing
                can be run here.
        """
        if self._context is not None and self._context.env.spec.task == task:
            return self._context
        self._leave_context()
        self.branch_folder = self.opened.enter_context(closing(BranchFolder(self._run.path)))
        description = self._run.description
        config = replace_flags(
            description.config,
            env=description.tasks[task],
            collect_features=False,
            hook=(),
            pool=None,
        )
        named = config.policy.checkpoint or config.policy.name
        self.board.say(f"loading {named} and opening {config.env.name}")
        self._check_checkpoint(config)
        setup = set_up(config)
        self.opened.enter_context(closing(setup.env))
        _check_server(description.policy, setup.policy.spec)
        env = require(setup.env, Snapshots, "branches")
        settings = RolloutSettings(
            description.resolved.n_action_steps,
            setup.max_steps,
            config.recording.samples,
            success=setup.success,
        )
        self._context = LiveContext(env, env, setup.policy, settings)
        return self._context

    def _leave_context(self) -> None:
        self._context = self.branch_folder = None
        # They cannot go on without their environment; those that are over are read from the disk.
        self.episodes.clear()
        self.opened.close()

    def _check_checkpoint(self, config: EvalConfig) -> None:
        """Raise if the checkpoint is not what the run was made with."""
        named = config.policy
        made_from = "files" if named.name is None else find_loader(named.name).made_from
        if made_from == "native":
            native = open_native_checkpoint(named)
            name = native.name
            now = fingerprint(native)
        elif made_from == "files":
            checkpoint = open_checkpoint(
                named.name,
                named.checkpoint,
                trust_remote_code=named.trust_remote_code,
                env=config.env.name,
            )
            name = checkpoint.name
            now = compute_fingerprint(checkpoint.source)
        else:
            return
        then = self._run.description.policy.files_sha256
        files = sorted(then.keys() | now.keys())
        changed = [name for name in files if then.get(name) != now.get(name)]
        if then and changed:
            raise WhiskerError(
                f"checkpoint {name!r}",
                expected="the files that the run was made with",
                got=f"another {', '.join(changed)}",
                hint="A branch needs the policy of the run: put its checkpoint back.",
            )


def _check_server(then: PolicySpec, now: PolicySpec) -> None:
    """Raise if a server runs something else than what the run was made with."""
    is_same = (then.server, then.files_sha256) == (now.server, now.files_sha256)
    if now.server and not is_same:
        raise WhiskerError(
            f"policy {now.type!r}",
            expected="the policy that the run was made with, on the same server",
            got="a server that says other things of itself",
            hint="A branch needs the policy of the run: start its server again.",
        )
