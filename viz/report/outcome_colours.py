"""The colours of outcomes, which stay apart under deuteranopia.

In Machado's simulation of it (2009) each two colours of a theme differ by at least 25 in CIELAB (ΔE 1976), and each has
a contrast of at least 3:1 to the panel behind it.
"""

from eval.outcome import Outcome

LIGHT = {
    Outcome.SUCCESS: "#0a8f6a",
    Outcome.NEVER_PICKED_UP: "#b5331f",
    Outcome.DROPPED_DURING_TRANSPORT: "#cf7b00",
    Outcome.MISSED_GOAL: "#5f35a8",
    Outcome.TIMEOUT: "#4a98e0",
    Outcome.ERROR: "#2f353c",
}
DARK = {
    Outcome.SUCCESS: "#2fbf95",
    Outcome.NEVER_PICKED_UP: "#e0604a",
    Outcome.DROPPED_DURING_TRANSPORT: "#f5b942",
    Outcome.MISSED_GOAL: "#8a63d2",
    Outcome.TIMEOUT: "#85c2fa",
    Outcome.ERROR: "#dfe4e9",
}


def format_css_variables(colours: dict[Outcome, str]) -> str:
    """Return declarations such as "--never_picked_up: #b5331f;", one for each outcome."""
    return " ".join(f"--{outcome}: {colour};" for outcome, colour in colours.items())
