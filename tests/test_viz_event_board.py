"""Listeners receive the events in order, and a board drops the listeners that have left."""

from viz.event_board import EventBoard


def status(state, key="", message=""):
    return "status", {
        "state": state,
        "key": key,
        "message": message,
    }


def progress(message):
    return "progress", {"message": message}


def listen(board, wait_s):
    """Return the events after the two of the present."""
    events = board.events(wait_s)
    next(events)
    next(events)
    return events


def test_a_listener_hears_the_present_and_then_everything_in_order():
    board = EventBoard()
    board.say("opening so101/pick_place")
    events = board.events(0.01)
    assert next(events) == status("paused")
    assert next(events) == progress("opening so101/pick_place")
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
        progress(""),
        status("busy", "a"),
        status("closed", "a", "done"),
    ]


def test_two_listeners_hear_the_same_and_one_that_left_nothing():
    board = EventBoard()
    first = listen(board, 0.01)
    second = listen(board, 0.01)
    first.close()
    board.tell("row", {})
    assert next(second) == ("row", {})
    second.close()
    assert board._listeners == []


def test_counts_are_not_told_faster_than_they_are_read(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("viz.event_board.time.monotonic", lambda: now[0])
    board = EventBoard()
    events = listen(board, 0.0)
    for moment in range(1, 61):
        now[0] += 0.02
        board.count("reading moment", moment, 60)
    told = [content["message"] for _, content in iter(lambda: next(events), None)]
    assert told[0].startswith("reading moment ")
    assert told[0].endswith(" of 60")
    # The counts take 1.2 s, and at most five messages a second are sent.
    assert len(told) == len(set(told))
    assert 4 <= len(told) <= 7
