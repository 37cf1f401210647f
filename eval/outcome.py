"""The tables of the outcomes of episodes and of the events that decided them.

Statistics, colours, filters, legends, reports and pages take all they know of an outcome from its
entry in `OUTCOMES`, and of an event from its entry in `EVENTS`. So a new one is added only here. A
row of a newer version's run may have one that is not in its table. It is called unknown, shown in a
colour of its own, and counted separately.
"""

from dataclasses import dataclass
from enum import StrEnum

# The version of the rules that make the outcomes. Rows made by different rules are not comparable,
# so `run.json` stores the version. Rules 1 counted a single moment of contact as a grasp and 5 cm
# as a pick-up, and had no decisive step.
OUTCOME_RULES = 2


class Outcome(StrEnum):
    """The outcomes that the rules of this version give."""

    SUCCESS = "success"
    NEVER_PICKED_UP = "never_picked_up"
    DROPPED_DURING_TRANSPORT = "dropped_during_transport"
    MISSED_GOAL = "missed_goal"
    TIMEOUT = "timeout"
    ERROR = "error"


class Event(StrEnum):
    """The events at decisive steps that the rules of this version give."""

    SUCCESS = "success"
    LOST_GRASP = "lost_grasp"
    LET_GO = "let_go"
    CLOSED_ON_NOTHING = "closed_on_nothing"
    NOT_LIFTED = "not_lifted"
    NOT_RELEASED = "not_released"
    CLOSEST_APPROACH = "closest_approach"
    NOT_PRESSED = "not_pressed"
    LEFT_SURFACE = "left_surface"
    STALLED = "stalled"
    UNDONE = "undone"
    END = "end"
    ERROR = "error"


@dataclass(frozen=True)
class OutcomeFacts:
    """The properties of an outcome.

    Colours can be told apart with deuteranopia. In Machado's simulation (2009) any two colours of a
    theme differ by at least 25 in CIELAB (ΔE 1976), and each has a contrast of at least 3:1 to the
    panel behind it.

    Attributes:
        light, dark: colour in the two themes.
        letter: letter in a cell of its colour, for readers who cannot see the colours.
        mark: mark on a map as an SVG path, in a square from -1 to 1.
        is_judged: whether the episode ran to its end. Other episodes are in no rate.
        picked_up: with a goal in which an object is picked up, whether it was; None if this is not
            known.
        dropped: with such a goal, whether the object came down in a wrong place.
        needs_pick: whether only such goals can end so.
    """

    light: str
    dark: str
    letter: str
    mark: str
    is_judged: bool = True
    picked_up: bool | None = None
    dropped: bool = False
    needs_pick: bool = False


@dataclass(frozen=True)
class EventFacts:
    """The properties of an event.

    Attributes:
        meaning: description of what happened.
        caption: caption of a picture of that moment; "" stands for the event's name.
    """

    meaning: str
    caption: str = ""


_CIRCLE = "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z"
_CROSS = "M-1 -.6L-.6 -1L0 -.4L.6 -1L1 -.6L.4 0L1 .6L.6 1L0 .4L-.6 1L-1 .6L-.4 0Z"
_TRIANGLE = "M-1.1 -.8H1.1L0 1.1Z"
_DIAMOND = "M0 -1.2L1.2 0L0 1.2L-1.2 0Z"
_SQUARE = "M-.9 -.9H.9V.9H-.9Z"
_PLUS = "M-.3 -1H.3V-.3H1V.3H.3V1H-.3V.3H-1V-.3H-.3Z"

# The order is that in which outcomes are listed and stacked.
OUTCOMES: dict[str, OutcomeFacts] = {
    Outcome.SUCCESS: OutcomeFacts("#0a8f6a", "#2fbf95", "", _CIRCLE, picked_up=True),
    Outcome.NEVER_PICKED_UP: OutcomeFacts(
        "#b5331f", "#e0604a", "N", _CROSS, picked_up=False, needs_pick=True
    ),
    Outcome.DROPPED_DURING_TRANSPORT: OutcomeFacts(
        "#cf7b00",
        "#f5b942",
        "D",
        _TRIANGLE,
        picked_up=True,
        dropped=True,
        needs_pick=True,
    ),
    Outcome.MISSED_GOAL: OutcomeFacts(
        "#5f35a8",
        "#8a63d2",
        "M",
        _DIAMOND,
        picked_up=True,
        dropped=True,
        needs_pick=True,
    ),
    # With a goal in which an object is picked up, it was carried, but not in time.
    Outcome.TIMEOUT: OutcomeFacts("#4a98e0", "#85c2fa", "T", _SQUARE, picked_up=True),
    # A crash of the environment or the policy is never a failure of the policy.
    Outcome.ERROR: OutcomeFacts("#2f353c", "#dfe4e9", "E", _SQUARE, is_judged=False),
}
UNKNOWN = "unknown"
_UNKNOWN_FACTS = OutcomeFacts("#77808a", "#8d97a2", "?", _PLUS)

EVENTS: dict[str, EventFacts] = {
    Event.SUCCESS: EventFacts("the task was done"),
    Event.LOST_GRASP: EventFacts("the object left a gripper that was commanded closed"),
    Event.LET_GO: EventFacts("the object left a gripper that was commanded open"),
    Event.CLOSED_ON_NOTHING: EventFacts(
        "the gripper had closed near the object and did not hold it"
    ),
    Event.NOT_LIFTED: EventFacts(
        "a grasp began that lasted to the end and never lifted the object"
    ),
    Event.NOT_RELEASED: EventFacts("the object came over the goal and was held there to the end"),
    Event.CLOSEST_APPROACH: EventFacts(
        "the gripper came as near as it ever did, and nothing followed"
    ),
    Event.NOT_PRESSED: EventFacts("the tool came to a marker, and never touched the surface there"),
    Event.LEFT_SURFACE: EventFacts("the tool left the surface for good while it was wiping"),
    Event.STALLED: EventFacts(
        "the object, the joint or the robot came as near to its goal as it ever did"
    ),
    Event.UNDONE: EventFacts("the goal had held, and did no more"),
    Event.END: EventFacts(
        "time was up while the episode was still getting on",
        caption="time was up",
    ),
    Event.ERROR: EventFacts("the environment or the policy crashed", caption="crashed"),
}


def find_facts(outcome: str) -> OutcomeFacts:
    """Return the properties of an outcome; those of an unknown one are mostly undefined."""
    return OUTCOMES.get(outcome, _UNKNOWN_FACTS)


def label_outcome(outcome: str) -> str:
    """Return an outcome in words, with a remark if it is not in the table."""
    words = outcome.replace("_", " ")
    return words if outcome in OUTCOMES else f"{words} (unknown to this version)"


def rank_outcome(outcome: str) -> int:
    """Return the place of an outcome in the order of the table; unknown ones come last."""
    return [*OUTCOMES, outcome].index(outcome)


def explain_event(event: str) -> str:
    """Return what an event means."""
    if event not in EVENTS:
        return "this version does not know what it means"
    return EVENTS[event].meaning


def caption_event(event: str) -> str:
    """Return the caption of a picture of the moment of an event."""
    caption = EVENTS[event].caption if event in EVENTS else ""
    return caption or event.replace("_", " ")
