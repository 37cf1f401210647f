"""Prints scores as tables, and saves them as JSON for other programs."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cknna.bank_description import AuditRow
from cknna.features import name_first
from cknna.report import Comparison, ScoreRow, group_by_subject
from cknna.subsets import label_subsets
from sim.files import atomic_write

_SIGNIFICANT = 0.05
# Consoles of at least this width have a gap between columns.
_ROOMY = 90
_WIDTH_WITHOUT_TERMINAL = 120
# Number of subsets that a note names.
_NAMED_SUBSETS = 3


def make_console() -> Console:
    """Make a console as wide as the terminal, or wide enough for every table without one."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH_WITHOUT_TERMINAL)


def print_scores(
    console: Console,
    rows: Sequence[ScoreRow],
    *,
    mutual_knn: bool,
    cka: bool,
) -> None:
    """Print a table for each bank and hook point, followed by the notes on its scores."""
    labels = label_subsets(row.part for row in rows)
    columns = _COLUMNS
    if mutual_knn:
        columns = columns | _MUTUAL_KNN
    if cka:
        columns = columns | _CKA
    for of_bank in group_by_subject(rows).values():
        _print_heading(console, of_bank[0])
        # Only the column of subsets may wrap.
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, int(console.width >= _ROOMY), 0, 0),
            pad_edge=False,
        )
        table.add_column("rows", max_width=40)
        for heading, (min_width, _) in columns.items():
            table.add_column(
                heading,
                justify="right",
                no_wrap=True,
                min_width=min_width,
            )
        for row in of_bank:
            cells = [write(row) for _, write in columns.values()]
            table.add_row(
                labels[row.part], *cells, style="" if row.p_value < _SIGNIFICANT else "dim"
            )
        console.print(table)
        _print_notes(console, of_bank, labels)


def _print_heading(console: Console, row: ScoreRow) -> None:
    bank = escape(row.bank)
    policy = f"{row.policy} ({row.checkpoint}), " if row.policy else ""
    console.print(
        f"\n[bold]{bank}[/bold]: {escape(policy)}{row.hook_point}",
        highlight=False,
        soft_wrap=True,
    )
    for line in (
        f"CKNNA ({row.variant}) of L2-normalised rows against {row.against}; null: {row.null} "
        "exchanged. It depends on n: compare each score with its own null.",
        "95 %: jackknife over episodes, conservative (covers 97 to 100 %).",
    ):
        console.print(
            line,
            style="dim",
            soft_wrap=True,
        )


def _print_notes(
    console: Console,
    rows: Sequence[ScoreRow],
    labels: dict[str, str],
) -> None:
    subsets_of: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            of_note = subsets_of.setdefault(note, [])
            if row.part not in of_note:
                of_note.append(row.part)
    for note, subsets in subsets_of.items():
        console.print(
            f"  {name_first([labels[subset] for subset in subsets], _NAMED_SUBSETS)}: {note}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print the paired differences of two banks' scores, one a line."""
    for comparison in comparisons:
        difference = comparison.test.difference
        subject = f"{comparison.first} less {comparison.second}, k = {comparison.k}"
        interval = f"({_number(difference.low)} to {_number(difference.high)})"
        console.print(
            f"{subject}: {_number(difference.value)} {interval}, "
            f"p = {_number(comparison.test.p_value)}, "
            f"paired over {difference.n_episodes} episodes",
            highlight=False,
            soft_wrap=True,
        )


def print_audit(console: Console, rows: Sequence[AuditRow]) -> None:
    """Print a table for each point that is hooked."""
    for row in rows:
        table = Table(
            title=row.name,
            title_justify="left",
            box=box.SIMPLE,
            show_header=False,
            pad_edge=False,
        )
        for name, value in asdict(row).items():
            if name == "name" or value in ("", ()):
                continue
            values = value if isinstance(value, tuple) else (value,)
            table.add_row(name.replace("_", " "), ", ".join(map(str, values)))
        console.print(table)


def save_json(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Save a list of rows. JSON has no nan, so undefined numbers become null."""
    # Of all values only nan differs from itself.
    content = [
        {name: value if value == value else None for name, value in asdict(row).items()}
        for row in rows
    ]
    text = json.dumps(
        content,
        indent=1,
        allow_nan=False,
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


# Heading → the smallest width of the column, and its cell.
_COLUMNS: dict[str, tuple[int, Callable[[ScoreRow], str]]] = {
    "n": (3, lambda row: str(row.n)),
    "k": (2, lambda row: str(row.k)),
    "score": (5, lambda row: _number(row.cknna)),
    "95 %": (12, lambda row: "-" if isnan(row.low) else f"{row.low:.3f}..{row.high:.3f}"),
    "null (95 %)": (13, lambda row: f"{_number(row.null_mean)} ({_number(row.null_high)})"),
    "p": (5, lambda row: _number(row.p_value)),
}
_MUTUAL_KNN = {
    "mutual kNN\n(chance)": (
        13,
        lambda row: f"{_number(row.mutual_knn)} ({_number(row.mutual_knn_chance)})",
    )
}
_CKA = {"CKA": (5, lambda row: _number(row.cka))}
