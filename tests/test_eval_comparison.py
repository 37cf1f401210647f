"""Tests of the comparison of runs.

The tests check which episodes are paired, how unpaired ones are reported, and which comparisons are
refused.
"""

import json
import shlex
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from eval import compare_cli
from eval.comparison import compare
from eval.config import EvalConfig
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import make_row
from eval.outcome import Outcome
from eval.paired_statistics import PairedCounts
from eval.plan_quality_means import PLAN_QUALITY_FILE
from eval.run import Run
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.runs import describe_run
from viz import plan_quality

S = Outcome.SUCCESS
F = Outcome.NEVER_PICKED_UP
D = Outcome.DROPPED_DURING_TRANSPORT
E = Outcome.ERROR
# Of ten episodes, both succeed in 4, only the first in 4, only the second in 1 and neither in 1.
FIRST = [S] * 8 + [F, F]
SECOND = [S] * 4 + [F, F, D, D, S, F]


@pytest.fixture
def make_run(tmp_path, blind_env):
    """Return a function that makes a run with the given outcomes and returns its folder."""

    def make(
        outcomes,
        policy="random",
        folder=tmp_path,
        first=0,
        n_asked=None,
        description=None,
        **config,
    ):
        n = n_asked or len(outcomes)
        config = make_config(
            EvalConfig,
            policy=policy,
            episodes=n,
            first_episode=first,
            **config,
        )
        described = describe_run(
            blind_env, policy, config=config, max_steps=config.rollout.max_steps or 300
        )
        described = replace(described, **(description or {}))
        with closing(RunFolder.create(folder, described)) as run:
            for task in described.tasks:
                for index, outcome in enumerate(outcomes, start=first):
                    record = EpisodeRecord(
                        task, index, outcome is S, "boom" if outcome is E else "", 0.1, None
                    )
                    row = make_row(record)
                    run.append(
                        record,
                        replace(
                            row,
                            outcome=outcome,
                            n_steps=100 + index,
                            decisive_step=7,
                        ),
                    )
            return run.path

    return make


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(
            sys,
            "argv",
            ["eval-compare", *map(str, arguments)],
        )
        code = compare_cli.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_episodes_are_paired_by_task_and_index(make_run):
    compared = compare(
        [
            make_run(FIRST),
            make_run(SECOND, "zero"),
        ]
    )
    (pair,) = compared.comparisons.values()
    assert pair.counts == PairedCounts(
        both=4,
        only_first=4,
        only_second=1,
        neither=1,
    )
    assert pair.difference == pytest.approx(0.3) and pair.p == stats.binomtest(1, 5).pvalue
    ended = [(one.episode_index, one.success) for one, _ in pair.differing]
    assert ended == [
        (4, True),
        (5, True),
        (6, True),
        (7, True),
        (8, False),
    ]
    outcomes = pair.count_outcomes()
    assert set(outcomes) == {S, F, D} and outcomes[D] == PairedCounts(0, 0, 2, 8)
    assert outcomes[F] == PairedCounts(1, 1, 2, 6)


def test_steps_are_of_episodes_that_both_solve_with_students_interval(make_run):
    paths = make_run(FIRST), make_run(SECOND, "zero", first=0)
    rows = (paths[1] / "episodes.jsonl").read_text().splitlines()
    longer = [json.loads(row) for row in rows]
    for row, more in zip(longer, (3, 9, 4, 20, 0, 0, 0, 0, 0, 0), strict=True):
        row["n_steps"] += more
    (paths[1] / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in longer))
    (pair,) = compare(paths).comparisons.values()
    steps = pair.compare_steps()
    expected = stats.ttest_1samp([-3, -9, -4, -20], 0).confidence_interval()
    assert (
        steps.n == 4 and steps.difference == -9 and steps.interval == pytest.approx(tuple(expected))
    )


def test_what_has_no_partner_crashed_or_is_missing_is_said(make_run):
    first = make_run([S] * 8 + [E, S])
    second = make_run(
        [S, E, F, F, F],
        "zero",
        first=4,
        n_asked=9,
    )
    compared = compare([first, second])
    (pair,) = compared.comparisons.values()
    assert sorted(pair.shared) == [("pick_place", index) for index in (4, 6, 7)]
    said = "\n".join(compared.remarks)
    assert "random: 1 crashed (pick_place 8)" in said and "zero: 1 crashed (pick_place 5)" in said
    assert "zero is unfinished: 5 of 9 episodes have ended" in said
    assert (
        "6 episodes of random have no partner (6 succeed)" in said and "1 episodes of zero" in said
    )


