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
from eval.run_description import RUN_FILE, Resumption, load_description, save_resumption
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags

CONFIG = make_config(
    EvalConfig,
    policy="random",
    env="so101/pick_place",
    episodes=2,
    control=None,
    gripper_range=None,
)
FINDING = Finding("horizon", Level.WARNING, "too short", "5 steps", "Give more --max-steps.")
# Files of every version have these keys. All others were added later.
ALWAYS_THERE = ("version", "config", "resolved", "policy", "env")


@pytest.fixture(scope="module")
def described():
    setup = set_up(CONFIG)
    with closing(setup.env):
        return replace(describe(CONFIG, setup), doctor=(FINDING,))


@pytest.fixture
def run(tmp_path, described):
    with closing(RunFolder.create(tmp_path, described)) as folder:
        return folder.path


def change(run, **parts):
    file = run / RUN_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


def test_what_was_described_comes_back(run, described):
    read = load_description(run)
    assert read == replace(described, started_utc=read.started_utc)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", read.started_utc)
    assert read.doctor == (FINDING,) and read.doctor[0].level is Level.WARNING
    assert isinstance(read.env.action.low, tuple) and isinstance(read.config.hook.modules, tuple)


def test_the_file_has_the_parts_of_version_1_in_their_order(run):
    written = json.loads((run / RUN_FILE).read_text())
    parts = (
        "version started_utc config resolved policy env tasks scene_sha256 versions code_path "
        "commit machine doctor"
    )
    assert list(written) == parts.split() and written["version"] == 1
    assert not {"resume", "list_envs", "output"} & written["config"].keys()
    assert written["config"]["hook"] == {
        "modules": [],
        "pool": None,
    } and written["tasks"] == {"pick_place": "so101/pick_place"}


def test_flags_that_may_differ_on_resume_are_not_kept(tmp_path, described):
    setup = set_up(CONFIG)
    with closing(setup.env):
        assert (
            describe(
                replace_flags(CONFIG, quiet=True, run_dir=tmp_path),
                setup,
            ).config
            == CONFIG
            == described.config
        )


def test_a_run_of_the_first_version_has_none_of_what_came_later(run, described):
    """Its tasks, flags and rules are read as those of that version."""
    content = {
        name: part
        for name, part in json.loads((run / RUN_FILE).read_text()).items()
        if name in ALWAYS_THERE
    }
    for part, later in {
        "config": ("control", "intermediate_plans", "image_size", "collect_features"),
        "resolved": ("outcome_rules", "renamed_cameras", "gl_renderer"),
        "policy": ("intermediate_plans", "action_mode"),
        "env": ("goals", "n_episodes", "camera_names"),
    }.items():
        content[part] = {name: value for name, value in content[part].items() if name not in later}
    (run / RUN_FILE).write_text(json.dumps(content))
    read = load_description(run)
    absent = ("started_utc", "scene_sha256", "versions", "code_path", "commit", "machine", "doctor")
    assert all(getattr(read, name) is None for name in absent)
    assert (
        read.config == CONFIG
        and read.tasks == {"pick_place": "so101/pick_place"}
        and read.commits == [""]
    )
    assert (
        read.resolved.outcome_rules == 1
        and read.old_rules == f"outcomes by rules 1 (now {OUTCOME_RULES})"
    )
    assert (
        read.policy.intermediate_plans == "none"
        and read.env.goals == ()
        and described.old_rules == ""
    )


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
    policy = json.loads((run / RUN_FILE).read_text())["policy"] | {"type": policy_type}
    del policy["is_baseline"], policy["follows_env"]
    change(run, policy=policy)
    read = load_description(run).policy
    assert (read.is_baseline, read.follows_env) == (is_baseline, follows_env)


def test_a_policy_of_ones_own_is_no_baseline_by_its_name(run):
    policy = json.loads((run / RUN_FILE).read_text())["policy"]
    change(
        run,
        policy=policy | {"type": "zero", "is_baseline": False},
    )
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


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path, got in (
        (tmp_path, "No such file"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "file", "Not a dir"),
    ):
        with pytest.raises(
            WhiskerError,
            match=rf"a run folder with a run\.json, got {got}",
        ):
            load_description(path)


def test_a_resumption_leaves_all_else_as_it_was_written(run):
    change(run, weather={"rain": True})
    before = json.loads((run / RUN_FILE).read_text())
    save_resumption(run, Resumption("abc", 1))
    save_resumption(run, Resumption("def", 2))
    written = json.loads((run / RUN_FILE).read_text())
    assert written.pop("resumed") == [
        {"commit": "abc", "n_rows_before": 1},
        {"commit": "def", "n_rows_before": 2},
    ]
    assert written == before and load_description(run).commits[1:] == ["abc", "def"]


def test_a_file_of_before_flags_had_groups_is_read(tmp_path):
    """Version 0.1.0 wrote the file at a commit at which the flags had no groups."""
    shutil.copy(
        Path(__file__).with_name("older_run.json"),
        tmp_path / RUN_FILE,
    )
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
    assert read.resolved.max_steps == 80 and read.policy.intermediate_plans == "none"
    assert read.doctor[0].hint == "Give a longer --horizon."
    assert read.env.goals[0].kind == "pick_and_place"


@pytest.mark.parametrize(
    ("written", "read"),
    [("relative", "delta"), ("absolute", "absolute")],
)
def test_an_older_control_is_read_as_the_mode_of_an_action(tmp_path, written, read):
    content = json.loads(Path(__file__).with_name("older_run.json").read_text())
    content["config"]["control"] = written
    (tmp_path / RUN_FILE).write_text(json.dumps(content))
    assert load_description(tmp_path).config.env.control == read
