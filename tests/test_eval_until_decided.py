"""Tests of the sequential test, and of runs that end when it has decided."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from scipy.integrate import quad

from eval.comparison import compare
from eval.episode_row import ROWS_FILE
from eval.paired_statistics import PairedCounts
from eval.run import Run
from eval.sequential_test import DECISIVE_E_VALUE, compute_e_value, is_decisive
from eval.until_decided import Evidence, ReferenceRun
from tests.runs import rewrite_outcomes

N_REFERENCE = 10
# Of eight episodes that one policy alone solves, all by the same one: 2^8 / 9 = 28.4. Of seven: 16.
N_DECISIVE = 8
SHORT = ("--policy", "zero", "--max-steps", 3, "--no-doctor")


def count(only_first, only_second):
    return PairedCounts(
        both=3,
        only_first=only_first,
        only_second=only_second,
        neither=2,
    )


@pytest.mark.parametrize(
    ("b", "c"),
    [
        (0, 0),
        (1, 0),
        (3, 3),
        (8, 0),
        (2, 15),
        (40, 20),
    ],
)
def test_the_e_value_is_the_mean_likelihood_ratio_over_all_chances(b, c):
    mean, _ = quad(
        lambda chance: (2 * chance) ** b * (2 - 2 * chance) ** c,
        0,
        1,
    )
    assert compute_e_value(count(b, c)) == pytest.approx(mean)


def test_the_bet_is_fair():
    for b, c in product(range(12), repeat=2):
        after = compute_e_value(count(b + 1, c)) + compute_e_value(count(b, c + 1))
        assert after / 2 == pytest.approx(compute_e_value(count(b, c)))


def test_the_error_is_at_most_5_percent_however_often_one_looks():
    """Sums the exact probability of a decision over every path of 400 fair coins."""
    at = {0: Fraction(1)}
    decided = Fraction(0)
    for m in range(1, 401):
        after: dict[int, Fraction] = {}
        for b, probability in at.items():
            for more in (0, 1):
                after[b + more] = after.get(b + more, Fraction(0)) + probability / 2
        ended = [b for b in after if is_decisive(count(b, m - b))]
        decided += sum(after.pop(b) for b in ended)
        at = after
    assert 0.02 < decided < 0.05


@pytest.fixture
def reference(eval_here, tmp_path):
    """Return the folder of a run whose ten episodes are noted as successes."""
    folder = tmp_path / "reference"
    flags = ("--episodes", N_REFERENCE, "--workers", 1, "--run-dir", folder)
    assert eval_here(*SHORT, *flags).returncode == 0
    (run,) = folder.iterdir()
    rewrite_outcomes(run, "success")
    return run


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_run_ends_when_it_is_decided_and_is_finished(eval_here, reference, tmp_path, workers):
    """The decision does not depend on which episode happens to end first."""
    against = ("--against", reference, "--until-decided", "--run-dir", tmp_path / "runs")
    ended = eval_here(*SHORT, *against, "--workers", workers)
    assert ended.returncode == 0
    assert f"decided after {N_DECISIVE} shared episodes (0 solved by zero alone, 8 by zero" in (
        ended.stdout
    )
    (folder,) = (tmp_path / "runs").iterdir()
    run = Run.open(folder)
    assert [row.episode_index for row in run.rows] == list(range(N_DECISIVE))
    assert run.description.config.episodes == N_REFERENCE and run.is_finished
    decision = run.description.decision
    assert (decision.only_this, decision.only_other) == (0, N_DECISIVE)
    assert decision.e_value == pytest.approx(2**8 / 9) and decision.e_value >= DECISIVE_E_VALUE
    again = eval_here("--resume", folder)
    assert again.returncode == 0 and len(Run.open(folder).rows) == N_DECISIVE
    (remark,) = [said for said in compare([reference, folder]).remarks if "ended early" in said]
    assert "after 8 episodes" in remark


def test_evidence_is_the_same_row_by_row_and_all_at_once(reference):
    rows = Run.open(reference).rows
    failed = [replace(row, success=row.episode_index % 3 == 0) for row in rows]
    other = ReferenceRun(Run.open(reference))
    evidence = Evidence(other, failed[:4])
    for row in failed[4:]:
        evidence.add(row)
    assert evidence.counts == other.count_pairs(failed)
    assert (evidence.counts.both, evidence.counts.only_second) == (4, 6)
    assert str(evidence) == "e 9.1 of 20"


def test_a_run_that_was_interrupted_is_decided_by_the_same_episode(eval_here, reference, tmp_path):
    against = ("--against", reference, "--until-decided", "--run-dir", tmp_path / "runs")
    assert eval_here(*SHORT, *against).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    description = json.loads((folder / "run.json").read_text())
    del description["decision"]
    (folder / "run.json").write_text(json.dumps(description))
    lines = (folder / ROWS_FILE).read_text().splitlines(keepends=True)
    (folder / ROWS_FILE).write_text("".join(lines[:5]))
    assert eval_here("--resume", folder).returncode == 0
    run = Run.open(folder)
    assert len(run.rows) == N_DECISIVE and run.description.decision.n_shared == N_DECISIVE


def test_a_run_that_nothing_decides_ends_at_most(eval_here, reference, tmp_path):
    rewrite_outcomes(reference, "never_picked_up")
    ended = eval_here(
        *SHORT,
        "--against",
        reference,
        "--until-decided",
        "--most",
        4,
        "--run-dir",
        tmp_path / "runs",
    )
    assert "4 shared episodes have not decided between zero and zero (0 solved" in ended.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(Run.open(folder).rows) == 4 and Run.open(folder).description.decision is None


def test_episodes_before_those_of_the_other_run_are_refused(eval_here, reference, tmp_path):
    """They would decide nothing, however many there are."""
    rows = (reference / ROWS_FILE).read_text().splitlines(keepends=True)
    (reference / ROWS_FILE).write_text("".join(rows[4:]))
    against = ("--against", reference, "--until-decided", "--run-dir", tmp_path / "runs")
    refused = eval_here(*SHORT, *against)
    assert refused.returncode == 2 and "got a run of episodes 4 to 9" in refused.stderr
    (reference / ROWS_FILE).write_text("")
    refused = eval_here(*SHORT, *against)
    assert refused.returncode == 2 and "expected finished episodes, got none" in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--until-decided"], "expected --against <run folder> together with --until-decided"),
        (["--most", 3], "got --until-decided or --most alone"),
        (["--against", "{run}"], "`eval-compare RUN RUN`"),
        (["--against", "{run}", "--until-decided", "--most", 11], "got a run of episodes 0 to 9"),
        (["--against", "{run}", "--until-decided", "--most", 0], "got a run of episodes 0 to 9"),
        (
            ["--against", "{run}", "--until-decided", "--first-episode", 10],
            "expected episodes 10 to 10",
        ),
        (["--against", "{run}", "--until-decided", "--max-steps", 4], "got other max_steps (3 and"),
        (["--against", "nowhere", "--until-decided"], "expected a run folder with a run.json"),
    ],
)
def test_what_cannot_be_decided_is_refused(eval_here, reference, tmp_path, flags, said):
    given = [str(flag).format(run=reference) for flag in flags]
    refused = eval_here(*SHORT, *given, "--run-dir", tmp_path / "runs")
    assert refused.returncode == 2 and said in refused.stderr
    assert not (tmp_path / "runs").exists()
