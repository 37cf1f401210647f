"""Sorts findings, and writes them for a terminal or as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from eval.doctor.finding import Finding, Level

# The worst first.
_STYLES = {
    Level.ERROR: "bold red",
    Level.WARNING: "yellow",
    Level.UNKNOWN: "",
    Level.OK: "green",
}
_VERDICTS = {
    Level.ERROR: "The number would be wrong",
    Level.WARNING: "The number may be wrong",
    Level.OK: "Nothing was found that would make the number wrong",
}


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, worst first.

    A check that found a problem does not also report that something is fine or unknown.
    """
    found = list(findings)
    with_problem = {finding.check for finding in found if finding.is_problem}
    kept = [f for f in found if f.is_problem or f.check not in with_problem]
    return sorted(kept, key=lambda finding: list(_STYLES).index(finding.level))


def worst_level(findings: Sequence[Finding]) -> Level:
    """Return ERROR or WARNING if there is such a finding, else OK."""
    problems = sort_findings(finding for finding in findings if finding.is_problem)
    return problems[0].level if problems else Level.OK


def print_findings(
    console: Console,
    title: str,
    findings: Sequence[Finding],
    *,
    shows_all: bool = False,
) -> None:
    """Print the problems in full, the names of what is unknown in one line, and the verdict.

    Args:
        shows_all: print every finding in full.
    """
    _print_line(console, title, "italic")
    for finding in findings:
        if shows_all or finding.is_problem:
            _print_finding(console, finding)
    console.print()
    unknown = _names_of(findings, Level.UNKNOWN)
    if unknown and not shows_all:
        _print_line(console, f"{len(unknown)} unknown: {', '.join(unknown)}")
    style = f"bold {_STYLES[worst_level(findings)]}"
    _print_line(console, format_verdict(findings), style)


def format_verdict(findings: Sequence[Finding]) -> str:
    """Return one line: the verdict, the names of the problems, and how many checks are fine."""
    parts = []
    for level in (Level.ERROR, Level.WARNING):
        n = _count(findings, level)
        if n:
            plural = "s" if n > 1 else ""
            parts.append(f"{n} {level}{plural} ({', '.join(_names_of(findings, level))})")
    parts.append(f"{_count(findings, Level.OK)} fine")
    return f"{_VERDICTS[worst_level(findings)]}: {', '.join(parts)}."


def to_json(findings: Sequence[Finding]) -> str:
    """Return the findings as a JSON list."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _print_finding(console: Console, finding: Finding) -> None:
    console.print()
    head = f"{finding.level}: {finding.check}: {finding.finding}"
    _print_line(console, head, _STYLES[finding.level])
    for label, text in (("evidence", finding.evidence), ("what to do", finding.hint)):
        if text:
            console.print(Padding(Text(f"{label}: {text}"), (0, 0, 0, 4)))


def _print_line(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, markup=False, highlight=False, style=style)


def _count(findings: Iterable[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def _names_of(findings: Iterable[Finding], level: Level) -> list[str]:
    return list(dict.fromkeys(finding.check for finding in findings if finding.level is level))
