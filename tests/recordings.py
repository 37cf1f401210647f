"""Runs that tests record or write in this process."""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from eval.config import EvalConfig
from eval.drivers import run_episode
from eval.episode_arrays import EpisodeRecord
from eval.episode_loop import evaluate
from eval.episode_row import ROWS_FILE, EpisodeRow, load_rows, make_row
from eval.evaluation import set_up
from eval.provenance import describe
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_description import RunDescription, save_description
from eval.run_folder import RunFolder
from policies.policy import Policy
from sim.env import Env


def record_run(config: EvalConfig, folder: Path) -> Run:
    """Evaluate in this process as `eval` does, and return the run, which lies in the folder."""
    setup = set_up(config)
    with closing(setup.env), closing(RunFolder.create(folder, describe(config, setup))) as made:
        list(evaluate(config, setup, made))
    return Run.open(made.path)


def record_episode(
    env: Env, policy: Policy, max_steps: int, *, episode_index: int = 0, n_action_steps: int = 1
) -> EpisodeRecord:
    """Return the record of one episode."""
    settings = RolloutSettings(n_action_steps, max_steps)
    return run_episode(env, policy, episode_index, EpisodeRecorder(), settings)


def save_episode(record: EpisodeRecord, folder: Path, description: RunDescription) -> Run:
    """Write a run folder with this one episode, and return the run."""
    with closing(RunFolder.create(folder, description)) as made:
        made.append(record, make_row(record))
    return Run.open(made.path)


def write_rows(run: Path, rows: Iterable[EpisodeRow]) -> None:
    """Replace the rows of a run folder."""
    (run / ROWS_FILE).write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))


def make_suite_of(run: Path, tasks: Mapping[str, str], **changes) -> None:
    """Give each of these tasks the rows that the run has now, with the changes."""
    rows = load_rows(run)
    write_rows(run, [replace(row, task=task, **changes) for task in tasks for row in rows])
    save_description(run, replace(Run.open(run).description, tasks=tasks))
