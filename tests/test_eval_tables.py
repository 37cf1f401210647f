"""Tests that the table of failures says where each episode went wrong."""

import io
from dataclasses import replace

from rich.console import Console

from eval.outcome import Event, Outcome
from eval.tables import event_table, failure_table
from tests.test_eval_statistics import row


def shown(*rows, make_table=lambda rows: failure_table(rows, {"t": "env"})):
    console = Console(width=100, file=io.StringIO())
    console.print(make_table(rows))
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in console.file.getvalue().splitlines()
    ]


def test_a_failure_says_where_it_went_wrong_and_what_happened_there():
    failed = row(
        3,
        Outcome.NEVER_PICKED_UP,
        failed_stage="grasped",
        decided_at_step=300,
    )
    failed = replace(failed, decisive_step=63, decisive_event=Event.CLOSED_ON_NOTHING)
    assert ["3", "never_picked_up", "grasped", "63, closed_on_nothing"] in shown(failed)


def test_a_failure_of_an_older_run_says_when_it_was_decided():
    failed = row(
        3,
        Outcome.NEVER_PICKED_UP,
        failed_stage="grasped",
        decided_at_step=300,
    )
    assert ["3", "never_picked_up", "grasped", "300"] in shown(failed)


def test_a_crash_says_what_crashed():
    crashed = row(
        3,
        Outcome.ERROR,
        error="boom",
        decided_at_step=7,
    )
    crashed = replace(crashed, decisive_step=7, decisive_event=Event.ERROR)
    assert ["3", "error", "boom", "7"] in shown(crashed)


def test_failures_are_counted_by_what_decided_them():
    decided = [
        (Event.LET_GO, 80),
        (Event.LOST_GRASP, 69),
        (Event.LOST_GRASP, 40),
        (Event.LOST_GRASP, 51),
    ]
    failed = [
        replace(
            row(i, Outcome.DROPPED_DURING_TRANSPORT, failed_stage="lifted"),
            decisive_step=step,
            decisive_event=event,
        )
        for i, (event, step) in enumerate(decided)
    ]
    lines = shown(*failed, row(9, Outcome.SUCCESS), make_table=event_table)
    counted = [line for line in lines if len(line) == 3]
    assert counted == [["lost grasp", "3", "steps 40 to 69"], ["let go", "1", "step 80"]]
    assert event_table([row(9, Outcome.SUCCESS)]) is None and event_table([failed[0]]) is None
