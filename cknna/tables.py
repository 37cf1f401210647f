"""Scores for people: a table, JSON and a plot."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import isnan, nan
from os.path import commonprefix
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cknna.bank_description import AuditRow
from cknna.report import ALL, TASK, Comparison, ScoreRow
from sim.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIGNIFICANT = 0.05
_ROOMY = 90
# How many parts a note names.
_NAMED_PARTS = 3


def make_console() -> Console:
    """As wide as the terminal; wide enough for every table where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def print_scores(console: Console, rows: Sequence[ScoreRow], *, mutual_knn: bool, cka: bool) -> None:
    """A table for each bank and hook point, then what one must know to read it."""
    label = _label_parts(rows)
    for bank, hook_point in dict.fromkeys((row.bank, row.hook_point) for row in rows):
        of_bank = [row for row in rows if (row.bank, row.hook_point) == (bank, hook_point)]
        whose = f"{of_bank[0].policy} ({of_bank[0].checkpoint}), " if of_bank[0].policy else ""
        title = f"\n[bold]{escape(bank)}[/bold]: {escape(whose)}{hook_point}"
        console.print(title, highlight=False, soft_wrap=True)
        about = f"CKNNA ({of_bank[0].variant}) of L2-normalised rows; null: {of_bank[0].null} exchanged"
        console.print(f"{about}. It depends on n: compare each score with its own.", style="dim", soft_wrap=True)
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
            table.add_row(label[row.part], *cells, style="" if row.p_value < _SIGNIFICANT else "dim")
        console.print(table)
        for note, parts in _by_note(of_bank).items():
            where = ", ".join(label[part] for part in parts[:_NAMED_PARTS])
            more = f" and {len(parts) - _NAMED_PARTS} more" if len(parts) > _NAMED_PARTS else ""
            console.print(f"  {where}{more}: {note}", style="yellow", highlight=False, soft_wrap=True)


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
    """Scores with their intervals and nulls: of all rows by k, of each bank or hook point, and of each part."""
    from matplotlib.figure import Figure  # takes a second

    subjects = list(dict.fromkeys((row.bank, row.hook_point) for row in rows))
    of_subject = [[row for row in rows if (row.bank, row.hook_point) == subject] for subject in subjects]
    ks = sorted({row.k for row in rows if row.part == ALL})
    parts = list(dict.fromkeys(row.part for row in rows if row.k == rows[0].k))
    n = len(subjects)
    panels: list[tuple[Callable[..., None], float]] = []
    if len(ks) > 1 or n == 1:
        panels.append((_draw_by_k, 3.5))
    if n > 1:
        panels.append((_draw_by_subject, max(2.0, 0.7 * n)))
    if len(parts) > 1:
        panels.append((_draw_by_part, max(3.5, 0.35 * len(parts) * (n + 1))))
    widths = [width for _, width in panels]
    figure = Figure(figsize=(1 + sum(widths), 4.2), layout="constrained")
    all_axes = figure.subplots(1, len(widths), width_ratios=widths, sharey=True, squeeze=False)[0]
    labels = _label_subjects(rows, subjects)
    for axes, (draw, _) in zip(all_axes, panels, strict=True):
        draw(axes, of_subject, labels)
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    first = all_axes[0]
    first.set_ylabel(f"CKNNA ({rows[0].variant})")
    first.bar([0], [nan], color="0.75", label="null: mean to 95th percentile")
    figure.legend(*first.get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=4)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)


def _draw_by_k(axes: "Axes", of_subject: Sequence[Sequence[ScoreRow]], labels: Sequence[str]) -> None:
    for number, (of_one, label) in enumerate(zip(of_subject, labels, strict=True)):
        whole = [row for row in of_one if row.part == ALL]
        # Side by side, for the intervals to be seen.
        shift = 0.02 * whole[-1].k * (number - (len(labels) - 1) / 2)
        _draw(axes, [row.k + shift for row in whole], whole, number, label=label, line="-")
    axes.set(xlabel="k", title="all rows", xticks=[row.k for row in whole])


def _draw_by_subject(axes: "Axes", of_subject: Sequence[Sequence[ScoreRow]], labels: Sequence[str]) -> None:
    axes.plot([of_one[0].cknna for of_one in of_subject], color="0.7", linewidth=1, zorder=0)
    for number, (of_one, label) in enumerate(zip(of_subject, labels, strict=True)):
        _draw(axes, [number], [of_one[0]], number, label=label)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set(title=f"all rows, k = {of_subject[0][0].k}", xlim=(-0.5, len(labels) - 0.5))


def _draw_by_part(axes: "Axes", of_subject: Sequence[Sequence[ScoreRow]], labels: Sequence[str]) -> None:
    k = of_subject[0][0].k
    named = _label_parts([row for of_one in of_subject for row in of_one if row.k == k])
    place = {part: number for number, part in enumerate(named)}
    for number, of_one in enumerate(of_subject):
        drawn = [row for row in of_one if row.k == k]
        shift = 0.8 * (number + 0.5) / len(labels) - 0.4
        _draw(axes, [place[row.part] + shift for row in drawn], drawn, number)
    axes.set_xticks(range(len(named)), list(named.values()), rotation=30, ha="right")
    axes.set(title=f"parts, k = {k}", xlim=(-0.5, len(named) - 0.5))


def _label_subjects(rows: Sequence[ScoreRow], subjects: Sequence[tuple[str, str]]) -> list[str]:
    """By what tells them apart: the checkpoint if each bank has another, else the bank; and the hook point."""
    checkpoint = {row.bank: PurePath(row.checkpoint).name for row in rows}
    tells_banks = all(checkpoint.values()) and len(set(checkpoint.values())) == len(checkpoint)
    hook_points = {hook_point for _, hook_point in subjects}
    if len(checkpoint) == 1 and len(hook_points) > 1:
        return [hook_point for _, hook_point in subjects]
    return [
        ", ".join([checkpoint[bank] if tells_banks else bank] + [hook_point] * (len(hook_points) > 1))
        for bank, hook_point in subjects
    ]


def _draw(
    axes: "Axes", x: Sequence[float | int], rows: Sequence[ScoreRow], number: int, *, label: str = "", line: str = ""
) -> None:
    colour = f"C{number % 10}"
    below, above = [row.cknna - row.low for row in rows], [row.high - row.cknna for row in rows]
    score = [row.cknna for row in rows]
    axes.errorbar(x, score, yerr=[below, above], fmt=f"o{line}", color=colour, capsize=3, markersize=5, label=label)
    for place, row in zip(x, rows, strict=True):
        axes.plot([place, place], [row.null_mean, row.null_high], color=colour, alpha=0.35, linewidth=7, zorder=0)


def _label_parts(rows: Sequence[ScoreRow]) -> dict[str, str]:
    """Part → its name; of tasks the words that not all of them begin or end with."""
    parts = list(dict.fromkeys(row.part for row in rows))
    words = {part: part.removeprefix(TASK).split("_") for part in parts if part.startswith(TASK)}
    if len(words) == 1:
        words = {}
    n_first = len(commonprefix(list(words.values())))
    n_last = len(commonprefix([each[n_first:][::-1] for each in words.values()]))
    short = {part: TASK + " ".join(each[n_first : len(each) - n_last]) for part, each in words.items()}
    return {part: short.get(part, part) for part in parts}


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
