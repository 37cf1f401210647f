"""Scores for people, and for other programs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cknna.bank_description import AuditRow
from cknna.parts import label_parts
from cknna.report import Comparison, ScoreRow
from sim.files import atomic_write

_SIGNIFICANT = 0.05
_ROOMY = 90
# How many parts a note names.
_NAMED_PARTS = 3


def make_console() -> Console:
    """As wide as the terminal; wide enough for every table where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def print_scores(
    console: Console, rows: Sequence[ScoreRow], *, mutual_knn: bool, cka: bool
) -> None:
    """A table for each bank and hook point, then what one must know to read it."""
    label = label_parts(row.part for row in rows)
    for bank, hook_point in dict.fromkeys((row.bank, row.hook_point) for row in rows):
        of_bank = [row for row in rows if (row.bank, row.hook_point) == (bank, hook_point)]
        whose = f"{of_bank[0].policy} ({of_bank[0].checkpoint}), " if of_bank[0].policy else ""
        title = f"\n[bold]{escape(bank)}[/bold]: {escape(whose)}{hook_point}"
        console.print(title, highlight=False, soft_wrap=True)
        about = f"CKNNA ({of_bank[0].variant}) of L2-normalised rows against {of_bank[0].against}"
        about += f"; null: {of_bank[0].null} exchanged"
        console.print(
            f"{about}. It depends on n: compare each score with its own.",
            style="dim",
            soft_wrap=True,
        )
        console.print(
            "95 %: jackknife over episodes, conservative (covers 97 to 100 %).",
            style="dim",
            soft_wrap=True,
        )
        gap = 1 if console.width >= _ROOMY else 0
        table = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False)
        table.add_column("rows", max_width=40)  # the only one that may wrap
        heads = {"n": 3, "k": 2, "score": 5, "95 %": 12, "null (95 %)": 13, "p": 5}
        heads |= {"mutual kNN\n(chance)": 13} if mutual_knn else {}
        heads |= {"CKA": 5} if cka else {}
        for head, width in heads.items():
            table.add_column(head, justify="right", no_wrap=True, min_width=width)
        for row in of_bank:
            cells = [str(row.n), str(row.k), _number(row.cknna), _interval(row)]
            cells += [f"{_number(row.null_mean)} ({_number(row.null_high)})", _number(row.p_value)]
            cells += [f"{_number(row.mutual_knn)} ({_number(row.mutual_knn_chance)})"] * mutual_knn
            cells += [_number(row.cka)] * cka
            table.add_row(
                label[row.part], *cells, style="" if row.p_value < _SIGNIFICANT else "dim"
            )
        console.print(table)
        for note, parts in _by_note(of_bank).items():
            where = ", ".join(label[part] for part in parts[:_NAMED_PARTS])
            more = f" and {len(parts) - _NAMED_PARTS} more" if len(parts) > _NAMED_PARTS else ""
            console.print(
                f"  {where}{more}: {note}", style="yellow", highlight=False, soft_wrap=True
            )


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        difference, p_value = comparison.test.difference, comparison.test.p_value
        console.print(
            f"{comparison.first} less {comparison.second}, k = {comparison.k}: {_number(difference.value)} "
            f"({_number(difference.low)} to {_number(difference.high)}), p = {_number(p_value)}, paired over "
            f"{difference.n_episodes} episodes",
            highlight=False,
            soft_wrap=True,
        )


def print_audit(console: Console, rows: Sequence[AuditRow]) -> None:
    for row in rows:
        table = Table(
            title=row.name, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False
        )
        for name, value in asdict(row).items():
            if name != "name" and value not in ("", ()):
                shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                table.add_row(name.replace("_", " "), shown)
        console.print(table)


def save_json(path: Path, rows: Sequence[ScoreRow]) -> None:
    """A list of rows. JSON has no nan: what is not defined is null."""
    content = [{name: _json(value) for name, value in asdict(row).items()} for row in rows]
    with atomic_write(path) as unfinished:
        unfinished.write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def _by_note(rows: Sequence[ScoreRow]) -> dict[str, list[str]]:
    """note → the parts that it is about."""
    where: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            where.setdefault(note, []).append(row.part)
    return {note: list(dict.fromkeys(parts)) for note, parts in where.items()}


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _interval(row: ScoreRow) -> str:
    return "-" if isnan(row.low) else f"{row.low:.3f}..{row.high:.3f}"


def _json(value: object) -> object:
    return None if isinstance(value, float) and isnan(value) else value