def test_tasks_are_strata(make_run, command):
    tasks = {"a/pick": "suite/0", "a/place": "suite/1"}
    paths = (
        make_run(FIRST, description={"tasks": tasks}),
        make_run(SECOND, "zero", description={"tasks": tasks}),
    )
    (pair,) = compare(paths).comparisons.values()
    assert (
        list(pair.tasks) == list(tasks)
        and pair.counts.n == 20
        and pair.difference == pytest.approx(0.3)
    )
    code, out, _ = command(*paths, "--all")
    assert code == 0 and "20 shared episodes of 2 tasks, each counting alike" in out
    commands = [
        line.partition(": uv run ")[2] for line in out.splitlines() if "uv run whiskers" in line
    ]
    assert len(commands) == 10
    name, path, *flags = shlex.split(commands[0])
    assert (
        name == "whiskers"
        and path == str(paths[1])
        and flags == ["--episode", "4", "--task", "a/pick"]
    )


DIFFERENT = {
    "environment": {"description": {"tasks": {"pick_place": "so101/pick_place_brick"}}},
    "max_steps": {"max_steps": 200},
    "control": {"control": "absolute"},
    "init states": {"description": {"tasks": {"pick_place": "so101/pick_place@/demos.hdf5"}}},
    "version of mujoco": {"description": {"versions": {"mujoco": "3.4.0"}}},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_other_worlds_are_refused_with_the_field_that_differs(make_run, what):
    first = make_run(
        FIRST,
        description={"versions": {"mujoco": "3.3.2"}},
    )
    second = make_run(SECOND, "zero", **DIFFERENT[what])
    with pytest.raises(WhiskerError, match=what) as caught:
        compare([first, second])
    assert not [
        other for other in DIFFERENT if other != what and f"other {other}" in str(caught.value)
    ]


def test_models_are_compared_by_content_where_it_is_known(make_run):
    def with_model(path, sha256, policy="random"):
        tasks = {"pick_place": f"so101/pick_place@{path}"}
        return make_run(
            FIRST,
            policy,
            description={"tasks": tasks, "scene_sha256": sha256},
        )

    compare(
        [
            with_model("/a.xml", "1"),
            with_model("/b.xml", "1", "zero"),
        ]
    )
    with pytest.raises(WhiskerError, match="init states or model: SHA-256 \\(1 and 2\\)"):
        compare(
            [
                with_model("/a.xml", "1"),
                with_model("/a.xml", "2", "zero"),
            ]
        )


def test_runs_that_are_no_two_are_refused(make_run, tmp_path):
    run = make_run(FIRST)
    empty = make_run([], "zero", n_asked=3)
    for paths, said in (
        ([run, run], "expected each run to be named once"),
        ([run], "expected two runs or more"),
        ([], "expected two runs or more"),
        ([run, empty], "expected finished episodes, got none"),
        ([run, tmp_path / "none"], "expected a run folder"),
        ([run, make_run(SECOND, "zero", first=50)], "expected episodes that both have judged"),
        ([run, make_run([E] * 10, "zero")], "expected episodes that both have judged"),
    ):
        with pytest.raises(WhiskerError, match=said):
            compare(paths)


def test_a_folder_stands_for_the_runs_in_it_that_fit(make_run, tmp_path):
    first = make_run(FIRST)
    folder = tmp_path / "sweep"
    make_run(SECOND, "zero", folder=folder)
    make_run(
        FIRST,
        folder=folder,
        description={"tasks": {"other": "so101/other"}},
    )
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    compared = compare([first, folder])
    assert [run.name for run in compared.runs] == ["random", "zero"]
    left_out = [remark for remark in compared.remarks if remark.startswith("Left out")]
    assert len(left_out) == 2 and any("environment" in remark for remark in left_out)
    assert len(compare([first, tmp_path]).runs) == 2, "a run that is named and found is one"


def test_several_runs_are_corrected_by_holm_and_lettered(make_run, tmp_path):
    n = 40
    rates = (38, 36, 10)
    paths = [
        make_run([S] * k + [F] * (n - k), p)
        for k, p in zip(rates, ("random", "zero", "scripted"), strict=True)
    ]
    compared = compare(paths)
    assert [compared.letters[index] for index in range(3)] == [
        "a",
        "a",
        "b",
    ] and compared.ranking == [0, 1, 2]
    p = {key: pair.p for key, pair in compared.comparisons.items()}
    order = sorted(p, key=lambda key: p[key])
    expected = np.minimum(
        1, np.maximum.accumulate([p[key] * (3 - k) for k, key in enumerate(order)])
    )
    assert [compared.comparisons[key].corrected_p for key in order] == pytest.approx(list(expected))


def test_the_verdict_is_one_sentence(make_run, command):
    code, out, _ = command(make_run([S] * 9 + [F]), make_run([F] * 10, "zero"))
    assert code == 0 and "random is better than zero (difference 90 points, " in out
    _, out, _ = command(make_run(FIRST), make_run(SECOND, "zero"))
    assert (
        "These 10 shared episodes cannot tell random and zero apart (difference 30 points, " in out
    )
    assert "To see a difference of 10 points with 80 % power takes about 381 more." in out


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([S], [S]),
        ([S], [F]),
        ([S] * 9, [S] * 9),
        ([F] * 9, [F] * 9),
    ],
)
def test_one_episode_and_all_or_none_are_judged_like_others(make_run, command, first, second):
    code, out, _ = command(make_run(first), make_run(second, "zero"))
    assert code == 0 and "cannot tell random and zero apart" in out and "nan" not in out


