"""Tests that tables and plots of scores show complete numbers and distinct names."""

import io
from dataclasses import replace
from math import nan
from unittest.mock import patch

import pytest
from matplotlib.figure import Figure
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


PARTS = ("all", *TASKS)


def rows_of(parts, **changes):
    return [replace(ROW, part=part, **changes) for part in parts]


def printed(rows, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_scores(console, rows, mutual_knn=True, cka=True)
    return console.file.getvalue()


@pytest.fixture
def drawn_text(tmp_path):
    """Return a function that draws rows and returns the legend and the ticks of each panel.

    They are those that matplotlib has when the figure is saved.
    """

    def draw(rows):
        with patch.object(Figure, "savefig", autospec=True) as save:
            save_plot(tmp_path / "plot.png", rows)
        figure = save.call_args.args[0]
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        ticks = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in figure.axes]
        return legend, ticks

    return draw


def test_no_number_is_cut_in_a_narrow_terminal():
    text = printed([ROW, *rows_of(TASKS, n=200_000)])
    assert "…" not in text
    for number in ("0.546", "-0.435..0.657", "0.106 (0.148)", "0.001", "0.517 (0.023)", "0.750"):
        assert text.count(number) == 4


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (PARTS, ["all", "task milk", "task bbq sauce", "task soup"]),
        (["task pick_place"], ["task pick_place"]),
    ],
)
def test_tasks_are_told_apart_by_the_words_that_they_do_not_share(parts, names):
    lines = printed(rows_of(parts), width=120).splitlines()
    assert [line.split("  ")[0].strip() for line in lines if " 214 " in line] == names


def test_a_note_of_many_parts_names_a_few():
    text = printed(rows_of(PARTS, notes=("15 rows are few",)))
    assert "  all, task milk, task bbq sauce and 1 more: 15 rows are few" in text


OTHER = {"bank": "other"}
OTHER_CHECKPOINT = {"bank": "other", "checkpoint": "act"}
ENCODER = {"hook_point": "model.encoder"}


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{}], ["act-early"]),
        ([{}, OTHER_CHECKPOINT], ["act-early", "act"]),
        ([{}, OTHER], ["run", "other"]),
        ([{}, ENCODER], ["embedding", "model.encoder"]),
        (
            [{}, ENCODER, OTHER_CHECKPOINT],
            ["act-early, embedding", "act-early, model.encoder", "act, embedding"],
        ),
        ([{"policy": "", "checkpoint": "", "hook_point": "features_a"}], ["run"]),
    ],
)
def test_lines_are_named_by_what_tells_them_apart(changes, labels, drawn_text):
    legend, ticks = drawn_text([replace(ROW, **change) for change in changes])
    assert legend == [*labels, "null: mean to 95th percentile"]
    if len(labels) > 1:
        assert ticks == [labels]


def test_a_plot_has_a_panel_for_each_question(drawn_text):
    rows = []
    for bank in ("one", "two"):
        for k in (5, 10):
            rows += rows_of(("all", "early", "late"), bank=bank, k=k)
    _, ticks = drawn_text(rows)
    assert ticks == [["5", "10"], ["one", "two"], ["all", "early", "late"]]


def test_what_is_not_defined_is_drawn_and_printed_as_nothing(tmp_path):
    undefined = dict.fromkeys(
        ("cknna", "low", "high", "null_mean", "null_high", "p_value"),
        nan,
    )
    rows = [replace(ROW, null="none", **undefined)]
    save_plot(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "nan" not in printed(rows)
