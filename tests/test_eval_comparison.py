"""Tests of the comparison of runs.

The tests check which episodes are paired, how unpaired ones are reported, and which comparisons are
refused.
"""

import json
import re
import shlex
from contextlib import closing
from dataclasses import replace
from functools import partial

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
        outcomes, policy="random", folder=tmp_path, first=0, n_asked=None, flags=None, **facts
    ):
        """Make a run with these flags; `facts` replace fields of its description."""
        n = n_asked or len(outcomes)
        asked = {
            "policy": policy,
            "episodes": n,
            "first_episode": first,
        }
        config = make_config(EvalConfig, **asked, **(flags or {}))
        max_steps = config.rollout.max_steps or 300
        described = describe_run(
            blind_env,
            policy,
            config=config,
            max_steps=max_steps,
        )
        described = replace(described, **facts)
        with closing(RunFolder.create(folder, described)) as run:
            for task in described.tasks:
                for index, outcome in enumerate(outcomes, start=first):
                    error = "boom" if outcome is E else ""
                    record = EpisodeRecord(
                        task,
                        index,
                        outcome is S,
                        error,
                        0.1,
                        None,
                    )
                    ended = {
                        "outcome": outcome,
                        "n_steps": 100 + index,
                        "decisive_step": 7,
                    }
                    run.append(
                        record,
                        replace(make_row(record), **ended),
                    )
            return run.path

    return make


@pytest.fixture
def two_runs(make_run):
    return make_run(FIRST), make_run(SECOND, "zero")


@pytest.fixture
def command(run_here):
    return partial(run_here, compare_cli.main)


@pytest.fixture
def printed(command):
    """Return a function that runs the command, which must exit with 0, and returns its output."""

    def run(*arguments):
        done = command(*arguments)
        assert done.returncode == 0, done
        return done.stdout

    return run


def compare_two(paths):
    (pair,) = compare(paths).comparisons.values()
    return pair


