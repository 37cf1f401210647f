"""Tests that tables and plots of scores show complete numbers and distinct names."""

import io
from dataclasses import replace
from math import nan

import pytest
from rich.console import Console

from cknna.plots import save_plot
from cknna.report import ScoreRow
from cknna.tables import print_scores

ROW = ScoreRow(
    bank="run",
    policy="act",
    checkpoint="folder/act-early",
    hook_point="embedding",
    part="all",
    n=214,
    n_episodes=30,
    k=5,
    variant="unbiased",
    cknna=0.546,
    low=-0.435,
    high=0.657,
    mutual_knn=0.517,
    mutual_knn_chance=0.023,
    n_tied_a=0,
    n_tied_b=33,
    null="episodes",
    observed=0.546,
    null_mean=0.106,
    null_high=0.148,
    p_value=0.001,
    cka=0.75,
    notes=(),
)
TASKS = [
    f"task libero_object/pick_up_the_{name}_and_place_it_in_the_basket"
    for name in ("milk", "bbq_sauce", "soup")
]


def printed(rows, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_scores(console, rows, mutual_knn=True, cka=True)
    return console.file.getvalue()


def drawn_text(rows, tmp_path, monkeypatch):
    """Return ticks and legend of each panel, as matplotlib has them when the figure is saved."""
    from matplotlib.figure import Figure

    seen = []

    def keep(figure, *arguments, **named):
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        ticks = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in figure.axes]
        seen.append((texts, ticks))

    monkeypatch.setattr(Figure, "savefig", keep)
    monkeypatch.setattr(
        "cknna.plots.atomic_write",
        lambda path: (tmp_path / "plot").open("wb"),
    )
    save_plot(tmp_path / "plot.png", rows)
    return seen[0]


def test_no_number_is_cut_in_a_narrow_terminal():
    rows = [
        ROW,
        *(
            replace(
                ROW,
                part=part,
                n=200_000,
            )
            for part in TASKS
        ),
    ]
    assert "…" not in printed(rows)
    for number in ("0.546", "-0.435..0.657", "0.106 (0.148)", "0.001", "0.517 (0.023)", "0.750"):
        assert printed(rows).count(number) == 4


def test_tasks_are_told_apart_by_the_words_that_they_do_not_share():
    text = printed(
        [replace(ROW, part=part) for part in ("all", *TASKS)],
        width=120,
    )
    assert [line.split("  ")[0].strip() for line in text.splitlines() if " 214 " in line] == [
        "all",
        "task milk",
        "task bbq sauce",
        "task soup",
    ]
    (line,) = [
        line
        for line in printed(
            [replace(ROW, part="task pick_place")],
            width=120,
        ).splitlines()
        if " 214 " in line
    ]
    assert line.startswith(" task pick_place ")


def test_a_note_of_many_parts_names_a_few():
    rows = [
        replace(
            ROW,
            part=part,
            notes=("15 rows are few",),
        )
        for part in ("all", *TASKS)
    ]
    assert "  all, task milk, task bbq sauce and 1 more: 15 rows are few" in printed(rows)


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{}], ["act-early"]),
        (
            [
                {},
                {"bank": "other", "checkpoint": "act"},
            ],
            ["act-early", "act"],
        ),
        (
            [
                {},
                {"bank": "other"},
            ],
            ["run", "other"],
        ),
        (
            [
                {},
                {"hook_point": "model.encoder"},
            ],
            ["embedding", "model.encoder"],
        ),
        (
            [
                {},
                {"hook_point": "model.encoder"},
                {"bank": "other", "checkpoint": "act"},
            ],
            ["act-early, embedding", "act-early, model.encoder", "act, embedding"],
        ),
        (
            [
                {
                    "policy": "",
                    "checkpoint": "",
                    "hook_point": "features_a",
                }
            ],
            ["run"],
        ),
    ],
)
def test_lines_are_named_by_what_tells_them_apart(changes, labels, tmp_path, monkeypatch):
    legend, ticks = drawn_text(
        [replace(ROW, **change) for change in changes], tmp_path, monkeypatch
    )
    assert legend == [*labels, "null: mean to 95th percentile"]
    if len(labels) > 1:
        assert ticks == [labels]


def test_a_plot_has_a_panel_for_each_question(tmp_path, monkeypatch):
    rows = [
        replace(ROW, bank=bank, part=part, k=k)
        for bank in ("one", "two")
        for part in ("all", "early", "late")
        for k in (5, 10)
    ]
    _, ticks = drawn_text(rows, tmp_path, monkeypatch)
    assert ticks == [["5", "10"], ["one", "two"], ["all", "early", "late"]]


def test_what_is_not_defined_is_drawn_and_printed_as_nothing(tmp_path):
    rows = [
        replace(
            ROW,
            cknna=nan,
            low=nan,
            high=nan,
            null_mean=nan,
            null_high=nan,
            p_value=nan,
            null="none",
        )
    ]
    save_plot(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG") and "nan" not in printed(
        rows
    )
