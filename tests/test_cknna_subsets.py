"""Tests which rows a subset contains, on a bank that is written by hand."""

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


def make_bank(tmp_path, rows, *, rolled_out=True, tasks=("pick", "place")):
    task, episode, step, grasped, success = (np.array(column) for column in zip(*rows, strict=True))
    steps = np.full(len(rows), 30)
    rollout = RolloutColumns(
        grasped,
        np.where(success, "success", "timeout"),
        success,
        steps,
    )
    kind = "rollout" if rolled_out else "extracted"
    description = BankDescription(
        kind, "act", "here", {"model.safetensors": "ab"}, False, (), "so101"
    )
    state = np.zeros((len(rows), 2), np.float32)
    columns = (state, task, episode, step)
    return FeatureBank(
        tmp_path, description, tasks, *columns, rollout=rollout if rolled_out else None
    )


def numbers(parts):
    return {name: np.flatnonzero(rows).tolist() for name, rows in parts.items()}


def test_tasks_outcomes_and_phases_by_the_grasp(tmp_path):
    assert numbers(find_subsets(make_bank(tmp_path, ROWS))) == {
        "task pick": [0, 1, 2, 3, 4],
        "task place": [5, 6],
        "successes": [0, 1, 2, 3, 4],
        "failures": [5, 6],
        "before the grasp": [0, 5, 6],
        "holding": [1, 3],
        "after a grasp": [2, 4],
    }


def test_thirds_where_nothing_was_grasped_or_nobody_knows(tmp_path):
    """If no grasp is known, the rows are divided into thirds of each episode's own time.

    The steps are 0, 5, ... 20 of 21 in one episode, and 0, 5 of 6 in the other.
    """
    thirds = {
        "early": [0, 1, 5],
        "middle": [2],
        "late": [3, 4, 6],
    }
    tasks = {
        "task pick": [0, 1, 2, 3, 4],
        "task place": [5, 6],
    }
    assert numbers(find_subsets(make_bank(tmp_path, ROWS, rolled_out=False))) == tasks | thirds
    idle = [(0, episode, step, False, False) for _, episode, step, _, _ in ROWS[:5]]
    assert numbers(find_subsets(make_bank(tmp_path, idle, tasks=("pick",)))) == {
        "early": [0, 1],
        "middle": [2],
        "late": [3, 4],
    }


def test_a_part_without_a_score_takes_no_other_with_it():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((60, dim), np.float32) for dim in (5, 3))
    still = np.arange(60) < 20
    b[still] = 1
    pair = Pair(
        "run",
        "embedding",
        a,
        b,
        episode=np.arange(60) // 10,
        subsets={"still": still, "moving": ~still},
    )
    with pytest.warns(
        WhiskerWarning,
        match="run, still: no score. features_b: expected rows in more than one direction",
    ):
        rows = list(
            score_pair(
                pair,
                ScoreConfig(topk=(3,), permutations=9),
            )
        )
    assert [row.part for row in rows] == ["all", "moving"]


def test_rows_with_ties_are_counted_and_said():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((60, dim), np.float32) for dim in (5, 3))
    episode = np.arange(60) // 10
    b[::10] = b[0]  # every episode begins in the same pose
    row, *_ = score_pair(
        Pair(
            "run",
            "embedding",
            a,
            b,
            episode=episode,
        ),
        ScoreConfig(topk=(3,), permutations=9),
    )
    membership = oracle.mask(oracle.kernel(b), 3)
    n_tied = int(((membership > 0) & (membership < 1)).any(1).sum())
    assert n_tied >= 6
    assert (row.n_tied_a, row.n_tied_b) == (0, n_tied)
    assert (
        f"{n_tied} rows of the state have ties at the k-th neighbour: "
        "tied rows count in equal shares" in row.notes
    )
