"""The progress bar says the same as a count of all rows so far, and fits on a line."""

from statistics import mean

import pytest
from numpy.random import default_rng
from rich.text import Text

from eval.episode_arrays import EpisodeRecord
from eval.episode_row import make_row
from eval.progress import EvaluationProgress
from eval.schedule import Schedule

N_ROWS = 40


def make_rows(seed):
    """Return rows of successes, failures and crashes."""
    rows = []
    for index, kind in enumerate(default_rng(seed).integers(3, size=N_ROWS)):
        error = "E: crashed" if kind == 2 else ""
        record = EpisodeRecord("task", index, bool(kind == 0), error, 0.1, arrays=None)
        rows.append(make_row(record))
    return rows


@pytest.mark.parametrize("n_before", [0, 7])
def test_the_bar_shows_the_rate_of_all_judged_rows_so_far(n_before):
    rows = make_rows(seed=n_before)
    bar = EvaluationProgress("episodes", Schedule([]), rows[:n_before], N_ROWS, is_quiet=True)
    assert bar.tasks[0].completed == n_before
    for n, row in enumerate(rows[n_before:], start=n_before + 1):
        bar.add(row, "e 2 of 20")
        judged = [other.success for other in rows[:n] if not other.error]
        said = bar.tasks[0].fields["rate"].split(", ")
        assert bar.tasks[0].completed == n
        assert said[-1] == "e 2 of 20"
        assert (f"{mean(judged):.0%} success" in said) if judged else len(said) == 2


def test_the_first_of_many_workers_are_shown():
    schedule = Schedule([("task", range(5000))])
    for runner in range(1000):
        schedule.take(runner)
    bar = EvaluationProgress("episodes", schedule, [], 5000, is_quiet=True)
    (line,) = [each for each in bar.get_renderables() if isinstance(each, Text)]
    assert line.plain.startswith("1000 workers   worker 1: task/0   worker 2: task/1")
    assert len(line.plain) < 400
