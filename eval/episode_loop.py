"""Runs the episodes of an evaluation that its run folder does not have yet."""

from collections.abc import Generator
from contextlib import closing
from itertools import batched
from typing import TYPE_CHECKING

from cknna.bank_description import save_description
from cknna.episode_features import FEATURES_FILE
from eval.config import EvalConfig
from eval.episode_row import EpisodeRow
from eval.episode_runner import EpisodeRunner, LocalRunner
from eval.evaluation import Setup
from eval.run_episodes import in_order, run_episodes
from eval.run_folder import RunFolder
from eval.schedule import Schedule
from eval.worker_count import count_workers, shares_policy

if TYPE_CHECKING:
    from eval.worker import Assignment

# Episodes of a task before the next task's turn. Making an environment of LIBERO takes as long as
# part of an episode.
N_IN_A_ROUND = 5


def evaluate(
    config: EvalConfig,
    setup: Setup,
    run: RunFolder,
    schedule: Schedule | None = None,
) -> Generator[EpisodeRow]:
    """Run the missing episodes, and yield each row once it is on the disk.

    One worker runs them in order, task by task, and closes the environment of a task before it
    makes the next one. Several workers end them in any order. A run that may end early takes its
    tasks in rounds, so that each has its share whenever it ends; its rows come in order.

    Args:
        schedule: the episodes to run; None: all that are missing.

    Raises:
        WhiskerError: the next task cannot be begun. Finished episodes stay on the disk, and the run
            can be resumed.
    """
    if setup.feature_recorder is not None:
        save_description(run.path / FEATURES_FILE, setup.feature_recorder.description)
    if schedule is None:
        schedule = schedule_missing(config, setup, run)
    runners = _make_runners(config, setup, run, len(schedule.episodes))
    with closing(run_episodes(runners, schedule)) as finished:
        # A decision must not depend on which episode happens to end first.
        decides = config.stopping.until_decided
        for record, row in in_order(finished, schedule.episodes) if decides else finished:
            run.append(record, row)
            yield row


def schedule_missing(
    config: EvalConfig,
    setup: Setup,
    run: RunFolder,
    n_episodes: int | None = None,
) -> Schedule:
    """Return the episodes that the run folder does not have yet.

    Args:
        n_episodes: how many of each task. Default: as many as the config says.
    """
    finished = {(row.task, row.episode_index) for row in run.rows}
    asked = range(config.first_episode, config.first_episode + (n_episodes or config.episodes))
    in_rounds = config.stopping.until_decided and len(setup.tasks) > 1
    blocks = []
    for block in batched(asked, N_IN_A_ROUND if in_rounds else len(asked)):
        for task in setup.tasks:
            missing = [index for index in block if (task, index) not in finished]
            blocks.append((task, missing))
    return Schedule(blocks)


def _make_runners(
    config: EvalConfig,
    setup: Setup,
    run: RunFolder,
    n_missing: int,
) -> list[EpisodeRunner]:
    n_workers = count_workers(config, setup, n_missing)
    uses_ray = config.parallel.ray is not None
    shares = shares_policy(config, setup, n_workers) and not uses_ray
    if n_workers == 1 and not (uses_ray or shares):
        return [LocalRunner(config, setup, run.path)]
    from eval.worker import Assignment

    assignment = Assignment(config, dict(setup.tasks), run.path)
    if uses_ray:
        runners = _make_ray_runners(assignment, setup, n_workers)
    elif shares:
        from eval.shared_policy_runner import make_sharing_runners

        runners = [*make_sharing_runners(config, setup, run.path, n_workers)]
    else:
        runners = _make_processes(assignment, n_workers)
    if len(setup.tasks) > 1:
        setup.env.close()  # an environment of LIBERO takes 2 GB
    return runners


def _make_processes(assignment: "Assignment", n_workers: int) -> list[EpisodeRunner]:
    from eval.worker_process import EpisodeProcess, prepare_workers

    prepare_workers(assignment.config)
    return [EpisodeProcess(assignment) for _ in range(n_workers)]


def _make_ray_runners(
    assignment: "Assignment", setup: Setup, n_workers: int
) -> list[EpisodeRunner]:
    from eval.ray_workers import RayJob, RayRunner

    job = RayJob(assignment, setup)
    return [RayRunner(job) for _ in range(n_workers)]
