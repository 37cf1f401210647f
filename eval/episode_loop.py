"""Runs the episodes of an evaluation that its run folder does not have yet, task by task."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from itertools import batched
from pathlib import Path

from cknna.bank_description import save_description
from cknna.episode_features import FEATURES_FILE
from eval.config import EvalConfig
from eval.drivers import run_episode
from eval.episode_row import EpisodeRow, make_row
from eval.evaluation import Setup, check_episodes, follow_task, observed_sizes, resolve_max_steps
from eval.preflight import check_alike, check_fit
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.registry import make_env

# Episodes of a task before the next task's turn. Making an environment of LIBERO takes as long as
# part of an episode.
N_IN_A_ROUND = 5


def evaluate(
    config: EvalConfig,
    setup: Setup,
    run: RunFolder,
    n_episodes: int | None = None,
) -> Iterator[EpisodeRow]:
    """Run the missing episodes in order, and yield each row once it is on the disk.

    Only one task's environment is open at a time: the first is closed before the second is made.
    A run that may end early takes its tasks in rounds, so that each has its share whenever it ends.

    Args:
        n_episodes: how many of each task. Default: as many as the config says.

    Raises:
        WhiskerError: the next task cannot be begun. Finished episodes stay on the disk, and the run
            can be resumed.
    """
    recorder = EpisodeRecorder(records_observations=config.recording.record_observations)
    if setup.feature_recorder is not None:
        save_description(run.path / FEATURES_FILE, setup.feature_recorder.description)
    finished = {(row.task, row.episode_index) for row in run.rows}
    is_first_open = True
    for task, asked in _list_blocks(config, setup, n_episodes or config.episodes):
        missing = [index for index in asked if (task, index) not in finished]
        if not missing:
            continue
        if task != setup.env.spec.task and is_first_open:
            setup.env.close()  # an environment of LIBERO takes 2 GB
            is_first_open = False
        set_up = (
            nullcontext(setup) if is_first_open else _set_up_task(config, setup, task, run.path)
        )
        with set_up as now:
            recorded = now.feature_recorder or now
            policy = recorded.policy
            settings = RolloutSettings(now.n_action_steps, now.max_steps, config.recording.samples)
            for episode_index in missing:
                record = run_episode(now.env, policy, episode_index, recorder, settings)
                row = make_row(record)
                run.append(record, row)
                yield row


def _list_blocks(
    config: EvalConfig, setup: Setup, n_episodes: int
) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield a task and episodes of it, until every requested episode has been named."""
    asked = range(config.first_episode, config.first_episode + n_episodes)
    in_rounds = config.stopping.until_decided and len(setup.tasks) > 1
    for block in batched(asked, N_IN_A_ROUND if in_rounds else len(asked)):
        for task in setup.tasks:
            yield task, block


@contextmanager
def _set_up_task(
    config: EvalConfig,
    setup: Setup,
    task: str,
    run: Path,
) -> Iterator[Setup]:
    """Yield the same evaluation in a new environment of one of its tasks."""
    first = setup.env.spec
    with ExitStack() as stack:
        try:
            made = make_env(
                setup.tasks[task], observed_sizes(first), config.env.control, config.env.init_grid
            )
            env = stack.enter_context(closing(made))
            assert env.spec.task == task
            check_alike(first, env.spec)
            check_fit(setup.policy.spec, env.spec)
            check_episodes(config, env.spec)
            policy = follow_task(config, setup, env)
        except Exception as error:
            raise WhiskerError(
                f"task {task!r} ({setup.tasks[task]})",
                expected="an environment that can follow the first",
                got=str(error),
                hint=f"Finished episodes stay in {str(run)!r}; --resume goes on from there.",
            ) from error
        max_steps = resolve_max_steps(config.rollout, env.spec)
        yield dataclasses.replace(setup, env=env, policy=policy, max_steps=max_steps)
