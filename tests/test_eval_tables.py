"""Tests that the table of failures says where each episode went wrong."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from eval.outcome import Event, Outcome
from eval.tables import event_table, failure_table
from tests.test_eval_statistics import row


def shown(table):
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    lines = console.file.getvalue().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


UNPICKED = row(
    3,
    Outcome.NEVER_PICKED_UP,
    failed_stage="grasped",
    decided_at_step=300,
)
DECIDED = replace(UNPICKED, decisive_step=63, decisive_event=Event.CLOSED_ON_NOTHING)
CRASHED = row(
    3,
    Outcome.ERROR,
    error="boom",
    decided_at_step=7,
    decisive_step=7,
    decisive_event=Event.ERROR,
)


@pytest.mark.parametrize(
    ("failed", "line"),
    [
        (DECIDED, ["3", "never_picked_up", "grasped", "63, closed_on_nothing"]),
        (UNPICKED, ["3", "never_picked_up", "grasped", "300"]),
        (CRASHED, ["3", "error", "boom", "7"]),
    ],
    ids=["with its event", "of an older run", "crash"],
)
def test_a_failure_says_where_it_went_wrong_and_what_happened_there(failed, line):
    assert line in shown(failure_table([failed], {"t": "env"}))


def test_failures_are_counted_by_what_decided_them():
    decided = [
        (Event.LET_GO, 80),
        (Event.LOST_GRASP, 69),
        (Event.LOST_GRASP, 40),
        (Event.LOST_GRASP, 51),
    ]
    success = row(9, Outcome.SUCCESS)
    failed = [
        replace(UNPICKED, episode_index=i, decisive_event=event, decisive_step=step)
        for i, (event, step) in enumerate(decided)
    ]
    lines = shown(event_table([*failed, success]))
    counted = [line for line in lines if len(line) == 3]
    assert counted == [["lost grasp", "3", "steps 40 to 69"], ["let go", "1", "step 80"]]
    assert event_table([success]) is None
    assert event_table(failed[:1]) is None