def edit_rows(path, edit):
    """Change every row of the run; `edit(row)` changes the row's dictionary."""
    rows = [json.loads(line) for line in (path / "episodes.jsonl").read_text().splitlines()]
    for row in rows:
        edit(row)
    (path / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_episodes_are_paired_by_task_and_index(two_runs):
    pair = compare_two(two_runs)
    assert pair.counts == PairedCounts(
        both=4,
        only_first=4,
        only_second=1,
        neither=1,
    )
    assert pair.difference == pytest.approx(0.3)
    assert pair.p == stats.binomtest(1, 5).pvalue
    ended = {one.episode_index: one.success for one, _ in pair.differing}
    assert ended == {4: True, 5: True, 6: True, 7: True, 8: False}
    outcomes = pair.count_outcomes()
    assert set(outcomes) == {S, F, D}
    assert outcomes[D] == PairedCounts(0, 0, 2, 8)
    assert outcomes[F] == PairedCounts(1, 1, 2, 6)


def test_steps_are_of_episodes_that_both_solve_with_students_interval(two_runs):
    more = [3, 9, 4, 20]

    def take_longer(row):
        if row["episode_index"] < len(more):
            row["n_steps"] += more[row["episode_index"]]

    edit_rows(two_runs[1], take_longer)
    steps = compare_two(two_runs).compare_steps()
    expected = stats.ttest_1samp(np.negative(more), 0).confidence_interval()
    assert steps.n == 4
    assert steps.difference == -9
    assert steps.interval == pytest.approx(tuple(expected))


def test_what_has_no_partner_crashed_or_is_missing_is_said(make_run):
    first = make_run([S] * 8 + [E, S])
    second = make_run([S, E, F, F, F], "zero", first=4, n_asked=9)
    compared = compare([first, second])
    (pair,) = compared.comparisons.values()
    assert sorted(pair.shared) == [("pick_place", index) for index in (4, 6, 7)]
    remarks = "\n".join(compared.remarks)
    for said in (
        "random: 1 crashed (pick_place 8)",
        "zero: 1 crashed (pick_place 5)",
        "zero is unfinished: 5 of 9 episodes have ended",
        "6 episodes of random have no partner (6 succeed)",
        "1 episodes of zero",
    ):
        assert said in remarks


def test_tasks_are_strata(make_run, printed):
    tasks = {"a/pick": "suite/0", "a/place": "suite/1"}
    first = make_run(FIRST, tasks=tasks)
    second = make_run(SECOND, "zero", tasks=tasks)
    pair = compare_two([first, second])
    assert list(pair.tasks) == list(tasks)
    assert pair.counts.n == 20
    assert pair.difference == pytest.approx(0.3)
    said = printed(first, second, "--all")
    assert "20 shared episodes of 2 tasks, each counting alike" in said
    advised = re.findall(": uv run (whiskers .*)", said)
    assert len(advised) == 10
    advised = shlex.split(advised[0])
    assert advised == [
        "whiskers",
        str(second),
        "--episode",
        "4",
        "--task",
        "a/pick",
    ]


DIFFERENT = {
    "environment": {"tasks": {"pick_place": "so101/pick_place_brick"}},
    "max_steps": {"flags": {"max_steps": 200}},
    "control": {"flags": {"control": "absolute"}},
    "init states": {"tasks": {"pick_place": "so101/pick_place@/demos.hdf5"}},
    "version of mujoco": {"versions": {"mujoco": "3.4.0"}},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_other_worlds_are_refused_with_the_field_that_differs(make_run, what):
    first = make_run(FIRST, versions={"mujoco": "3.3.2"})
    second = make_run(SECOND, "zero", **DIFFERENT[what])
    with pytest.raises(WhiskerError, match=what) as caught:
        compare([first, second])
    for other in DIFFERENT.keys() - {what}:
        assert f"other {other}" not in str(caught.value)


def test_a_family_declares_the_packages_whose_versions_must_be_equal(make_run):
    def in_simpler(policy, **versions):
        tasks = {"simpler/stack_cube": "simpler/stack_cube"}
        return make_run(FIRST, policy, tasks=tasks, versions=versions)

    first = in_simpler("random", sapien="3.0.3", numpy="2.2.0")
    compare([first, in_simpler("zero", sapien="3.0.3", numpy="2.3.0")])
    with pytest.raises(WhiskerError, match=r"version of sapien \(3.0.3 and 3.1.0\)"):
        compare([first, in_simpler("zero", sapien="3.1.0", numpy="2.2.0")])


def test_models_are_compared_by_content_where_it_is_known(make_run):
    def with_model(path, sha256, policy="random"):
        tasks = {"pick_place": f"so101/pick_place@{path}"}
        return make_run(
            FIRST,
            policy,
            tasks=tasks,
            scene_sha256=sha256,
        )

    compare([with_model("/a.xml", "1"), with_model("/b.xml", "1", "zero")])
    with pytest.raises(
        WhiskerError,
        match=r"init states or model: SHA-256 \(1 and 2\)",
    ):
        compare([with_model("/a.xml", "1"), with_model("/a.xml", "2", "zero")])


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
    make_run(SECOND, "zero", folder)
    make_run(
        FIRST,
        folder=folder,
        tasks={"other": "so101/other"},
    )
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    compared = compare([first, folder])
    assert [run.name for run in compared.runs] == ["random", "zero"]
    left_out = [remark for remark in compared.remarks if remark.startswith("Left out")]
    assert len(left_out) == 2
    assert any("environment" in remark for remark in left_out)
    assert len(compare([first, tmp_path]).runs) == 2, "a run that is named and found is one"


def test_several_runs_are_corrected_by_holm_and_lettered(make_run):
    rates = {"random": 38, "zero": 36, "scripted": 10}
    compared = compare([make_run([S] * k + [F] * (40 - k), p) for p, k in rates.items()])
    assert compared.letters == {0: "a", 1: "a", 2: "b"}
    assert compared.ranking == [0, 1, 2]
    pairs = sorted(
        compared.comparisons.values(),
        key=lambda pair: pair.p,
    )
    expected = np.maximum.accumulate([pair.p * (3 - k) for k, pair in enumerate(pairs)])
    corrected = [pair.corrected_p for pair in pairs]
    assert corrected == pytest.approx(np.minimum(1, expected).tolist())


def test_the_verdict_is_one_sentence(make_run, two_runs, printed):
    said = printed(
        make_run([S] * 9 + [F]),
        make_run([F] * 10, "zero"),
    )
    assert "random is better than zero (difference 90 points, " in said
    said = printed(*two_runs)
    unclear = "These 10 shared episodes cannot tell random and zero apart (difference 30 points, "
    assert unclear in said
    assert "To see a difference of 10 points with 80 % power takes about 381 more." in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([S], [S]),
        ([S], [F]),
        ([S] * 9, [S] * 9),
        ([F] * 9, [F] * 9),
    ],
)
def test_one_episode_and_all_or_none_are_judged_like_others(make_run, printed, first, second):
    said = printed(make_run(first), make_run(second, "zero"))
    assert "cannot tell random and zero apart" in said
    assert "nan" not in said


