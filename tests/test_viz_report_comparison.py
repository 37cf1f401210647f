"""Tests of what a report says of several runs, and of its maps."""

import re

import pytest

from eval.compare_words import describe_comparison
from eval.comparison import compare
from tests.runs import rewrite_outcomes
from viz.report.cli import main

N_EPISODES = 8


@pytest.fixture
def make_run(eval_here, tmp_path):
    """Return a function that makes a run whose first episodes are noted as successes."""

    def make(policy, n_success, max_steps=3):
        folder = tmp_path / policy
        flags = ("--policy", policy, "--max-steps", max_steps, "--episodes", N_EPISODES)
        assert eval_here(*flags, "--no-doctor", "--run-dir", folder).returncode == 0
        (run,) = folder.iterdir()
        rewrite_outcomes(run, "success", n_success)
        return run

    return make


@pytest.fixture
def report(monkeypatch, tmp_path):
    """Return a function that writes a report of runs and returns its text."""

    def write(*runs, suffix=".html"):
        output = tmp_path / f"report{suffix}"
        arguments = ["eval-report", *map(str, runs), "--quick", "--output", str(output)]
        monkeypatch.setattr("sys.argv", arguments)
        assert main() == 0
        return output.read_text()

    return write


def test_two_runs_are_compared_as_by_eval_compare(make_run, report):
    runs = [make_run("zero", 7), make_run("random", 1)]
    (pair,) = compare(runs).comparisons.values()
    page = report(*runs)
    assert describe_comparison(pair).replace("<", "&lt;") in page
    assert "both solve 1, only zero solves 6, only random solves 0, and neither solves 1" in page
    compared = page.partition('class="card comparison"')[2].partition("</section>")[0]
    links = re.findall(r'href="#(run\d-[^"]+)"', compared)
    assert len(links) == 2 * 6 and all(f'id="{link}"' in page for link in links)
    assert describe_comparison(pair).partition("(")[0] in report(*runs, suffix=".md")


def test_of_several_runs_the_best_is_named_and_each_has_its_letters(make_run, report):
    page = report(make_run("zero", 8), make_run("random", 0), make_run("scripted", 7))
    assert "zero has the highest success" in page
    letters = page.partition("Runs that share a letter")[2].partition("</p>")[0]
    assert re.findall("<b>(.*?)</b>", letters) == ["a", "b", "a"]


def test_runs_that_cannot_be_compared_are_reported_all_the_same(make_run, report):
    page = report(make_run("zero", 8), make_run("random", 0, max_steps=2))
    assert "The runs are not compared." in page and "max_steps (3 and 2)" in page
    assert "zero in so101/pick_place" in page and "random in so101/pick_place" in page


def test_a_single_run_is_compared_with_nothing(make_run, report):
    assert "card comparison" not in report(make_run("zero", 2))


def test_success_is_mapped_by_any_number_of_the_initial_state(make_run, report):
    run = make_run("zero", 4)
    by_height = report(run, "--map-by", "object z", suffix=".md")
    assert "## Success by initial object z" in by_height
    assert "## Success by initial object position" in report(run, suffix=".md")
