"""Tests that `run.json` is read as it was written, whichever version wrote it."""

import json
import re
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eval.config import EvalConfig
from eval.doctor.finding import Finding, Level
from eval.evaluation import set_up
from eval.outcome import OUTCOME_RULES
from eval.provenance import describe
from eval.run_description import RUN_FILE, Resumption, load_description, save_resumptions
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from tests.json_files import edited_json

CONFIG = make_config(EvalConfig, policy="random", env="so101/pick_place", episodes=2)
OLDER_RUN = Path(__file__).with_name("older_run.json")
FINDING = Finding("horizon", Level.WARNING, "too short", "5 steps", "Give more --max-steps.")


@pytest.fixture(scope="module")
def setup():
    setup = set_up(CONFIG)
    setup.env.close()
    return setup


@pytest.fixture(scope="module")
def described(setup):
    return replace(describe(CONFIG, setup), doctor=(FINDING,))


@pytest.fixture
def run(tmp_path, described):
    with closing(RunFolder.create(tmp_path, described)) as folder:
        return folder.path


def test_what_was_described_comes_back(run, described):
    read = load_description(run)
    assert read == replace(described, started_utc=read.started_utc)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", read.started_utc)
    assert read.doctor[0].level is Level.WARNING
    assert isinstance(read.env.action.low, tuple)
    assert isinstance(read.config.hook.modules, tuple)


def test_the_file_has_the_parts_of_version_1_in_their_order(run):
    written = json.loads((run / RUN_FILE).read_text())
    parts = (
        "version started_utc config resolved policy env tasks scene_sha256 versions code_path "
        "commit machine doctor"
    )
    assert list(written) == parts.split()
    assert written["version"] == 1
    assert not {"resume", "list_envs", "output"} & written["config"].keys()
    assert written["config"]["hook"] == {"modules": [], "pool": None}
    assert written["tasks"] == {"pick_place": "so101/pick_place"}


def test_flags_that_may_differ_on_resume_are_not_kept(tmp_path, setup, described):
    config = replace_flags(CONFIG, quiet=True, run_dir=tmp_path)
    assert describe(config, setup).config == CONFIG == described.config


def test_a_run_of_the_first_version_has_none_of_what_came_later(run, described):
    """Its tasks, flags and rules are read as those of that version."""
    absent = ("started_utc", "scene_sha256", "versions", "code_path", "commit", "machine", "doctor")
    with edited_json(run / RUN_FILE) as content:
        for name in (*absent, "tasks"):
            del content[name]
        for part, later in {
            "config": ("control", "intermediate_plans", "image_size", "collect_features"),
            "resolved": ("outcome_rules", "renamed_cameras", "gl_renderer"),
            "policy": ("intermediate_plans", "action_mode"),
            "env": ("goals", "n_episodes", "camera_names"),
        }.items():
            for name in later:
                content[part].pop(name, None)
    read = load_description(run)
    assert all(getattr(read, name) is None for name in absent)
    assert read.config == CONFIG
    assert read.tasks == {"pick_place": "so101/pick_place"}
    assert read.commits == [""]
    assert read.resolved.outcome_rules == 1
    assert read.old_rules == f"outcomes by rules 1 (now {OUTCOME_RULES})"
    assert read.policy.intermediate_plans == "none"
    assert read.env.goals == ()
    assert described.old_rules == ""


@pytest.mark.parametrize(
    ("policy_type", "is_baseline", "follows_env"),
    [
        ("zero", True, False),
        ("scripted", True, True),
        ("replay", True, True),
        ("act", False, False),
    ],
)
def test_what_a_baseline_is_is_known_of_runs_from_before_it_was_written(
    run, policy_type, is_baseline, follows_env
):
    with edited_json(run / RUN_FILE) as content:
        content["policy"]["type"] = policy_type
        del content["policy"]["is_baseline"]
        del content["policy"]["follows_env"]
    read = load_description(run).policy
    assert read.is_baseline == is_baseline
    assert read.follows_env == follows_env