def test_the_gate_fails_on_what_is_worse_beyond_doubt(make_run, command):
    gate = partial(command, "--fail-if-worse 0.05")
    good = make_run([S] * 30)
    bad = make_run([F] * 30, "zero")
    assert gate(good, bad).returncode == 1
    assert gate(bad, good).returncode == 0
    tie = gate(good, make_run([S] * 29 + [F], "scripted"))
    assert tie.returncode == 0
    assert "not ruled out" in tie.stdout
    refused = gate(good, make_run([S], "scripted", n_asked=9))
    assert refused.returncode == 2
    assert "expected a finished run, got one that lacks 8 episodes" in refused.stderr


def test_json_says_what_the_tables_say(two_runs, printed):
    content = json.loads(printed(*two_runs, "--json"))
    (pair,) = content["comparisons"]
    counts = {
        "both": 4,
        "only_first": 4,
        "only_second": 1,
        "neither": 1,
    }
    assert pair.items() >= (counts | {"better": None}).items()
    assert pair["steps_to_success"]["n"] == 4
    assert len(pair["differing_episodes"]) == 5
    assert content["runs"][0]["interval_method"] == "clopper-pearson"


def test_plan_quality_is_compared_where_both_runs_have_it(two_runs, printed):
    assert PLAN_QUALITY_FILE == plan_quality.PLAN_QUALITY_FILE
    for path, length in zip(two_runs, (1.0, 3.0), strict=True):
        with (path / PLAN_QUALITY_FILE).open("w") as file:
            for row in Run.open(path).rows:
                measured = {
                    "kind": "episode",
                    "task": row.task,
                    "path_length_m": length,
                }
                print(
                    json.dumps(measured | {"episode_index": row.episode_index}),
                    file=file,
                )
    content = json.loads(printed(*two_runs, "--json"))
    measured = content["comparisons"][0]["plan_quality"]["path_length_m"]
    assert (
        measured.items()
        >= {
            "n": 10,
            "first": 1,
            "second": 3,
            "difference": -2,
        }.items()
    )


def test_sizes_before_any_run(printed):
    said = printed("--power 0.8 0.9 --correlation 0.3")
    assert "199 each" in said
    assert "correlation 0.3: 146 (158 by" in said


@pytest.mark.parametrize(
    "arguments", ["--correlation 0.3", "--power 0.8 0.8", "runs --power 0.8 0.9"]
)
def test_sizes_of_nothing_are_refused(command, arguments):
    assert command(arguments).returncode == 2
