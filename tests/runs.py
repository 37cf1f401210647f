"""Descriptions of runs that tests put together by hand."""

import json
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from eval.config import EvalConfig
from eval.episode_arrays import EpisodeArrays
from eval.episode_row import ROWS_FILE
from eval.run_description import Resolved, RunDescription
from eval.trajectory import Trajectory
from policies.baselines import BASELINES
from sim.flags import make_config
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.so101.goals import declare_goal
from viz.whiskers import (
    compute_whiskers,
    is_ensemble,
    load_planned_arrays,
    open_whisker_env,
)


def describe_run(env, policy="random", max_steps=5, **parts):
    """Return a description with the fields that every version has written.

    Args:
        policy: a policy, or the name of a baseline.
        parts: further fields of the description.
    """
    spec = (BASELINES[policy](env) if isinstance(policy, str) else policy).spec
    config = make_config(
        EvalConfig, policy=spec.type, checkpoint=spec.checkpoint or None, env=env.spec.name
    )
    resolved = Resolved(n_action_steps=spec.n_action_steps, max_steps=max_steps)
    description = RunDescription(
        config=config,
        resolved=resolved,
        policy=spec,
        env=env.spec,
    )
    return replace(description, **parts)


def make_trajectory_of(arrays):
    """Return the trajectory of a pick-and-place episode from arrays that a test made by hand."""
    closes = arrays.closes_gripper
    if closes is None:
        closes = np.zeros(len(arrays.action), bool)
    return Trajectory(
        goal=declare_goal("in block bowl"),
        met=arrays.progress[:, -1],
        stages=dict(zip(PICK_AND_PLACE.stages, arrays.progress.T, strict=True)),
        measures={
            "object_height_m": arrays.object_height_m,
            "goal_distance_m": arrays.goal_distance_m,
        },
        ee_pos_world=arrays.ee_pos_world,
        object_pos_world=arrays.object_pos_world,
        closes_gripper=closes,
    )


def read_files(folder):
    """Return the name of each file in a folder and those below → its bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def load_whiskers(run, row):
    """Return the whiskers of one recorded episode."""
    arrays = load_planned_arrays(run, row)
    with closing(open_whisker_env(run, row.task, {})) as env:
        return compute_whiskers(env, arrays, is_ensemble(run))


def assert_same_arrays(arrays, other, but_for=()):
    """Assert that two episodes have the same arrays to the last bit.

    Their series must be equal too, except those of wall time.
    """
    for field in fields(EpisodeArrays):
        if field.name not in {"series", *but_for}:
            np.testing.assert_array_equal(
                getattr(arrays, field.name), getattr(other, field.name), field.name
            )
    assert arrays.series.keys() == other.series.keys()
    for name, recorded in arrays.series.items():
        assert recorded.series == other.series[name].series
        if recorded.series.is_reproducible:
            np.testing.assert_array_equal(recorded.values, other.series[name].values, name)


def rewrite_outcomes(run: Path, outcome: str, n_rows: int | None = None) -> None:
    """Give every row of a run folder another outcome, or only those of the first `n_rows` episodes.

    With several workers, the file has them in the order in which they ended.
    """
    file = run / ROWS_FILE
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    in_order = sorted(rows, key=lambda row: (row["task"], row["episode_index"]))
    for row in in_order[:n_rows]:
        row |= {"outcome": outcome, "success": outcome == "success"}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(run):
    """Return the rows of a run, sorted, without their durations."""
    lines = (run / ROWS_FILE).read_text().splitlines()
    rows = [json.loads(line) | {"duration_s": None} for line in lines]
    return sorted(rows, key=lambda row: (row["task"], row["episode_index"]))


def assert_same_runs(run, expected):
    """Check that two runs have the same rows and arrays, whatever the order of the rows."""
    assert rows_of(run.path) == rows_of(expected.path)
    for row, other in zip(run.rows, expected.rows, strict=True):
        assert_same_arrays(run.load_arrays(row), expected.load_arrays(other))
