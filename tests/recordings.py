"""Runs that tests record or write in this process."""

import json
from contextlib import closing
from dataclasses import replace

from eval.drivers import run_episode
from eval.episode_loop import evaluate
from eval.episode_row import ROWS_FILE, load_rows, make_row
from eval.evaluation import set_up
from eval.provenance import describe
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_description import save_description
from eval.run_folder import RunFolder
from policies.baselines import BASELINES


def record_run(config, folder):
    """Evaluate in this process as `eval` does, and return the run, which lies in the folder."""
    setup = set_up(config)
    with closing(setup.env), closing(RunFolder.create(folder, describe(config, setup))) as made:
        list(evaluate(config, setup, made))
    return Run.open(made.path)


def record_episode(env, policy, episode_index=0, n_action_steps=1, **settings):
    """Roll one episode out and return its record.

    Args:
        policy: a policy, or the name of a baseline.
        settings: further fields of `RolloutSettings`; 12 control steps are the default.
    """
    if isinstance(policy, str):
        policy = BASELINES[policy](env)
    rollout = RolloutSettings(**{"n_action_steps": n_action_steps, "max_steps": 12} | settings)
    return run_episode(env, policy, episode_index, EpisodeRecorder(), rollout)


def save_episode(record, folder, description):
    """Write a run folder with this one episode, and return the run."""
    with closing(RunFolder.create(folder, description)) as made:
        made.append(record, make_row(record))
    return Run.open(made.path)


def write_rows(run, rows):
    """Replace the rows of a run folder."""
    (run / ROWS_FILE).write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))


def make_suite_of(run, tasks, **changes):
    """Give each of these tasks the rows that the run has now, with the changes."""
    rows = load_rows(run)
    write_rows(run, [replace(row, task=task, **changes) for task in tasks for row in rows])
    save_description(run, replace(Run.open(run).description, tasks=tasks))


def roll_out(setup, episode_index):
    """Roll one episode out as `eval` does, and return its record."""
    settings = RolloutSettings(setup.n_action_steps, setup.max_steps)
    return run_episode(
        setup.env,
        setup.policy,
        episode_index,
        EpisodeRecorder(),
        settings,
    )
