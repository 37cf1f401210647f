"""Tests that a run ends after so many crashed episodes, and that no row changes by that."""

import shutil

import numpy as np
import pytest

from tests.bug_plants import weights
from tests.processes import only_run
from tests.test_eval_cli import rows_of

SHORT = "--max-steps 3 --no-doctor --workers"


@pytest.fixture(scope="module")
def crashing(small_act, tmp_path_factory):
    """Return an ACT whose every plan is NaN."""
    folder = shutil.copytree(small_act, tmp_path_factory.mktemp("crashing") / "act")
    bias = "model.action_head.bias"
    weights(lambda name, value: value + np.float32(np.nan) if name == bias else value)(folder)
    return folder


def test_a_run_ends_after_so_many_errors_and_can_be_resumed(eval_here, tmp_path, crashing):
    flags = f"--checkpoint {crashing} {SHORT} 1 --episodes 4 --run-dir"
    assert eval_here(flags, tmp_path / "whole").returncode == 3
    ended = eval_here("--max-errors 2", *flags.split(), tmp_path / "ended")
    run = only_run(tmp_path / "ended")
    assert ended.returncode == 2
    assert (
        "expected fewer than --max-errors 2 crashed episodes, got 2, the last one" in ended.stderr
    )
    assert f"`eval --resume {run}` runs the 2 episodes that are left;" in ended.stderr
    whole = rows_of(tmp_path / "whole")
    assert rows_of(tmp_path / "ended") == whole[:2]
    again = eval_here("--no-doctor --max-errors 1 --resume", run)
    assert again.returncode == 2
    assert rows_of(tmp_path / "ended") == whole[:3]
    # The last episode of a run ends it in any case.
    assert eval_here("--no-doctor --max-errors 1 --resume", run).returncode == 3
    assert rows_of(tmp_path / "ended") == whole


@pytest.mark.slow
def test_workers_end_too(eval_here, tmp_path, crashing):
    done = eval_here(
        f"--max-errors 1 --checkpoint {crashing} {SHORT} 2 --episodes 8 --run-dir", tmp_path
    )
    assert done.returncode == 2
    assert "--max-errors 1" in done.stderr
    assert 1 <= len(rows_of(tmp_path)) < 8


def test_episodes_that_fail_are_no_errors(eval_succeeds, tmp_path):
    eval_succeeds(f"--policy zero --max-errors 1 --episodes 2 {SHORT} 1 --run-dir", tmp_path)
    assert len(rows_of(tmp_path)) == 2


def test_a_limit_of_none_is_refused(refusal_of_eval, tmp_path):
    said = refusal_of_eval(f"--policy zero --max-errors 0 {SHORT} 1 --run-dir", tmp_path)
    assert "--max-errors: expected at least 1, got 0" in said
