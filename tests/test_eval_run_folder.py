import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_row import ROWS_FILE, load_rows, make_row
from eval.outcome import Event
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder, arrays_path
from policies.baselines import BASELINES
from sim.errors import WhiskerError
from sim.files import UNFINISHED_PREFIX
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.runs import describe_run

STAGES = tuple(PICK_AND_PLACE.stages)


@pytest.fixture(scope="module")
def record(blind_env):
    return run_episode(
        blind_env, BASELINES["random"](blind_env), 0, EpisodeRecorder(), RolloutSettings(1, 12)
    )


@pytest.fixture
def run(tmp_path, blind_env, record):
    """Return a closed run folder with three episodes."""
    run = RunFolder.create(tmp_path, describe_run(blind_env))
    for index in range(3):
        each = replace(record, episode_index=index)
        run.append(each, make_row(each))
    run.close()
    return run


def test_rows_and_arrays_come_back_as_they_were(run, record):
    rows = load_rows(run.path)
    assert rows == run.rows and [row.episode_index for row in rows] == [0, 1, 2]
    arrays = Run.open(run.path).load_arrays(rows[1])
    np.testing.assert_array_equal(arrays.step_snapshot, record.arrays.step_snapshot)
    np.testing.assert_array_equal(arrays.progress, record.arrays.progress)


def test_joint_environments_leave_the_inverse_kinematics_columns_empty(run):
    assert all(
        row.ik_failure_rate is None and row.ik_error_mm is None for row in load_rows(run.path)
    )
    arrays = Run.open(run.path).load_arrays(run.rows[0])
    assert arrays.ik_error_m.shape == arrays.clipped.shape and np.isnan(arrays.ik_error_m).all()


def test_columns_that_came_later_are_missing_in_older_runs(run):
    """Rows and arrays may lack columns that were added later.

    A row that lacks any other field is damaged.
    """
    decisive = ("decisive_step", "decisive_event")
    later = ("ik_failure_rate", "ik_error_mm", "goal", "final_joint_progress", *decisive)
    later_arrays = ("ik_error_m", "joint_progress", "goals_met", "closes_gripper")
    old = [{k: v for k, v in json.loads(line).items() if k not in later} for line in _lines(run)]
    (run.path / ROWS_FILE).write_text("".join(json.dumps(row) + "\n" for row in old))
    file = run.path / arrays_path(run.rows[0])
    with np.load(file) as arrays:
        np.savez(
            file,
            **{name: arrays[name] for name in arrays.files if name not in later_arrays},
        )
    older = dict.fromkeys(("goal", *decisive))
    assert load_rows(run.path) == [replace(row, **older) for row in run.rows]
    assert [row.shown_step for row in load_rows(run.path)] == [
        row.decided_at_step for row in run.rows
    ]
    old_arrays = Run.open(run.path).load_arrays(run.rows[0])
    assert old_arrays.closes_gripper is None
    assert np.isnan(old_arrays.ik_error_m).all() and old_arrays.joint_progress is None
    assert old_arrays.is_of_pick_and_place
    np.testing.assert_array_equal(
        old_arrays.goals_met[:, 0], old_arrays.progress[:, STAGES.index("placed")]
    )
    (run.path / ROWS_FILE).write_text(
        json.dumps({k: v for k, v in old[0].items() if k != "n_steps"}) + "\n"
    )
    with pytest.raises(WhiskerError, match="n_steps"):
        load_rows(run.path)


def test_a_row_says_where_it_went_wrong(run):
    """A row keeps the event that decided it, and shows the decisive step first."""
    for row in load_rows(run.path):
        assert (
            isinstance(row.decisive_event, Event)
            and row.shown_step == row.decisive_step <= row.n_steps
        )


def test_the_action_says_whether_the_gripper_closes(blind_env, record):
    gripper = record.arrays.action[:, blind_env.spec.action.gripper_index]
    np.testing.assert_array_equal(record.arrays.closes_gripper, gripper < 15)


def _lines(run):
    return (run.path / ROWS_FILE).read_text().splitlines()


def test_the_name_says_when_what_and_where(run):
    assert run.path.name.endswith("Z-random-so101-pick_place")
    assert json.loads((run.path / RUN_FILE).read_text())["version"] == 1


def test_two_runs_of_one_second_get_two_folders(tmp_path, blind_env):
    paths = {RunFolder.create(tmp_path, describe_run(blind_env)).path for _ in range(3)}
    assert len(paths) == 3


@pytest.mark.parametrize(
    "torn",
    [b"{", b'{"task": "pick_place", "episode_ind', b"\x00\x00\x00"],
)
def test_a_torn_last_line_is_taken_off(run, torn):
    file = run.path / ROWS_FILE
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert load_rows(run.path) == run.rows
    reopened = RunFolder.reopen(run.path)
    reopened.close()
    assert reopened.rows == run.rows and file.read_bytes() == whole


def test_a_damaged_line_before_the_last_is_named(run):
    file = run.path / ROWS_FILE
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], b"oops", *lines[2:]]))
    with pytest.raises(WhiskerError, match="line 2"):
        RunFolder.reopen(run.path)


def test_a_newer_version_and_no_run_at_all_are_refused(run, tmp_path):
    (run.path / RUN_FILE).write_text('{"version": 99}')
    with pytest.raises(WhiskerError, match="Update whisker-eval"):
        RunFolder.reopen(run.path)
    with pytest.raises(WhiskerError, match=r"a run folder with a run\.json"):
        RunFolder.reopen(tmp_path / "nowhere")


def test_one_writer_at_a_time(run):
    code = (
        "import sys, pathlib\n"
        "from eval.run_folder import RunFolder\n"
        "run = RunFolder.reopen(pathlib.Path(sys.argv[1])); "
        "print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, run.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(WhiskerError, match="no other process writing"):
            RunFolder.reopen(run.path)
    finally:
        other.communicate()


def test_a_truncated_episode_file_is_named(run):
    file = run.path / arrays_path(run.rows[0])
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WhiskerError, match=r"0\.npz"):
        Run.open(run.path).load_arrays(run.rows[0])


def test_a_full_disk_loses_nothing_that_was_written(run, record, monkeypatch):
    reopened = RunFolder.reopen(run.path)
    with Path("/dev/full").open("ab", buffering=0) as full:
        monkeypatch.setattr(reopened, "_file", full)
        with pytest.raises(WhiskerError, match="No space left on device"):
            reopened.append(record, make_row(record))
        reopened.close()
    assert load_rows(run.path) == run.rows == reopened.rows


def test_nothing_half_written_stays_behind(run):
    names = {path.name for path in run.path.rglob("*") if path.is_file()}
    assert names == {RUN_FILE, ROWS_FILE, "0.npz", "1.npz", "2.npz"}


def test_what_a_crash_left_half_done_is_removed(run):
    (run.path / "episodes" / f"{UNFINISHED_PREFIX}x.npz").write_bytes(b"half")
    RunFolder.reopen(run.path).close()
    test_nothing_half_written_stays_behind(run)
