"""Scores as a picture: each with its interval, and the null that it must be read against."""

from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from cknna.parts import label_parts
from cknna.report import ALL, ScoreRow
from sim.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_plot(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Scores with their intervals and nulls: of all rows by k, of each bank or hook point, and of each part."""
    from matplotlib.figure import Figure  # takes a second

    subjects = list(dict.fromkeys((row.bank, row.hook_point) for row in rows))
    of_subject = [
        [row for row in rows if (row.bank, row.hook_point) == subject] for subject in subjects
    ]
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
    first.set_ylabel(f"CKNNA ({rows[0].variant}) against {rows[0].against}")
    first.bar([0], [nan], color="0.75", label="null: mean to 95th percentile")
    figure.legend(
        *first.get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=4
    )
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)


def _draw_by_k(
    axes: "Axes", of_subject: Sequence[Sequence[ScoreRow]], labels: Sequence[str]
) -> None:
    for number, (of_one, label) in enumerate(zip(of_subject, labels, strict=True)):
        whole = [row for row in of_one if row.part == ALL]
        # Side by side, for the intervals to be seen.
        shift = 0.02 * whole[-1].k * (number - (len(labels) - 1) / 2)
        _draw(axes, [row.k + shift for row in whole], whole, number, label=label, line="-")
    axes.set(xlabel="k", title="all rows", xticks=[row.k for row in whole])


def _draw_by_subject(
    axes: "Axes", of_subject: Sequence[Sequence[ScoreRow]], labels: Sequence[str]
) -> None:
    axes.plot([of_one[0].cknna for of_one in of_subject], color="0.7", linewidth=1, zorder=0)
    for number, (of_one, label) in enumerate(zip(of_subject, labels, strict=True)):
        _draw(axes, [number], [of_one[0]], number, label=label)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set(title=f"all rows, k = {of_subject[0][0].k}", xlim=(-0.5, len(labels) - 0.5))


def _draw_by_part(
    axes: "Axes", of_subject: Sequence[Sequence[ScoreRow]], labels: Sequence[str]
) -> None:
    k = of_subject[0][0].k
    named = label_parts(row.part for of_one in of_subject for row in of_one if row.k == k)
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
        ", ".join(
            [checkpoint[bank] if tells_banks else bank] + [hook_point] * (len(hook_points) > 1)
        )
        for bank, hook_point in subjects
    ]


def _draw(
    axes: "Axes",
    x: Sequence[float | int],
    rows: Sequence[ScoreRow],
    number: int,
    *,
    label: str = "",
    line: str = "",
) -> None:
    colour = f"C{number % 10}"
    below, above = [row.cknna - row.low for row in rows], [row.high - row.cknna for row in rows]
    score = [row.cknna for row in rows]
    axes.errorbar(
        x,
        score,
        yerr=[below, above],
        fmt=f"o{line}",
        color=colour,
        capsize=3,
        markersize=5,
        label=label,
    )
    for place, row in zip(x, rows, strict=True):
        axes.plot(
            [place, place],
            [row.null_mean, row.null_high],
            color=colour,
            alpha=0.35,
            linewidth=7,
            zorder=0,
        )
