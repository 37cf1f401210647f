"""The outcomes of episodes and the events that decided them: one table each, which everything else reads.

Statistics, colours, filters, legends, reports and pages know an outcome by its line in `OUTCOMES`
alone, and an event by its line in `EVENTS`: a new one is added here. A row of a newer version's run
may have one that is not in its table. It is then called unknown, shown in a colour of its own, and
counted apart.
"""

from dataclasses import dataclass
from enum import StrEnum

# The version of the rules that make the outcomes. Rows that other rules made are not comparable, so
# `run.json` says which made them. Rules 1 took a single moment of contact for a grasp and 5 cm for
# a pick-up, and had no decisive step.
OUTCOME_RULES = 2


class Outcome(StrEnum):
    """Names the outcomes that the rules of this version give."""

    SUCCESS = "success"
    NEVER_PICKED_UP = "never_picked_up"
    DROPPED_DURING_TRANSPORT = "dropped_during_transport"
    MISSED_GOAL = "missed_goal"
    TIMEOUT = "timeout"
    ERROR = "error"


class Event(StrEnum):
    """Names the events at decisive steps that the rules of this version give."""

    SUCCESS = "success"
    LOST_GRASP = "lost_grasp"
    LET_GO = "let_go"
    CLOSED_ON_NOTHING = "closed_on_nothing"
    NOT_LIFTED = "not_lifted"
    NOT_RELEASED = "not_released"
    CLOSEST_APPROACH = "closest_approach"
    STALLED = "stalled"
    UNDONE = "undone"
    END = "end"
    ERROR = "error"


@dataclass(frozen=True)
class OutcomeFacts:
    """All that is known of an outcome.

    Colours stay apart under deuteranopia: in Machado's simulation of it (2009) each two of a theme
    differ by at least 25 in CIELAB (ΔE 1976), and each has a contrast of at least 3:1 to the panel
    behind it.

    Attributes:
        light, dark: its colour in the two themes.
        letter: stands in a cell of its colour, for those who do not see colours.
        mark: its mark on a map as an SVG path, in a square from -1 to 1.
        is_judged: the episode ran to its end. What did not is in no rate.
        picked_up: with a goal of pick and place, the object was picked up; None: not known.
        dropped: with a goal of pick and place, the object came down where it should not.
    """

    light: str
    dark: str
    letter: str
    mark: str
    is_judged: bool = True
    picked_up: bool | None = None
    dropped: bool = False


@dataclass(frozen=True)
class EventFacts:
    """All that is known of an event.

    Attributes:
        meaning: says what happened.
        caption: stands below a picture of that moment; "": the event's name does.
    """

    meaning: str
    caption: str = ""


_CIRCLE = "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z"
_CROSS = "M-1 -.6L-.6 -1L0 -.4L.6 -1L1 -.6L.4 0L1 .6L.6 1L0 .4L-.6 1L-1 .6L-.4 0Z"
_TRIANGLE = "M-1.1 -.8H1.1L0 1.1Z"
_DIAMOND = "M0 -1.2L1.2 0L0 1.2L-1.2 0Z"
_SQUARE = "M-.9 -.9H.9V.9H-.9Z"
_PLUS = "M-.3 -1H.3V-.3H1V.3H.3V1H-.3V.3H-1V-.3H-.3Z"

# In the order in which they are listed and stacked.
OUTCOMES: dict[str, OutcomeFacts] = {
    Outcome.SUCCESS: OutcomeFacts("#0a8f6a", "#2fbf95", "", _CIRCLE, picked_up=True),
    Outcome.NEVER_PICKED_UP: OutcomeFacts("#b5331f", "#e0604a", "N", _CROSS, picked_up=False),
    Outcome.DROPPED_DURING_TRANSPORT: OutcomeFacts(
        "#cf7b00", "#f5b942", "D", _TRIANGLE, picked_up=True, dropped=True
    ),
    Outcome.MISSED_GOAL: OutcomeFacts(
        "#5f35a8", "#8a63d2", "M", _DIAMOND, picked_up=True, dropped=True
    ),
    # With a goal of pick and place it is given to what was carried and not brought to its end in
    # time.
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
    Event.STALLED: EventFacts(
        "the object, the joint or the robot came as near to its goal as it ever did"
    ),
    Event.UNDONE: EventFacts("the goal had held, and did no more"),
    Event.END: EventFacts(
        "time was up while the episode was still getting on", caption="time was up"
    ),
    Event.ERROR: EventFacts("the environment or the policy crashed", caption="crashed"),
}


def find_facts(outcome: str) -> OutcomeFacts:
    """Return what is known of an outcome; of one that is not in the table, next to nothing."""
    return OUTCOMES.get(outcome, _UNKNOWN_FACTS)


def label_outcome(outcome: str) -> str:
    """Return an outcome in words; one that is not in the table says so."""
    words = outcome.replace("_", " ")
    return words if outcome in OUTCOMES else f"{words} (unknown to this version)"


def rank_outcome(outcome: str) -> int:
    """Return the place of an outcome in the order of the table; what is unknown comes last."""
    return list(OUTCOMES).index(outcome) if outcome in OUTCOMES else len(OUTCOMES)


def explain_event(event: str) -> str:
    """Return what an event means."""
    return EVENTS[event].meaning if event in EVENTS else "this version does not know what it means"


def caption_event(event: str) -> str:
    """Return what stands below a picture of the moment of an event."""
    return (EVENTS[event].caption if event in EVENTS else "") or event.replace("_", " ")
