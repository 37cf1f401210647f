"""Tests of runs over several tasks.

They register SO-101 environments as a suite.
"""

import json
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial

import imageio.v3 as iio
import numpy as np
import pytest

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
from tests.processes import only_run
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
    return Counted(
        request.spec_name,
        scene,
        image_sizes=request.image_sizes,
    )


def make_counted_elsewhere(request):
    return make_counted(request, ELSEWHERE)


def make_broken(_):
    raise MemoryError("no room for another scene")


def make_other_robot(request):
    return EndEffectorPickPlace(
        request.spec_name,
        "absolute",
        ELSEWHERE,
        request.image_sizes,
    )


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
        if name == SUITE:
            return self.names
        return (name,) if self.task_of(name) in self.factories else ()

    def task_of(self, name):
        return name.removeprefix("tests/")

    def make(self, request):
        return globals()[self.factories[self.task_of(request.name)]](request)


FAMILY = SuiteFamily()


@pytest.fixture
def suite(monkeypatch):
    """Return a function that registers environments under the suite's name."""
    monkeypatch.setitem(
        registry.FAMILIES,
        SUITE,
        f"{__name__}:FAMILY",
    )

    def enter(*names, **factories):
        FAMILY.names = (*names, *(f"tests/{task}" for task in factories))
        FAMILY.factories = factories

    return enter


TWO_TASKS = {
    "pick_place": "so101/pick_place",
    "pick_place_brick": "so101/pick_place_brick",
}


@pytest.fixture
def two_scenes(suite):
    suite(*TWO_TASKS.values())


TWO_PLACES = {"pick_place": "make_counted", "elsewhere": "make_counted_elsewhere"}


@pytest.fixture
def evaluate_suite(eval_succeeds, tmp_path):
    """Return a function that evaluates a policy in the suite, with a run folder in `tmp_path`."""

    def run(flags, policy="--policy scripted", run_dir=tmp_path):
        return eval_succeeds(
            f"{policy} --env {SUITE} {flags} --run-dir",
            run_dir,
        )

    return run


def rows_of(run_dir):
    return [asdict(row) | {"duration_s": None} for row in load_rows(only_run(run_dir))]


@pytest.mark.usefixtures("two_scenes")
def test_every_task_runs_in_its_environment_and_the_table_says_how(evaluate_suite, tmp_path):
    printed = evaluate_suite("--episodes 2").stdout
    run = only_run(tmp_path)
    rows = load_rows(run)
    expected = [(task, index) for task in TWO_TASKS for index in (0, 1)]
    assert [(row.task, row.episode_index) for row in rows] == expected
    assert all(row.success and (run / arrays_path(row)).exists() for row in rows)
    written = json.loads((run / "run.json").read_text())
    assert written["tasks"] == TWO_TASKS
    assert written["env"]["name"] == "so101/pick_place"
    assert written["config"]["env"]["name"] == SUITE
    table = printed.partition("Run folder")[0].splitlines()
    assert max(map(len, table)) <= 80
    for part in ("2 tasks pooled", "100.0 %  (4 of 4)", "of each of 2 tasks", "tasks so101/"):
        assert part in printed
    assert "2 tasks" in next(line for line in table if "macro average" in line)
    brick_line = next(line for line in table if "pick_place_brick" in line)
    assert "2 of 2" in brick_line
    assert "34.2 % to 100.0 %" in brick_line


@pytest.mark.usefixtures("two_scenes")
def test_a_task_has_the_rows_that_it_has_alone(evaluate_suite, eval_here, tmp_path):
    evaluate_suite("--episodes 1 --quiet", run_dir=tmp_path / "suite")
    alone = "--policy scripted --env so101/pick_place_brick --episodes 1 --quiet --run-dir"
    eval_here(alone, tmp_path / "alone")
    assert rows_of(tmp_path / "suite")[1:] == rows_of(tmp_path / "alone")


