"""Tests of runs over several tasks.

They register SO-101 environments as a suite.
"""

import json
from contextlib import closing
from dataclasses import asdict, replace

import imageio.v3 as iio
import numpy as np
import pytest

from eval.cli import main, main_doctor
from eval.config import EvalConfig, SubjectConfig
from eval.episode_loop import evaluate
from eval.episode_row import load_rows
from eval.evaluation import set_up
from eval.preflight import check_alike
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path, video_path
from sim import registry
from sim.errors import WhiskerError
from sim.families import EnvFamily
from sim.flags import make_config
from sim.goals.goal import SUCCESS_ONLY
from sim.so101.end_effector import EndEffectorPickPlace
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE
from tests.runs import rewrite_outcomes
from viz.episode_film import EpisodeFilm
from viz.video import VideoConfig, film_run

SUITE = "so101_scenes"
ELSEWHERE = replace(DEFAULT_SCENE, name="elsewhere")
FEW_EPISODES = 3


class Counted(PickPlace):
    """An environment that counts how many of its class are open."""

    opened: list[str] = []  # noqa: RUF012
    most_at_once = 0

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        Counted.opened.append(self.spec.task)
        Counted.most_at_once = max(Counted.most_at_once, len(Counted.opened))

    def close(self):
        super().close()
        if self.spec.task in Counted.opened:
            Counted.opened.remove(self.spec.task)


def make_counted(request, scene=DEFAULT_SCENE):
    return Counted(request.spec_name, scene, image_sizes=request.image_sizes)


def make_counted_elsewhere(request):
    return make_counted(request, ELSEWHERE)


def make_broken(_):
    raise MemoryError("no room for another scene")


def make_other_robot(request):
    return EndEffectorPickPlace(request.spec_name, "absolute", ELSEWHERE, request.image_sizes)


def make_of_few_episodes(request):
    env = make_counted(request)
    env.spec = replace(env.spec, n_episodes=FEW_EPISODES)
    return env


class SuiteFamily(EnvFamily):
    """A family of registered environments, and of tasks that factories in this file make."""

    def __init__(self):
        self.names = ()
        self.factories = {}

    def expand(self, name):
        return (
            self.names if name == SUITE else (name,) if self.task_of(name) in self.factories else ()
        )

    def task_of(self, name):
        return name.removeprefix("tests/")

    def make(self, request):
        return globals()[self.factories[self.task_of(request.name)]](request)


FAMILY = SuiteFamily()


@pytest.fixture
def suite(monkeypatch):
    """Return a function that registers environments under the suite's name."""
    monkeypatch.setitem(registry.FAMILIES, SUITE, f"{__name__}:FAMILY")

    def enter(*names, **factories):
        FAMILY.names = (*names, *(f"tests/{task}" for task in factories))
        FAMILY.factories = factories

    return enter


@pytest.fixture
def two_scenes(suite):
    suite("so101/pick_place", "so101/pick_place_brick")


def run_command(monkeypatch, *arguments, command=main):
    monkeypatch.setattr("sys.argv", ["eval", *map(str, arguments)])
    return command()


def evaluate_suite(monkeypatch, run_dir, *flags, policy=("--policy", "scripted")):
    return run_command(
        monkeypatch,
        *policy,
        "--env",
        SUITE,
        "--run-dir",
        run_dir,
        *flags,
    )


def only_run(run_dir):
    (run,) = run_dir.iterdir()
    return run


def rows_of(run_dir):
    return [
        {k: v for k, v in asdict(row).items() if k != "duration_s"}
        for row in load_rows(only_run(run_dir))
    ]


@pytest.mark.usefixtures("two_scenes")
def test_every_task_runs_in_its_environment_and_the_table_says_how(monkeypatch, capsys, tmp_path):
    assert evaluate_suite(monkeypatch, tmp_path, "--episodes", 2) == 0
    run = only_run(tmp_path)
    rows = load_rows(run)
    tasks = ("pick_place", "pick_place_brick")
    assert [(row.task, row.episode_index) for row in rows] == [
        (task, index) for task in tasks for index in (0, 1)
    ]
    assert all(row.success and (run / arrays_path(row)).exists() for row in rows)
    written = json.loads((run / "run.json").read_text())
    assert written["tasks"] == {
        "pick_place": "so101/pick_place",
        "pick_place_brick": "so101/pick_place_brick",
    }
    assert (
        written["env"]["name"] == "so101/pick_place" and written["config"]["env"]["name"] == SUITE
    )
    said = capsys.readouterr().out
    assert (
        max(
            map(
                len,
                said.partition("Run folder")[0].splitlines(),
            )
        )
        <= 80
    )
    for part in ("2 tasks pooled", "100.0 %  (4 of 4)", "of each of 2 tasks"):
        assert part in said
    assert "2 tasks" in next(line for line in said.splitlines() if "macro average" in line)
    brick_line = next(line for line in said.splitlines() if "pick_place_brick" in line)
    assert "tasks so101/" in said and "2 of 2" in brick_line and "34.2 % to 100.0 %" in brick_line


