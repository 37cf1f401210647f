"""Assesses the plans of a run's episodes, in this process or in several."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.jobs import run_jobs
from viz.episode_work import Block, OpenedTask, count_viz_workers, cut_blocks
from viz.plan_quality import EpisodeQuality, summarise_episode, write_plan_quality
from viz.prediction_quality import compute_plan_quality
from viz.whiskers import compute_whiskers, load_planned_arrays, open_whisker_env

# Modules that workers need, and that take long to import.
_MODULES = (__name__, "sim.model_env")
# Episodes of a task that one worker assesses before it may go on with another task.
_BLOCK_SIZE = 5
# A worker is started for so many blocks. Fewer take less time than its start.
_BLOCKS_A_WORKER = 2


def save_plan_quality(run: Run, workers: int | Literal["auto"] = 1) -> list[EpisodeQuality]:
    """Assess every episode that has predictions, each in the environment of its own task.

    Writes `plan_quality.jsonl` into the run folder, completely or not at all.

    Args:
        workers: number of processes that assess; "auto": as many as there are cores, memory and
            episodes for.

    Raises:
        WhiskerError: an episode file is damaged.
    """
    blocks = cut_blocks((row for row in run.rows if row.n_predictions), _BLOCK_SIZE)
    n_workers = count_viz_workers(run, workers, len(blocks), _BLOCKS_A_WORKER)
    make_work = partial(PlanAssessment, run.path)
    with closing(run_jobs(make_work, blocks, n_workers, _MODULES)) as assessed:
        episodes = [episode for _, of_block in assessed for episode in of_block]
    write_plan_quality(run.path, episodes)
    return episodes


class PlanAssessment:
    """`sim.worker_process.Work`: assesses episodes, each in an environment of its own task."""

    def __init__(self, run: Path) -> None:
        """Args:
        run: the run folder.
        """
        self._run = Run.open(run)
        self._env = OpenedTask(lambda task: open_whisker_env(self._run, task, {}))

    def run(self, block: Block) -> list[EpisodeQuality]:
        return [self._assess(row) for row in block]

    def close(self) -> None:
        self._env.close()

    def _assess(self, row: EpisodeRow) -> EpisodeQuality:
        arrays = load_planned_arrays(self._run, row)
        whiskers = compute_whiskers(self._env.get(row.task), arrays)
        return summarise_episode(row, arrays, compute_plan_quality(whiskers, arrays))