@pytest.mark.usefixtures("two_scenes")
def test_quiet_and_the_failures_name_tasks_too(evaluate_suite, monkeypatch):
    short = "--episodes 1 --max-steps 9"
    assert "; macro average over 2 tasks 0.0 %" in evaluate_suite(f"{short} --quiet").stdout
    monkeypatch.setenv("COLUMNS", "100")
    failures = evaluate_suite(short).stdout.partition("failures")[2]
    assert "task" in failures
    assert "so101/pick_place_brick" in failures


@pytest.mark.slow
@pytest.mark.parametrize("n_before", [0, 1, 2, 3])
@pytest.mark.usefixtures("two_scenes")
def test_resume_goes_on_in_the_right_task(evaluate_suite, eval_succeeds, tmp_path, n_before):
    evaluate_suite("--episodes 2 --quiet", run_dir=tmp_path / "whole")
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
    eval_succeeds("--quiet --resume", run.path)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")


def test_one_environment_is_open_at_a_time(evaluate_suite, suite, tmp_path):
    suite(**TWO_PLACES)
    Counted.most_at_once = 0
    evaluate_suite("--episodes 1 --max-steps 2 --quiet")
    assert Counted.most_at_once == 1
    assert Counted.opened == []
    assert [row["task"] for row in rows_of(tmp_path)] == ["pick_place", "elsewhere"]


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("make_broken", "got no room for another scene"),
        ("make_other_robot", "state of 'tests/elsewhere': expected ('shoulder_pan.pos'"),
    ],
)
def test_a_task_that_cannot_follow_costs_no_row(
    refusal_of_eval, eval_succeeds, suite, tmp_path, factory, said
):
    suite(**TWO_PLACES | {"elsewhere": factory})
    flags = "--policy scripted --episodes 2 --max-steps 2 --quiet"
    refusal = refusal_of_eval(
        f"{flags} --env {SUITE} --run-dir",
        tmp_path,
    )
    run = only_run(tmp_path)
    for part in (
        "task 'elsewhere' (tests/elsewhere): expected an environment that can follow the first",
        said,
        f"episodes stay in {str(run)!r}; --resume goes on",
    ):
        assert part in refusal
    assert len(load_rows(run)) == 2
    assert Counted.opened == []
    suite(**TWO_PLACES)
    eval_succeeds("--quiet --resume", run)
    assert [row.task for row in load_rows(run)] == ["pick_place"] * 2 + ["elsewhere"] * 2


@pytest.mark.usefixtures("two_scenes")
def test_resuming_what_are_other_tasks_now_is_refused(
    evaluate_suite, refusal_of_eval, suite, tmp_path
):
    evaluate_suite("--episodes 1 --max-steps 2 --quiet")
    suite("so101/pick_place", elsewhere="make_counted_elsewhere")
    refusal = refusal_of_eval("--resume", only_run(tmp_path))
    assert "tasks.elsewhere: expected None, got tests/elsewhere" in refusal


def test_two_environments_with_one_task_are_no_suite(suite):
    suite("so101/pick_place", "so101/pick_place_range")
    said = "a task of its own for every environment, got 1 tasks for 2"
    with pytest.raises(WhiskerError, match=said):
        set_up(make_config(SubjectConfig, policy="zero", env=SUITE))


@pytest.mark.parametrize(
    ("first", "n", "fits"),
    [(0, 3, True), (0, 4, False), (2, 1, True), (3, 1, False)],
)
def test_an_episode_that_the_task_does_not_have_is_refused_before_anything_runs(
    eval_here, suite, tmp_path, first, n, fits
):
    suite(pick_place="make_of_few_episodes")
    span = f"--first-episode {first} --episodes {n}"
    flags = "--policy zero --env tests/pick_place --max-steps 2 --quiet --run-dir runs"
    done = eval_here(f"{flags} {span}", cwd=tmp_path)
    assert (tmp_path / "runs").exists() == fits
    if fits:
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        last = first + n - 1
        said = f"{first} to {last} of 'tests/pick_place': expected indices below 3, got {last}"
        assert f"episodes {said}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "adapter",
    ["", "--gripper-offset 2"],
)
@pytest.mark.usefixtures("two_scenes")
def test_a_checkpoint_looks_at_every_task(evaluate_suite, tmp_path, small_act, adapter):
    flags = "--episodes 1 --max-steps 5 --no-doctor --quiet"
    evaluate_suite(
        flags,
        policy=f"--checkpoint {small_act} {adapter}",
    )
    found = [(row["task"], row["n_predictions"], row["error"]) for row in rows_of(tmp_path)]
    assert found == [(task, 2, "") for task in TWO_TASKS]


