"""Scores for people: a table, JSON and a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from cknna.bank_description import AuditRow
from cknna.report import ALL, Comparison, ScoreRow
from sim.files import written_whole

_SIGNIFICANT = 0.05


def print_scores(console: Console, rows: Sequence[ScoreRow], *, mutual_knn: bool, cka: bool) -> None:
    """A table for each bank and hook point, then what one must know to read it."""
    for bank, hook_point in dict.fromkeys((row.bank, row.hook_point) for row in rows):
        of_bank = [row for row in rows if (row.bank, row.hook_point) == (bank, hook_point)]
        console.print(f"\n[bold]{bank}[/bold], {hook_point}: CKNNA ({of_bank[0].variant}), L2-normalised rows")
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("rows", max_width=22, overflow="ellipsis", no_wrap=True)
        heads = ["n", "k", "score", "95 %", "null", "null 95 %", "p"]
        heads += ["mutual (chance)"] * mutual_knn + ["CKA"] * cka
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for row in of_bank:
            cells = [str(row.n), str(row.k), _number(row.cknna), _interval(row)]
            cells += [_number(row.null_mean), _number(row.null_high), _p_value(row.p_value)]
            cells += [f"{_number(row.mutual_knn)} ({_number(row.mutual_knn_chance)})"] * mutual_knn
            cells += [_number(row.cka)] * cka
            table.add_row(row.part, *cells, style="" if row.p_value < _SIGNIFICANT else "dim")
        console.print(table)
        for note, where in _by_note(of_bank).items():
            console.print(f"  {where}: {note}", style="yellow", highlight=False)


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        difference, p_value = comparison.test.difference, comparison.test.p_value
        console.print(
            f"{comparison.first} less {comparison.second}, k = {comparison.k}: {_number(difference.value)} "
            f"({_number(difference.low)} to {_number(difference.high)}), p = {_p_value(p_value)}, paired over "
            f"{difference.n_episodes} episodes",
            highlight=False,
        )


def print_audit(console: Console, rows: Sequence[AuditRow]) -> None:
    for row in rows:
        table = Table(title=row.name, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
        for name, value in asdict(row).items():
            if name != "name" and value not in ("", ()):
                shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                table.add_row(name.replace("_", " "), shown)
        console.print(table)


def save_json(path: Path, rows: Sequence[ScoreRow]) -> None:
    """A list of rows. JSON has no nan: what is not defined is null."""
    content = [{name: _json(value) for name, value in asdict(row).items()} for row in rows]
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def save_plot(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Left: all rows by k, with interval and null. Right: each part, at the first k."""
    from matplotlib.figure import Figure  # takes a second

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by_k, by_part = figure.subplots(1, 2, width_ratios=(1, 1.2))
    subjects = list(dict.fromkeys((row.bank, row.hook_point) for row in rows))
    for number, subject in enumerate(subjects):
        of_subject = [row for row in rows if (row.bank, row.hook_point) == subject]
        colour = f"C{number}"
        whole = [row for row in of_subject if row.part == ALL]
        name = subject[0] if len({bank for bank, _ in subjects}) == len(subjects) else ", ".join(subject)
        _draw_points(by_k, [float(row.k) for row in whole], whole, colour, name)
        k = whole[0].k
        parts = [row for row in of_subject if row.k == k]
        shift = 0.8 * (number + 0.5) / len(subjects) - 0.4
        _draw_points(by_part, [place + shift for place in range(len(parts))], parts, colour, name, joined=False)
        by_part.set_xticks(range(len(parts)), [row.part for row in parts], rotation=30, ha="right")
        by_part.set_title(f"of each part, k = {k}")
    by_k.set_xlabel("k")
    by_k.set_ylabel(f"CKNNA ({rows[0].variant})")
    by_k.set_title("all rows; bars: null, up to its 95th percentile")
    figure.legend(*by_k.get_legend_handles_labels(), loc="outside upper center", frameon=False)
    for axes in (by_k, by_part):
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)


def _draw_points(
    axes, x: Sequence[float], rows: Sequence[ScoreRow], colour: str, name: str, joined: bool = True
) -> None:
    score = [row.cknna for row in rows]
    below, above = [row.cknna - row.low for row in rows], [row.high - row.cknna for row in rows]
    line = "-o" if joined else "o"
    axes.errorbar(x, score, yerr=[below, above], fmt=line, color=colour, capsize=3, markersize=5, label=name)
    for place, row in zip(x, rows, strict=True):
        axes.plot([place, place], [row.null_mean, row.null_high], color=colour, alpha=0.3, linewidth=7, zorder=0)


def _by_note(rows: Sequence[ScoreRow]) -> dict[str, str]:
    """note → where it applies."""
    where: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            where.setdefault(note, []).append(row.part)
    return {note: ", ".join(dict.fromkeys(parts)) for note, parts in where.items()}


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _interval(row: ScoreRow) -> str:
    return "-" if isnan(row.low) else f"{row.low:.3f}..{row.high:.3f}"


def _p_value(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _json(value: object) -> object:
    return None if isinstance(value, float) and isnan(value) else value
