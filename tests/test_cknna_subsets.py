"""Tests which rows a subset contains, on a bank that is written by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cknna.bank import FeatureBank, RolloutColumns
from cknna.bank_description import BankDescription
from cknna.config import ScoreConfig
from cknna.report import Pair, score_pair
from cknna.subsets import find_subsets
from sim.errors import WhiskerWarning
from tests import cknna_oracle as oracle

# A row is (task, episode, step, grasped, success). One episode drops the block and takes it again,
# and the other never takes it.
ROWS = [
    (0, 0, 0, False, True),
    (0, 0, 5, True, True),
    (0, 0, 10, False, True),
    (0, 0, 15, True, True),
    (0, 0, 20, False, True),
    (1, 0, 0, False, False),
    (1, 0, 5, False, False),
]


def make_bank(rows, *, rolled_out=True, tasks=("pick", "place")):
    task, episode, step, grasped, success = np.transpose(rows)
    kind = "extracted"
    rollout = None
    if rolled_out:
        kind = "rollout"
        outcome = np.where(success, "success", "timeout")
        rollout = RolloutColumns(
            grasped == 1,
            outcome,
            success == 1,
            np.full(len(rows), 30),
        )
    description = BankDescription(
        kind,
        "act",
        "here",
        {},
        False,
        (),
        "so101",
    )
    state = np.zeros((len(rows), 2), np.float32)
    return FeatureBank(
        Path(),
        description,
        tasks,
        state,
        task,
        episode,
        step,
        rollout=rollout,
    )


def numbers(bank):
    """Return the numbers of the rows of each subset."""
    return {name: np.flatnonzero(rows).tolist() for name, rows in find_subsets(bank).items()}


def test_tasks_outcomes_and_phases_by_the_grasp():
    assert numbers(make_bank(ROWS)) == {
        "task pick": [0, 1, 2, 3, 4],
        "task place": [5, 6],
        "successes": [0, 1, 2, 3, 4],
        "failures": [5, 6],
        "before the grasp": [0, 5, 6],
        "holding": [1, 3],
        "after a grasp": [2, 4],
    }


def test_thirds_where_nobody_knows_of_a_grasp():
    """If no grasp is known, the rows are divided into thirds of each episode's own time.

    The steps are 0, 5, ... 20 of 21 in one episode, and 0, 5 of 6 in the other.
    """
    assert numbers(make_bank(ROWS, rolled_out=False)) == {
        "task pick": [0, 1, 2, 3, 4],
        "task place": [5, 6],
        "early": [0, 1, 5],
        "middle": [2],
        "late": [3, 4, 6],
    }


def test_thirds_where_nothing_was_grasped():
    idle = [(0, 0, step, False, False) for step in (0, 5, 10, 15, 20)]
    thirds = {"early": [0, 1], "middle": [2], "late": [3, 4]}
    assert numbers(make_bank(idle, tasks=("pick",))) == thirds


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((60, dim), np.float32) for dim in (5, 3))
    return Pair(
        "run",
        "embedding",
        a,
        b,
        episode=np.arange(60) // 10,
    )


CONFIG = ScoreConfig(topk=(3,), permutations=9)


def test_a_part_without_a_score_takes_no_other_with_it(pair):
    still = np.arange(60) < 20
    pair.b[still] = 1
    pair = replace(pair, subsets={"still": still, "moving": ~still})
    said = "run, still: no score. features_b: expected rows in more than one direction"
    with pytest.warns(WhiskerWarning, match=said):
        rows = list(score_pair(pair, CONFIG))
    assert [row.part for row in rows] == ["all", "moving"]


def test_rows_with_ties_are_counted_and_said(pair):
    pair.b[::10] = pair.b[0]  # every episode begins in the same pose
    row, *_ = score_pair(pair, CONFIG)
    membership = oracle.mask(oracle.kernel(pair.b), 3)
    is_tied = (membership > 0) & (membership < 1)
    n_tied = is_tied.any(1).sum()
    assert n_tied >= 6
    assert (row.n_tied_a, row.n_tied_b) == (0, n_tied)
    said = "rows of the state have ties at the k-th neighbour: tied rows count in equal shares"
    assert f"{n_tied} {said}" in row.notes