def test_what_one_checkpoint_cannot_serve_is_not_alike(blind_env):
    spec = blind_env.spec
    other = partial(replace, spec, name="other")
    goals = (SUCCESS_ONLY.goal("other"),)
    check_alike(
        spec,
        other(
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
        said = f"{part} of 'other': expected .*, as in 'so101/pick_place', got"
        with pytest.raises(WhiskerError, match=said):
            check_alike(spec, other(**changes))


@pytest.mark.slow
@pytest.mark.usefixtures("two_scenes")
def test_the_doctor_examines_a_run_of_several_tasks(
    evaluate_suite, doctor_here, tmp_path, small_act
):
    flags = "--episodes 2 --max-steps 20 --no-doctor --quiet"
    evaluate_suite(flags, policy=f"--checkpoint {small_act}")
    examined = doctor_here("--json", only_run(tmp_path))
    assert examined.returncode in (1, 2)
    evidence = {finding["check"]: finding["evidence"] for finding in json.loads(examined.stdout)}
    floors = "in 'pick_place', one of the run's tasks: policy 0 of 2"
    assert evidence["floors"].startswith(floors)
    assert "0 of 4 succeed" in evidence["number of episodes"]


@pytest.mark.slow
@pytest.mark.usefixtures("two_scenes")
def test_an_episode_is_filmed_in_the_environment_of_its_task(evaluate_suite, tmp_path):
    evaluate_suite("--episodes 1 --max-steps 2 --quiet")
    run = only_run(tmp_path)
    rows = load_rows(run)
    films = film_run(VideoConfig(run, quiet=True))
    assert films == [run / video_path(row) for row in rows]
    frames = [iio.imread(path, plugin="pyav")[0].astype(int) for path in films]
    for index, task in enumerate(TWO_TASKS):
        with closing(EpisodeFilm(Run.open(run), task)) as film:
            likeness = [
                np.abs(next(iter(film.frames(row))) - frame).mean()
                for row, frame in zip(rows, frames, strict=True)
            ]
        assert np.argmin(likeness) == index, likeness


def test_a_run_from_before_there_were_several_tasks_is_filmed(eval_here, tmp_path):
    flags = "--policy zero --episodes 1 --max-steps 2 --quiet"
    eval_here(f"{flags} --env so101/pick_place_brick --run-dir", tmp_path)
    run = only_run(tmp_path)
    description = json.loads((run / "run.json").read_text())
    del description["tasks"], description["env"]["goals"], description["env"]["n_episodes"]
    del description["config"]["env"]["control"]
    (run / "run.json").write_text(json.dumps(description))
    assert len(film_run(VideoConfig(run, quiet=True))) == 1


@pytest.mark.usefixtures("two_scenes")
def test_a_run_that_may_end_early_takes_its_tasks_in_rounds(evaluate_suite, tmp_path):
    zero = "--policy zero"
    short = "--max-steps 3 --no-doctor"
    evaluate_suite(f"--episodes 7 {short}", zero, tmp_path / "reference")
    reference = only_run(tmp_path / "reference")
    rewrite_outcomes(reference, "success")
    evaluate_suite(f"--against {reference} --until-decided {short}", zero, tmp_path / "runs")
    done = [(row.task, row.episode_index) for row in load_rows(only_run(tmp_path / "runs"))]
    first, second = dict.fromkeys(task for task, _ in done)
    assert done == [(first, k) for k in range(5)] + [(second, k) for k in range(3)]