@pytest.mark.usefixtures("two_scenes")
def test_a_task_has_the_rows_that_it_has_alone(monkeypatch, tmp_path):
    evaluate_suite(monkeypatch, tmp_path / "suite", "--episodes", 1, "--quiet")
    alone = ["--policy", "scripted", "--env", "so101/pick_place_brick", "--episodes", 1, "--quiet"]
    run_command(monkeypatch, *alone, "--run-dir", tmp_path / "alone")
    assert rows_of(tmp_path / "suite")[1:] == rows_of(tmp_path / "alone")


@pytest.mark.usefixtures("two_scenes")
def test_quiet_and_the_failures_name_tasks_too(monkeypatch, capsys, tmp_path):
    assert (
        evaluate_suite(
            monkeypatch,
            tmp_path / "1",
            "--episodes",
            1,
            "--max-steps",
            9,
            "--quiet",
        )
        == 0
    )
    assert "; macro average over 2 tasks 0.0 %" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "100")
    evaluate_suite(monkeypatch, tmp_path / "2", "--episodes", 1, "--max-steps", 9)
    failures = capsys.readouterr().out.partition("failures")[2]
    assert "task" in failures and "so101/pick_place_brick" in failures


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_before",
    [0, 1, 2, 3],
)
@pytest.mark.usefixtures("two_scenes")
def test_resume_goes_on_in_the_right_task(monkeypatch, tmp_path, n_before):
    evaluate_suite(monkeypatch, tmp_path / "whole", "--episodes", 2, "--quiet")
    config = make_config(
        EvalConfig,
        policy="scripted",
        env=SUITE,
        episodes=2,
    )
    setup = set_up(config)
    run = RunFolder.create(tmp_path / "cut", describe(config, setup))
    with closing(setup.env), closing(run), closing(evaluate(config, setup, run)) as rows:
        for _ in range(n_before):
            next(rows)
    assert len(load_rows(run.path)) == n_before
    assert run_command(monkeypatch, "--resume", run.path, "--quiet") == 0
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")


def test_one_environment_is_open_at_a_time(monkeypatch, suite, tmp_path):
    suite(pick_place="make_counted", elsewhere="make_counted_elsewhere")
    Counted.most_at_once = 0
    assert evaluate_suite(monkeypatch, tmp_path, "--episodes", 1, "--quiet") == 0
    assert Counted.most_at_once == 1 and Counted.opened == []
    assert [row["task"] for row in rows_of(tmp_path)] == ["pick_place", "elsewhere"]


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("make_broken", "got no room for another scene"),
        ("make_other_robot", "state of 'tests/elsewhere': expected ('shoulder_pan.pos'"),
    ],
)
def test_a_task_that_cannot_follow_costs_no_row(
    monkeypatch, capsys, suite, tmp_path, factory, said
):
    suite(pick_place="make_counted", elsewhere=factory)
    assert evaluate_suite(monkeypatch, tmp_path, "--episodes", 2, "--quiet") == 2
    message = capsys.readouterr().err
    run = only_run(tmp_path)
    assert (
        "task 'elsewhere' (tests/elsewhere): expected an environment that can follow the first"
        in message
    )
    assert said in message and f"episodes stay in {str(run)!r}; --resume goes on" in message
    assert len(load_rows(run)) == 2 and Counted.opened == []
    suite(pick_place="make_counted", elsewhere="make_counted_elsewhere")
    assert run_command(monkeypatch, "--resume", run, "--quiet") == 0
    assert [row.task for row in load_rows(run)] == ["pick_place"] * 2 + ["elsewhere"] * 2


def test_resuming_what_are_other_tasks_now_is_refused(
    monkeypatch, capsys, suite, two_scenes, tmp_path
):
    evaluate_suite(monkeypatch, tmp_path, "--episodes", 1, "--quiet")
    suite("so101/pick_place", elsewhere="make_counted_elsewhere")
    assert run_command(monkeypatch, "--resume", only_run(tmp_path)) == 2
    assert "tasks.elsewhere: expected None, got tests/elsewhere" in capsys.readouterr().err


def test_two_environments_with_one_task_are_no_suite(suite):
    suite("so101/pick_place", "so101/pick_place_range")
    with pytest.raises(
        WhiskerError, match="a task of its own for every environment, got 1 tasks for 2"
    ):
        set_up(make_config(SubjectConfig, policy="zero", env=SUITE))


