"""Listeners receive the events in order, and a board drops the listeners that have left."""

from viz.event_board import EventBoard


def test_a_listener_hears_the_present_and_then_everything_in_order():
    board = EventBoard()
    board.say("opening so101/pick_place")
    events = board.events(0.01)
    assert [next(events), next(events)] == [
        (
            "status",
            {
                "state": "paused",
                "key": "",
                "message": "",
            },
        ),
        ("progress", {"message": "opening so101/pick_place"}),
    ]
    # No further event has happened.
    assert next(events) is None
    board.tell("row", {"key": "a"})
    board.say("")
    # A message that has not changed is not sent again.
    board.say("")
    board.set_status("busy", key="a")
    board.set_status("closed", message="done")
    assert list(events) == [
        ("row", {"key": "a"}),
        ("progress", {"message": ""}),
        (
            "status",
            {
                "state": "busy",
                "key": "a",
                "message": "",
            },
        ),
        (
            "status",
            {
                "state": "closed",
                "key": "a",
                "message": "done",
            },
        ),
    ]


def test_two_listeners_hear_the_same_and_one_that_left_nothing():
    board = EventBoard()
    first = board.events(0.01)
    second = board.events(0.01)
    for events in (first, second):
        next(events), next(events)
    first.close()
    board.tell("row", {})
    assert next(second) == ("row", {})
    second.close()
    assert board._listeners == []


def test_counts_are_not_told_faster_than_they_are_read(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("viz.event_board.time.monotonic", lambda: now[0])
    board = EventBoard()
    events = board.events(0.0)
    next(events), next(events)
    for moment in range(1, 61):
        now[0] += 0.02
        board.count("reading moment", moment, 60)
    told = [content["message"] for _, content in iter(lambda: next(events), None)]
    assert told[0].startswith("reading moment ") and told[0].endswith(" of 60")
    # The counts take 1.2 s, and at most five messages a second are sent.
    assert len(told) == len(set(told)) and 4 <= len(told) <= 7
