"""Writes the CSS rules of outcomes for the report and the viewer's page, from the outcome table."""

from typing import Literal

from eval.outcome import OUTCOMES, UNKNOWN, OutcomeFacts, find_facts

_BLACK = "#000"
_WHITE = "#fff"
# In the viewer these values of `data-outcome` mean a running episode, and the filter "all".
_NO_OUTCOMES = ("running", "all")


def name_class(outcome: str) -> str:
    """Return the CSS class of an outcome. All outcomes unknown to this version share one class."""
    return outcome if outcome in OUTCOMES else UNKNOWN


def format_css_variables(theme: Literal["light", "dark"]) -> str:
    """Return one declaration for each class, such as "--never_picked_up: #b5331f;"."""
    declarations = []
    for name, facts in _list_classes():
        colour = getattr(facts, theme)
        declarations.append(f"--{name}: {colour};")
    return " ".join(declarations)


def format_fill_rules() -> str:
    """Return rules that fill a shape whose class is an outcome."""
    rules = [f".{name} {{ fill: var(--{name}); }}" for name, _ in _list_classes()]
    return " ".join(rules)


def format_page_rules() -> str:
    """Return rules that give each element with `data-outcome` its colour and a text colour."""
    rules = []
    for theme, before in (("light", ""), ("dark", '[data-theme="dark"] ')):
        # The rule for unknown outcomes comes first, so that those for known ones override it.
        for name, facts in reversed(_list_classes()):
            selector = before + _select(name)
            colour = getattr(facts, theme)
            text_colour = _choose_text_colour(colour)
            rules.append(f"{selector} {{ --outcome: {colour}; --on-outcome: {text_colour}; }}")
    return "\n".join(rules)


def _list_classes() -> list[tuple[str, OutcomeFacts]]:
    classes = [(str(name), facts) for name, facts in OUTCOMES.items()]
    classes.append((UNKNOWN, find_facts(UNKNOWN)))
    return classes


def _select(name: str) -> str:
    """Return the selector of the elements with an outcome of that class."""
    if name == UNKNOWN:
        left_out = ", ".join(f'[data-outcome="{other}"]' for other in _NO_OUTCOMES)
        return f"[data-outcome]:where(:not({left_out}))"
    return f'[data-outcome="{name}"]'


def _choose_text_colour(colour: str) -> str:
    """Return black or white, whichever has the higher contrast to a colour (WCAG 2)."""
    luminance = _compute_luminance(colour)
    black_contrast = (luminance + 0.05) / 0.05
    white_contrast = 1.05 / (luminance + 0.05)
    return _BLACK if black_contrast > white_contrast else _WHITE


def _compute_luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb" (WCAG 2), from 0 to 1."""
    luminance = 0.0
    for hexadecimal, weight in (
        (colour[1:3], 0.2126),
        (colour[3:5], 0.7152),
        (colour[5:7], 0.0722),
    ):
        channel = int(hexadecimal, 16) / 255
        if channel <= 0.03928:
            linear = channel / 12.92
        else:
            linear = ((channel + 0.055) / 1.055) ** 2.4
        luminance += weight * linear
    return luminance