@pytest.mark.parametrize(
    ("span", "fits"),
    [
        ((0, 3), True),
        ((0, 4), False),
        ((2, 1), True),
        ((3, 1), False),
    ],
)
def test_an_episode_that_the_task_does_not_have_is_refused_before_anything_runs(
    monkeypatch, capsys, suite, tmp_path, span, fits
):
    first, n = span
    suite(pick_place="make_of_few_episodes")
    flags = ["--policy", "zero", "--max-steps", 2, "--quiet", "--run-dir", tmp_path / "runs"]
    flags += ["--env", "tests/pick_place", "--first-episode", first, "--episodes", n]
    assert run_command(monkeypatch, *flags) == (0 if fits else 2)
    if not fits:
        said = (
            f"episodes {first} to {first + n - 1} of 'tests/pick_place': "
            f"expected indices below 3, got {first + n - 1}"
        )
        assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "adapter",
    [[], ["--gripper-offset", "2"]],
    ids=["plain", "adapted"],
)
@pytest.mark.usefixtures("two_scenes")
def test_a_checkpoint_looks_at_every_task(monkeypatch, tmp_path, small_act, adapter):
    policy = ["--checkpoint", small_act, *adapter]
    flags = ["--episodes", 1, "--max-steps", 5, "--no-doctor", "--quiet"]
    assert evaluate_suite(monkeypatch, tmp_path, *flags, policy=policy) == 0
    assert [(row["task"], row["n_predictions"], row["error"]) for row in rows_of(tmp_path)] == [
        ("pick_place", 2, ""),
        ("pick_place_brick", 2, ""),
    ]


def test_what_one_checkpoint_cannot_serve_is_not_alike(blind_env):
    spec = blind_env.spec
    goals = (SUCCESS_ONLY.goal("other"),)
    check_alike(
        spec,
        replace(
            spec,
            name="other",
            task="other",
            instruction="Other.",
            goals=goals,
            max_steps=9,
        ),
    )
    for changes, part in (
        ({"state_units": ("rad",) * 6}, "state's units"),
        ({"action": replace(spec.action, mode="delta")}, "action's mode"),
        ({"action": replace(spec.action, high=(1.0,) * 6)}, "action's high"),
        ({"control_dt_s": 0.05}, "control step"),
    ):
        with pytest.raises(
            WhiskerError, match=f"{part} of 'other': expected .*, as in 'so101/pick_place', got"
        ):
            check_alike(spec, replace(spec, name="other", **changes))


@pytest.mark.slow
@pytest.mark.usefixtures("two_scenes")
def test_the_doctor_examines_a_run_of_several_tasks(monkeypatch, capsys, tmp_path, small_act):
    flags = ["--episodes", 2, "--max-steps", 20, "--no-doctor", "--quiet"]
    evaluate_suite(
        monkeypatch,
        tmp_path,
        *flags,
        policy=["--checkpoint", small_act],
    )
    capsys.readouterr()
    assert run_command(
        monkeypatch,
        only_run(tmp_path),
        "--json",
        command=main_doctor,
    ) in (1, 2)
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["floors"]["evidence"].startswith(
        "in 'pick_place', one of the run's tasks: policy 0 of 2"
    )
    assert "0 of 4 succeed" in findings["number of episodes"]["evidence"]


@pytest.mark.slow
@pytest.mark.usefixtures("two_scenes")
def test_an_episode_is_filmed_in_the_environment_of_its_task(monkeypatch, tmp_path):
    evaluate_suite(monkeypatch, tmp_path, "--episodes", 1, "--max-steps", 2, "--quiet")
    run = only_run(tmp_path)
    row_and_frame = []
    for path, row in zip(
        film_run(VideoConfig(run, quiet=True)),
        load_rows(run),
        strict=True,
    ):
        assert path == run / video_path(row)
        row_and_frame.append((row, iio.imread(path, plugin="pyav")[0].astype(int)))
    for index, task in enumerate(("pick_place", "pick_place_brick")):
        with closing(EpisodeFilm(Run.open(run), task)) as film:
            likeness = [
                np.abs(next(iter(film.frames(row))) - frame).mean() for row, frame in row_and_frame
            ]
        assert likeness.index(min(likeness)) == index, likeness


def test_a_run_from_before_there_were_several_tasks_is_filmed(monkeypatch, tmp_path):
    flags = [
        "--policy",
        "zero",
        "--episodes",
        1,
        "--max-steps",
        2,
        "--quiet",
        "--run-dir",
        tmp_path,
    ]
    run_command(monkeypatch, *flags, "--env", "so101/pick_place_brick")
    run = only_run(tmp_path)
    description = json.loads((run / "run.json").read_text())
    del description["tasks"], description["env"]["goals"], description["env"]["n_episodes"]
    del description["config"]["env"]["control"]
    (run / "run.json").write_text(json.dumps(description))
    assert len(film_run(VideoConfig(run, quiet=True))) == 1


@pytest.mark.usefixtures("two_scenes")
def test_a_run_that_may_end_early_takes_its_tasks_in_rounds(monkeypatch, tmp_path):
    flags = ("--episodes", "7", "--max-steps", "3", "--no-doctor")
    zero = ("--policy", "zero")
    assert evaluate_suite(monkeypatch, tmp_path / "reference", *flags, policy=zero) == 0
    reference = only_run(tmp_path / "reference")
    rewrite_outcomes(reference, "success")
    against = ("--against", str(reference), "--until-decided", *flags[2:])
    assert evaluate_suite(monkeypatch, tmp_path / "runs", *against, policy=zero) == 0
    done = [(row.task, row.episode_index) for row in load_rows(only_run(tmp_path / "runs"))]
    first, second = dict.fromkeys(task for task, _ in done)
    assert done == [(first, k) for k in range(5)] + [(second, k) for k in range(3)]
