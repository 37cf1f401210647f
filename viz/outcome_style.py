"""Style rules for outcomes, made from the table of outcomes, for the report and the viewer's page."""

from typing import Literal

from eval.outcome import OUTCOMES, UNKNOWN, OutcomeFacts, find_facts

_BLACK, _WHITE = "#000", "#fff"
# In the viewer these stand where an outcome would: an episode that runs, and the filter that lets
# all pass.
_NO_OUTCOMES = ("running", "all")


def name_class(outcome: str) -> str:
    """Return the CSS class of an outcome; one that this version does not know shares one with all such."""
    return outcome if outcome in OUTCOMES else UNKNOWN


def format_css_variables(theme: Literal["light", "dark"]) -> str:
    """Return declarations such as "--never_picked_up: #b5331f;", one for each class."""
    return " ".join(f"--{name}: {getattr(facts, theme)};" for name, facts in _list_classes())


def format_fill_rules() -> str:
    """Return rules that fill a shape whose class is an outcome."""
    return " ".join(f".{name} {{ fill: var(--{name}); }}" for name, _ in _list_classes())


def format_page_rules() -> str:
    """Return rules that give each element with a `data-outcome` its colour, and one that can be read on it."""
    left_out = ", ".join(f'[data-outcome="{name}"]' for name in _NO_OUTCOMES)
    selectors = {name: f'[data-outcome="{name}"]' for name in OUTCOMES}
    selectors[UNKNOWN] = f"[data-outcome]:where(:not({left_out}))"
    rules = []
    for theme, before in (("light", ""), ("dark", '[data-theme="dark"] ')):
        # What is unknown comes first: a rule for an outcome that is known overrides it.
        for name, facts in reversed(_list_classes()):
            colour = getattr(facts, theme)
            on_it = _choose_text_colour(colour)
            rules.append(
                f"{before}{selectors[name]} {{ --outcome: {colour}; --on-outcome: {on_it}; }}"
            )
    return "\n".join(rules)


def _list_classes() -> list[tuple[str, OutcomeFacts]]:
    return [
        *((str(name), facts) for name, facts in OUTCOMES.items()),
        (UNKNOWN, find_facts(UNKNOWN)),
    ]


def _choose_text_colour(colour: str) -> str:
    """Return black or white, whichever has the higher contrast to a colour (WCAG 2)."""
    luminance = _compute_luminance(colour)
    return _BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else _WHITE


def _compute_luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb" (WCAG 2), from 0 to 1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(
        weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )
