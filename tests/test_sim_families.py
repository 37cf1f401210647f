"""Families from outside of the project are found by import string and by entry point."""

import os
import subprocess
import sys
import sysconfig
import venv
import warnings
from contextlib import closing
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from eval.run import Run
from sim.errors import UnknownNameError, WhiskerError, WhiskerWarning
from sim.families import EnvFamily
from sim.registry import camera_names, expand_env, family_of, list_envs, make_env, task_of
from viz.episode_film import MAIN_SIZE, choose_views, open_camera_film

OUTSIDE = Path(__file__).parent / "outside"
ENTRY_POINT = "toy_module:toy"
REACH = f"{ENTRY_POINT}/reach"
BROKEN = """
from sim.families import EnvFamily
from sim.spec import EnvListing

class Broken(EnvFamily):
    def listings(self):
        return [EnvListing("crash", "", 1), EnvListing("other", "", 1), \
EnvListing("task:of", "", 1)]

    def make(self, request):
        from dataclasses import replace

        from toy_module import Reach

        if request.name == "crash":
            raise ZeroDivisionError("nothing to divide by")
        env = Reach(request)
        env.spec = replace(env.spec, name="reach")
        return env

broken, number = Broken(), 7
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Change to a directory with the toy's module, and forget its modules afterwards."""
    (tmp_path / "toy_module.py").write_text((OUTSIDE / "toy_module.py").read_text())
    (tmp_path / "broken_module.py").write_text(BROKEN)
    (tmp_path / "not_python.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in ("toy_module", "broken_module", "not_python"):
        sys.modules.pop(name, None)


def write_dist_info(folder, name, entry_point):
    """Write the files that an installer makes from tests/outside/pyproject.toml."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[whisker.envs]\ntoy = {entry_point}\n")


@pytest.fixture
def installed(outside, monkeypatch):
    """Install the toy as a distribution with an entry point."""
    folder = outside / "site"
    write_dist_info(folder, "toy_envs", ENTRY_POINT)
    (outside / "toy_module.py").rename(folder / "toy_module.py")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.parametrize("name", [pytest.param(REACH, marks=pytest.mark.slow), "toy/reach"])
def test_an_environment_from_outside_runs_and_its_run_opens(name, outside, request):
    """The installed command runs in a directory that is not the project's."""
    environment = os.environ | {"MUJOCO_GL": "osmesa"}
    if name != REACH:
        environment["PYTHONPATH"] = str(request.getfixturevalue("installed"))
    command = [Path(sys.executable).parent / "eval", "--env", name]
    flags = ["--policy", "random", "--episodes", "2"]
    done = subprocess.run([*command, *flags], env=environment, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    (folder,) = (outside / "runs").iterdir()
    assert folder.name.endswith("-random-" + name.replace(":", "-").replace("/", "-"))
    run = Run.open(folder)
    assert [(row.task, row.episode_index) for row in run.rows] == [("reach", 0), ("reach", 1)]
    assert run.description.tasks == {"reach": name} and run.description.env.name == name
    assert run.description.versions["toy_module.py"].startswith("sha256 ")
    arrays = run.load_arrays(run.rows[0])
    with closing(run.open_env("reach", {"top": (16, 24)})) as env:
        env.restore(arrays.snapshot[0])
        assert_array_equal(env.state(), arrays.state[0])
        for action, state in zip(arrays.action, arrays.state[1:], strict=True):
            env.step(action)
            assert_array_equal(env.state(), state)
        assert env.observe().images["top"].shape == (16, 24, 3)
    with closing(open_camera_film(run, "reach", size=(96, 128))) as film:
        film.write_png(outside / "still.png", run.rows[0], 3)
    assert choose_views(run, "reach") == {"top": MAIN_SIZE}
    assert iio.imread(outside / "still.png").shape == (96, 128, 3)


def test_entry_points_are_listed_and_offered(installed):
    assert [listing.name for listing in list_envs()][-1] == "toy/reach"
    assert family_of("toy/reach").title == "toys" and camera_names("toy/reach") == ("top",)
    for name in ("toy/raech", "tyo/reach"):
        offer = f"environment '{name}': .*Did you mean 'toy/reach'"
        with pytest.raises(UnknownNameError, match=offer):
            make_env(name)


def test_two_families_of_one_name_are_told_apart_by_their_import_strings(installed):
    write_dist_info(installed, "other_envs", "other_module:toy")
    with pytest.raises(
        WhiskerError,
        match=r"entry point 'toy' .*got other_module:toy and toy_module:toy\. Name .*/reach",
    ):
        make_env("toy/reach")
    assert task_of(REACH) == "reach"


def test_a_broken_entry_point_is_said_and_hides_no_other(installed):
    (installed / "toy_module.py").write_text("raise RuntimeError('half installed')\n")
    with pytest.warns(
        WhiskerWarning, match=r"entry point 'toy': import of 'toy_module:toy': .*half installed"
    ):
        names = [listing.name for listing in list_envs()]
    assert "so101/pick_place" in names and "libero_goal/0" in names
    with pytest.raises(
        WhiskerError, match=r"'toy_module:toy': .*RuntimeError: half installed .*toy_module.py"
    ):
        make_env("toy/reach")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "no_such_module:toy/reach",
            "import of 'no_such_module:toy': .*ModuleNotFoundError: No module named",
        ),
        ("not_python:toy/reach", "import of 'not_python:toy': .*SyntaxError"),
        (
            "toy_module:tyo/reach",
            "import of 'toy_module:tyo': expected an attribute 'tyo' of module .*toy",
        ),
        (
            "toy_module:ToyFamily/reach",
            "import of 'toy_module:ToyFamily': .*EnvFamily, got the class ToyFamily",
        ),
        (
            "broken_module:number/reach",
            "import of 'broken_module:number': expected an instance .*got a int",
        ),
        ("toy_module:toy", "environment 'toy_module:toy/': .*'toy_module:toy/reach'"),
        ("toy_module:toy/reach@scene.xml", "expected a name without an @: toy_module:toy/reach"),
        (
            "broken_module:broken/crash",
            "'broken_module:broken'.*ZeroDivisionError: nothing to divide by .*broken_module",
        ),
        (
            "broken_module:broken/other",
            "EnvSpec.name of environment 'broken_module:broken/other': .*got 'reach'",
        ),
        ("toy_module:toy/reach,so101/pick_place", "--env .*got 'so101/pick_place'"),
        ("toy_module:toy/reach,libero_goal/0", "--env .*names of one family .*got 'libero_goal/0'"),
    ],
)
def test_what_is_wrong_with_an_import_string_is_one_error_that_names_it(outside, name, said):
    with pytest.raises(WhiskerError, match=said):
        make_env(name, {})


def test_a_task_that_cannot_name_a_folder_is_refused(outside):
    with pytest.raises(
        WhiskerError, match=r"task of environment 'broken_module:broken/task:of': .*got 'task:of'"
    ):
        task_of("broken_module:broken/task:of")


def test_a_control_is_refused_where_the_family_has_none(outside):
    said = f"--control absolute in '{REACH}': expected an environment of robosuite or LIBERO"
    with pytest.raises(WhiskerError, match=said):
        make_env(REACH, {}, "absolute")


def test_one_that_no_family_makes_has_the_facts_of_every_family(outside):
    assert type(family_of("gone_module:toy/reach")) is EnvFamily
    assert family_of("point").film_cameras(("a",), None) == ("a",)


def test_the_expert_of_an_environment_from_outside_is_its_ceiling(outside):
    with closing(make_env(REACH, {})) as env:
        for episode in range(5):
            env.reset(episode)
            expert = env.make_expert()
            assert any(env.step(expert.action()).success for _ in range(env.spec.max_steps))


def test_an_environment_from_outside_lives_in_a_process_of_its_own_if_its_family_says_so(
    outside, monkeypatch
):
    here = make_env(REACH, {})
    monkeypatch.setattr(type(family_of(REACH)), "in_own_process", True)
    with closing(make_env(REACH, {})) as there:
        assert there.pid not in (None, os.getpid())
        for env in (here, there):
            env.reset(1)
            for action in ([0.5, -0.5], [1.0, 0.2]):
                env.step(np.array(action))
        assert_array_equal(here.snapshot(), there.snapshot())


def test_a_process_of_ones_own_can_be_of_another_python(outside, monkeypatch):
    """The family's Python has its packages elsewhere, and does not know this project."""
    venv.create(outside / "other", with_pip=False)
    (site,) = (outside / "other" / "lib").glob("*/site-packages")
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (outside / "prefix_module.py").write_text(
        "import sys\n"
        "from dataclasses import replace\n"
        "from toy_module import Reach, ToyFamily\n"
        "class Family(ToyFamily):\n"
        f"    in_own_process, python = True, {str(outside / 'other/bin/python')!r}\n"
        "    def make(self, request):\n"
        "        env = Reach(request)\n"
        "        env.spec = replace(env.spec, instruction=sys.prefix)\n"
        "        return env\n"
        "family = Family()\n"
    )
    with closing(make_env("prefix_module:family/reach", {})) as env:
        assert Path(env.spec.instruction) == outside / "other" != Path(sys.prefix)
        env.reset(0)
        assert env.state().shape == (2,)


def test_the_entry_point_of_the_tests_is_that_of_its_project():
    import tomllib

    project = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"whisker.envs": {"toy": ENTRY_POINT}}


def test_names_of_the_packages_own_families_need_no_entry_point(outside):
    with warnings.catch_warnings(action="error"):
        assert expand_env("so101/pick_place") == ("so101/pick_place",)