def test_a_policy_of_ones_own_is_no_baseline_by_its_name(run):
    with edited_json(run / RUN_FILE) as content:
        content["policy"] |= {"type": "zero", "is_baseline": False}
    assert not load_description(run).policy.is_baseline


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"version": 1, "config": {}', "expected JSON"),
        ('"\udcff"', "expected JSON"),
        ("[1]", "with a version, got one without"),
        ('{"episodes": 3}', "with a version, got one without"),
        ('{"version": "1"}', "with a version, got one without"),
        ('{"version": 99, "run": 1}', "expected version 1, got 99. Update whisker-eval"),
        ('{"version": 1}', r"a whole run\.json, as `eval` writes it, got one without config"),
        (
            '{"version": 1, "config": []}',
            r"a whole run\.json, as `eval` writes it, got \[\] as config",
        ),
        (
            '{"version": 1, "config": {}, "resolved": {"horizon": 5}}',
            r"one without resolved\.n_action_steps",
        ),
        ('{"version": 1, "config": {"episodes": true}}', r"got True as config\.episodes"),
        ('{"version": 1, "config": {"hook": [3]}}', r"got 3 as config\.hook\.modules"),
        (
            '{"version": 1, "config": {"gripper_range": [1, 2, 3]}}',
            r"got \[1, 2, 3\] as config\.adapters\.gripper_range",
        ),
    ],
)
def test_a_file_that_is_damaged_foreign_or_newer_is_refused(tmp_path, content, said):
    (tmp_path / RUN_FILE).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(WhiskerError, match=said):
        load_description(tmp_path)


@pytest.mark.parametrize(
    ("name", "got"),
    [("", "No such file"), ("none", "No such file"), ("file", "Not a dir")],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, name, got):
    (tmp_path / "file").touch()
    with pytest.raises(WhiskerError, match=rf"a run folder with a run\.json, got {got}"):
        load_description(tmp_path / name)


def test_a_resumption_leaves_all_else_as_it_was_written(run):
    with edited_json(run / RUN_FILE) as before:
        before["weather"] = {"rain": True}
    save_resumptions(run, [Resumption("abc", 1)])
    save_resumptions(run, [Resumption("abc", 1), Resumption("def", 2)])
    resumed = [
        {"commit": "abc", "n_rows_before": 1},
        {"commit": "def", "n_rows_before": 2},
    ]
    assert json.loads((run / RUN_FILE).read_text()) == before | {"resumed": resumed}
    assert load_description(run).commits[1:] == ["abc", "def"]


def test_a_file_of_before_flags_had_groups_is_read(tmp_path):
    """Version 0.1.0 wrote the file at a commit at which the flags had no groups."""
    shutil.copy(OLDER_RUN, tmp_path / RUN_FILE)
    read = load_description(tmp_path)
    assert read.config == make_config(
        EvalConfig,
        policy="act",
        env="so101/pick_place",
        n_action_steps=7,
        max_steps=80,
        gripper_range=(0.0, 90.0),
        gripper_offset=3.0,
        intermediate_plans=True,
        episodes=1,
        doctor=False,
    )
    assert read.resolved.max_steps == 80
    assert read.policy.intermediate_plans == "none"
    assert read.doctor[0].hint == "Give a longer --horizon."
    assert read.env.goals[0].kind == "pick_and_place"


@pytest.mark.parametrize(("written", "read"), [("relative", "delta"), ("absolute", "absolute")])
def test_an_older_control_is_read_as_the_mode_of_an_action(tmp_path, written, read):
    shutil.copy(OLDER_RUN, tmp_path / RUN_FILE)
    with edited_json(tmp_path / RUN_FILE) as content:
        content["config"]["control"] = written
    assert load_description(tmp_path).config.env.control == read
