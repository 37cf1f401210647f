"""Tests of `eval-sweep`: its points, its folder, racing, and what it refuses."""

import json
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest

from eval import sweep_cli
from eval.config import EvalConfig
from eval.episode_row import ROWS_FILE
from eval.racing import N_IN_A_ROUND, find_beaten
from eval.run import Run
from eval.sweep import find_training_step, list_checkpoints, load_sweep
from eval.sweep_arguments import parse_points, split_arguments
from eval.sweep_result import read_points
from sim.errors import WhiskerError
from tests.runs import rewrite_outcomes
from viz.report.sweep_page import place_points

SHORT = ("--policy", "zero", "random", "scripted", "--max-steps", 3, "--no-doctor")


@pytest.fixture
def sweep_here(monkeypatch, capsys):
    """Return a function that runs `eval-sweep` in this process."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["eval-sweep", *map(str, arguments)])
        code = sweep_cli.main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return run


@pytest.fixture
def points(sweep_here, tmp_path):
    """Return the folder of a finished sweep of three points with four episodes each."""
    done = sweep_here(*SHORT, "--episodes", 4, "--run-dir", tmp_path / "runs")
    assert done.returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_rows_of_a_point_are_those_of_eval_alone(sweep_here, eval_here, small_act, tmp_path):
    """The second point uses the policy and the environment that the first one loaded."""
    flags = ("--checkpoint", small_act, "--episodes", 2, "--max-steps", 4, "--no-doctor")
    swept = sweep_here(
        *flags,
        "--n-action-steps",
        1,
        2,
        "--run-dir",
        tmp_path / "runs",
    )
    alone = eval_here(*flags, "--n-action-steps", 2, "--run-dir", tmp_path / "alone")
    assert swept.returncode == alone.returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    (alone,) = (tmp_path / "alone").iterdir()
    run = load_sweep(folder).find_runs(folder)[1]
    for row, other in zip(run.rows, Run.open(alone).rows, strict=True):
        assert row.to_json() | {"duration_s": 0} == other.to_json() | {"duration_s": 0}
        np.testing.assert_array_equal(
            run.load_array(row, "chunk"), Run.open(alone).load_array(row, "chunk")
        )
    assert run.description.config.rollout.n_action_steps == 2


def test_a_sweep_that_was_cut_off_is_finished(points, sweep_here):
    first, second, third = load_sweep(points).find_runs(points).values()
    shutil.rmtree(third.path)
    lines = (second.path / ROWS_FILE).read_text().splitlines(keepends=True)
    (second.path / ROWS_FILE).write_text("".join(lines[:1]))
    written = (first.path / ROWS_FILE).stat().st_mtime_ns
    assert sweep_here("--resume", points).returncode == 0
    runs = load_sweep(points).find_runs(points)
    assert [len(runs[index].rows) for index in range(3)] == [4, 4, 4]
    assert (first.path / ROWS_FILE).stat().st_mtime_ns == written


class Links(HTMLParser):
    """Collects the addresses that a page links to."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def handle_starttag(self, tag, attrs):
        self.found |= {value for name, value in attrs if tag == "a" and name == "href"}


def test_each_point_of_the_curve_opens_the_report_of_its_run(points):
    links = Links()
    links.feed((points / "sweep.html").read_text())
    runs = load_sweep(points).find_runs(points).values()
    assert links.found == {f"{run.path.name}/report.html" for run in runs}
    assert all((points / link).is_file() for link in links.found)


@pytest.mark.slow
def test_points_are_compared_with_the_best(sweep_here, tmp_path):
    flags = ("--episodes", 12, "--run-dir", tmp_path / "runs")
    assert sweep_here(*SHORT, *flags).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    sweep = load_sweep(folder)
    runs = sweep.find_runs(folder)
    rewrite_outcomes(runs[1].path, "success")
    rewrite_outcomes(runs[2].path, "success", n_rows=10)
    standings = {point.label: point.standing for point in read_points(folder, sweep).values()}
    assert standings == {"zero": "worse", "random": "best", "scripted": "like the best"}


def test_points_of_other_lengths_are_not_compared(sweep_here, tmp_path):
    flags = ("--policy", "zero", "--no-doctor", "--horizon", 2, 3, "--episodes", 2)
    done = sweep_here(*flags, "--run-dir", tmp_path / "runs")
    assert done.returncode == 0
    assert "their episodes do not begin and end alike" in done.stdout


def test_a_point_is_left_out_once_another_is_clearly_better(points):
    """The bar is 20 (k - 1): with three points, nine episodes are enough and eight are not."""
    runs = load_sweep(points).find_runs(points)
    for n_episodes, is_beaten in ((8, False), (9, True)):
        for index, run in runs.items():
            rows = [json.loads((run.path / ROWS_FILE).read_text().splitlines()[0])] * n_episodes
            lines = [json.dumps(row | {"episode_index": k}) for k, row in enumerate(rows)]
            (run.path / ROWS_FILE).write_text("\n".join(lines) + "\n")
            rewrite_outcomes(run.path, "success" if index == 0 else "never_picked_up")
        beaten = find_beaten(runs, len(runs))
        assert set(beaten) == ({1, 2} if is_beaten else set())
    assert beaten[1].against == str(runs[0].path.resolve()) and beaten[1].n_shared == 9


