"""The checkpoints in the repository do what the README says, measured with `eval` itself."""

import json
import subprocess
import sys

import pytest

from policies.registry import CHECKPOINT_FOLDER, shipped_checkpoints


def count_successes(folder, checkpoint, n_episodes):
    command = [sys.executable, "-m", "eval", "--checkpoint", checkpoint, "--episodes", str(n_episodes), "--quiet"]
    subprocess.run([*command, "--run-dir", str(folder)], check=True, capture_output=True)
    (rows,) = folder.glob("*/episodes.jsonl")
    outcomes = [json.loads(line)["outcome"] for line in rows.read_text().splitlines()]
    assert len(outcomes) == n_episodes and "error" not in outcomes
    return outcomes.count("success")


def test_both_are_there_and_small():
    assert shipped_checkpoints() == ["act", "act-early"]
    for name in shipped_checkpoints():
        assert sum(file.stat().st_size for file in (CHECKPOINT_FOLDER / name).iterdir()) < 32e6


def test_act_succeeds(tmp_path):
    assert count_successes(tmp_path, "act", 5) >= 4


@pytest.mark.slow
def test_act_succeeds_in_90_of_100(tmp_path):
    assert count_successes(tmp_path, "act", 100) >= 90


@pytest.mark.slow
def test_act_early_succeeds_in_30_to_60_of_100(tmp_path):
    assert 30 <= count_successes(tmp_path, "act-early", 100) <= 60
