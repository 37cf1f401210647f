"""Plots scores, each with its interval and its null."""

from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from cknna.report import ALL, ScoreRow, group_by_subject
from cknna.subsets import label_subsets
from sim.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The rows of each bank and hook point.
type _Groups = Sequence[Sequence[ScoreRow]]
type _DrawPanel = Callable[["Axes", _Groups, Sequence[str]], None]


def save_plot(path: Path, rows: Sequence[ScoreRow]) -> None:
    """Save a plot of scores with their intervals and nulls.

    There are up to three panels: all rows by k, all rows by bank or hook point, and each subset.
    """
    from matplotlib.figure import Figure  # importing it takes a second

    rows_of = group_by_subject(rows)
    groups = list(rows_of.values())
    panels = _choose_panels(rows, len(groups))
    widths = [width for _, width in panels]
    figure = Figure(figsize=(1 + sum(widths), 4.2), layout="constrained")
    (all_axes,) = figure.subplots(
        ncols=len(widths),
        width_ratios=widths,
        sharey=True,
        squeeze=False,
    )
    labels = _label_subjects(rows, list(rows_of))
    for axes, (draw, _) in zip(all_axes, panels, strict=True):
        draw(axes, groups, labels)
        axes.axhline(
            0,
            color="0.8",
            linewidth=0.8,
            zorder=0,
        )
        axes.spines[["top", "right"]].set_visible(False)
    first = all_axes[0]
    row = rows[0]
    first.set_ylabel(f"CKNNA ({row.variant}) against {row.against}")
    first.bar(
        [0],
        [nan],
        color="0.75",
        label="null: mean to 95th percentile",
    )
    figure.legend(
        *first.get_legend_handles_labels(),
        loc="outside upper center",
        frameon=False,
        ncols=4,
    )
    with atomic_write(path) as unfinished:
        figure.savefig(
            unfinished,
            format="png",
            dpi=150,
        )


def _choose_panels(rows: Sequence[ScoreRow], n_subjects: int) -> list[tuple[_DrawPanel, float]]:
    """Return the panels that have something to compare, with their widths in inches."""
    ks = {row.k for row in rows if row.part == ALL}
    n_subsets = len({row.part for row in rows if row.k == rows[0].k})
    panels: list[tuple[_DrawPanel, float]] = []
    if len(ks) > 1 or n_subjects == 1:
        panels.append((_draw_by_k, 3.5))
    if n_subjects > 1:
        panels.append((_draw_by_subject, max(2.0, 0.7 * n_subjects)))
    if n_subsets > 1:
        panels.append((_draw_by_subset, max(3.5, 0.35 * n_subsets * (n_subjects + 1))))
    return panels


def _draw_by_k(
    axes: "Axes",
    groups: _Groups,
    labels: Sequence[str],
) -> None:
    middle = (len(labels) - 1) / 2
    for number, (group, label) in enumerate(zip(groups, labels, strict=True)):
        whole = [row for row in group if row.part == ALL]
        ks = [row.k for row in whole]
        # The points stand side by side, so that their intervals do not overlap.
        shift = 0.02 * ks[-1] * (number - middle)
        _draw(
            axes,
            [k + shift for k in ks],
            whole,
            number,
            label=label,
            line="-",
        )
    axes.set(
        xlabel="k",
        title="all rows",
        xticks=ks,
    )


def _draw_by_subject(
    axes: "Axes",
    groups: _Groups,
    labels: Sequence[str],
) -> None:
    first_rows = [group[0] for group in groups]
    axes.plot(
        [row.cknna for row in first_rows],
        color="0.7",
        linewidth=1,
        zorder=0,
    )
    for number, (row, label) in enumerate(zip(first_rows, labels, strict=True)):
        _draw(
            axes,
            [number],
            [row],
            number,
            label=label,
        )
    _name_places(axes, labels, f"all rows, k = {first_rows[0].k}")


def _draw_by_subset(
    axes: "Axes",
    groups: _Groups,
    labels: Sequence[str],
) -> None:
    k = groups[0][0].k
    of_k = [[row for row in group if row.k == k] for group in groups]
    subset_labels = label_subsets(row.part for group in of_k for row in group)
    places = list(subset_labels)
    for number, group in enumerate(of_k):
        shift = 0.8 * (number + 0.5) / len(labels) - 0.4
        _draw(axes, [places.index(row.part) + shift for row in group], group, number)
    _name_places(axes, list(subset_labels.values()), f"parts, k = {k}")


def _name_places(
    axes: "Axes",
    labels: Sequence[str],
    title: str,
) -> None:
    axes.set_xticks(
        range(len(labels)),
        labels,
        rotation=30,
        ha="right",
    )
    axes.set_title(title)
    axes.set_xlim(-0.5, len(labels) - 0.5)


def _label_subjects(
    rows: Sequence[ScoreRow],
    subjects: Sequence[tuple[str, str]],
) -> list[str]:
    """Label each bank and hook point by what tells it from the others.

    A bank is called by its checkpoint if every bank has another one.
    """
    bank_labels = {row.bank: PurePath(row.checkpoint).name for row in rows}
    distinct = set(bank_labels.values())
    if "" in distinct or len(distinct) < len(bank_labels):
        bank_labels = {bank: bank for bank in bank_labels}
    if len({hook_point for _, hook_point in subjects}) == 1:
        return [bank_labels[bank] for bank, _ in subjects]
    if len(bank_labels) == 1:
        return [hook_point for _, hook_point in subjects]
    return [f"{bank_labels[bank]}, {hook_point}" for bank, hook_point in subjects]


def _draw(
    axes: "Axes",
    x: Sequence[float | int],
    rows: Sequence[ScoreRow],
    number: int,
    *,
    label: str = "",
    line: str = "",
) -> None:
    """Draw scores with their intervals, and a bar from the mean to the top of each null."""
    colour = f"C{number % 10}"
    below = [row.cknna - row.low for row in rows]
    above = [row.high - row.cknna for row in rows]
    axes.errorbar(
        x,
        [row.cknna for row in rows],
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