def test_the_gate_fails_on_what_is_worse_beyond_doubt(make_run, command):
    good = make_run([S] * 30)
    bad = make_run([F] * 30, "zero")
    tie = make_run([S] * 29 + [F], "scripted")
    assert command(good, bad, "--fail-if-worse", "0.05")[0] == 1
    assert command(bad, good, "--fail-if-worse", "0.05")[0] == 0
    code, out, _ = command(good, tie, "--fail-if-worse", "0.05")
    assert code == 0 and "not ruled out" in out
    code, _, err = command(
        good,
        make_run([S], "scripted", n_asked=9),
        "--fail-if-worse",
        "0.05",
    )
    assert code == 2 and "expected a finished run, got one that lacks 8 episodes" in err


def test_json_says_what_the_tables_say(make_run, command):
    code, out, _ = command(make_run(FIRST), make_run(SECOND, "zero"), "--json")
    content = json.loads(out)
    (pair,) = content["comparisons"]
    assert code == 0 and (
        pair["both"],
        pair["only_first"],
        pair["only_second"],
        pair["neither"],
    ) == (4, 4, 1, 1)
    assert (
        pair["better"] is None
        and pair["steps_to_success"]["n"] == 4
        and len(pair["differing_episodes"]) == 5
    )
    assert content["runs"][0]["interval_method"] == "clopper-pearson"


def test_plan_quality_is_compared_where_both_runs_have_it(make_run, command):
    assert PLAN_QUALITY_FILE == plan_quality.PLAN_QUALITY_FILE
    paths = make_run(FIRST), make_run(SECOND, "zero")
    for path, length in zip(paths, (1.0, 3.0), strict=True):
        rows = [
            {
                "kind": "episode",
                "task": row.task,
                "episode_index": row.episode_index,
                "path_length_m": length,
            }
            for row in Run.open(path).rows
        ]
        (path / PLAN_QUALITY_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = json.loads(command(*paths, "--json")[1])
    measured = content["comparisons"][0]["plan_quality"]["path_length_m"]
    assert measured["n"] == 10 and (
        measured["first"],
        measured["second"],
        measured["difference"],
    ) == (1, 3, -2)


def test_sizes_before_any_run(command):
    code, out, _ = command("--power", "0.8", "0.9", "--correlation", "0.3")
    assert code == 0 and "199 each" in out and "correlation 0.3: 146 (158 by" in out
    for arguments in (
        ("--correlation", "0.3"),
        ("--power", "0.8", "0.8"),
        ("runs", "--power", "0.8", "0.9"),
    ):
        assert command(*arguments)[0] == 2