@pytest.mark.slow
def test_racing_ends_undecided_after_all_episodes(sweep_here, tmp_path):
    n_episodes = N_IN_A_ROUND + 2
    flags = ("--episodes", n_episodes, "--best-by", "racing", "--run-dir", tmp_path / "runs")
    done = sweep_here(*SHORT, *flags)
    assert done.returncode == 0
    assert f"Racing ran {3 * n_episodes} of {3 * n_episodes} episodes" in done.stdout


@pytest.mark.slow
def test_the_doctor_looks_at_a_point_once_though_racing_comes_back(sweep_here, small_act, tmp_path):
    flags = ("--checkpoint", small_act, "--max-steps", 2, "--no-doctor", "--best-by", "racing")
    several = ("--n-action-steps", 1, 2, "--episodes", N_IN_A_ROUND + 1)
    done = sweep_here(*flags, *several, "--run-dir", tmp_path / "runs")
    assert done.returncode == 0
    said = Counter(line for line in done.stderr.splitlines() if line.startswith("eval: "))
    horizon = [line for line in said if "warning: horizon" in line]
    assert [said[line] for line in horizon] == [2]
    assert max(said.values()) == 2
    (folder,) = (tmp_path / "runs").iterdir()
    for run in load_sweep(folder).find_runs(folder).values():
        assert len(run.rows) == N_IN_A_ROUND + 1
        kept = {f"eval: {finding.level}: {finding}" for finding in run.description.doctor}
        assert kept <= said.keys()


def test_a_point_that_cannot_run_does_not_stop_the_others(sweep_here, small_act, tmp_path):
    (tmp_path / "empty").mkdir()
    flags = ("--checkpoints", small_act, tmp_path / "empty", "--episodes", 1, "--max-steps", 2)
    done = sweep_here(*flags, "--no-doctor", "--run-dir", tmp_path / "runs")
    assert done.returncode == 3
    assert "Could not run: " in done.stdout and "1 of 1" not in done.stdout
    assert "eval-sweep: " in done.stderr and "Traceback" not in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert set(read_points(folder, load_sweep(folder))) == {0}


def test_checkpoints_of_a_training_are_listed_once_and_in_order(tmp_path):
    for step in ("020000", "000500", "003000"):
        (tmp_path / "checkpoints" / step / "pretrained_model").mkdir(parents=True)
    (tmp_path / "checkpoints" / "last").symlink_to("020000")
    listed = list_checkpoints([str(tmp_path / "checkpoints")])
    assert [find_training_step(name) for name in listed] == ["500", "3000", "20000"]
    assert list_checkpoints([str(tmp_path)]) == listed
    last = str(tmp_path / "checkpoints" / "last" / "pretrained_model")
    assert list_checkpoints([str(tmp_path), last]) == listed


def test_the_flag_with_several_values_is_swept():
    words = ["--policy", "act", "--horizon=9", "--n-action-steps", "1", "5", "--resume", "x"]
    own, of_eval = split_arguments(words)
    assert own == ["--resume", "x"]
    flag, configs = parse_points(of_eval, [])
    assert flag == "n_action_steps"
    assert [config.rollout.n_action_steps for config in configs] == [1, 5]
    assert {type(config) for config in configs} == {EvalConfig}
    assert {(config.policy.name, config.rollout.max_steps) for config in configs} == {("act", 9)}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--policy", "act"], "expected one flag with several values, got none"),
        (["--policy", "act", "--gripper-range", "0", "1"], "got none"),
        (["--episodes", "1", "2", "--n-action-steps", "1", "2"], "--episodes, --n-action-steps"),
        (["--checkpoints", "act"], "expected two checkpoints or more"),
        (["--resume", "nowhere"], "expected a folder with a sweep.json"),
        (["--resume", "nowhere", "--episodes", "3"], "expected no other flag"),
        (["--policy.path", "x", "y"], "--checkpoint in place of --policy.path"),
    ],
)
def test_what_is_no_sweep_is_refused(sweep_here, flags, said):
    refused = sweep_here(*flags)
    assert refused.returncode == 2 and said in refused.stderr


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (["1", "2", "5"], [0, 0.25, 1]),
        (["1", "10", "100"], [0, 0.5, 1]),
        (["act", "act-early", "other"], [0, 0.5, 1]),
        (["7"], [0.5]),
    ],
)
def test_points_are_placed_to_scale(labels, places):
    assert place_points(labels) == pytest.approx(places)


def test_list_checkpoints_refuses_a_folder_of_one_step(tmp_path):
    (tmp_path / "checkpoints" / "000500").mkdir(parents=True)
    with pytest.raises(WhiskerError, match="two checkpoints or more"):
        list_checkpoints([str(tmp_path)])
