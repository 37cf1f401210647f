import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.episode_row import ROWS_FILE, load_rows, make_row
from eval.outcome import Event
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder, arrays_path
from sim.errors import WhiskerError
from sim.files import UNFINISHED_PREFIX
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.recordings import record_episode
from tests.runs import assert_same_arrays, describe_run


@pytest.fixture(scope="module")
def record(blind_env):
    return record_episode(blind_env, "random")


@pytest.fixture
def run(tmp_path, blind_env, record):
    """Return a closed run folder with three episodes."""
    with closing(RunFolder.create(tmp_path, describe_run(blind_env))) as run:
        for index in range(3):
            each = replace(record, episode_index=index)
            run.append(each, make_row(each))
    return run


@pytest.fixture
def rows_file(run):
    return run.path / ROWS_FILE


def load_first_arrays(run):
    return Run.open(run.path).load_arrays(run.rows[0])


def test_rows_and_arrays_come_back_as_they_were(run, record):
    rows = load_rows(run.path)
    assert rows == run.rows
    assert [row.episode_index for row in rows] == [0, 1, 2]
    assert_same_arrays(load_first_arrays(run), record.arrays)


def test_joint_environments_leave_the_inverse_kinematics_columns_empty(run):
    for row in load_rows(run.path):
        assert row.ik_failure_rate is None
        assert row.ik_error_mm is None
    arrays = load_first_arrays(run)
    assert arrays.ik_error_m.shape == arrays.clipped.shape
    assert np.isnan(arrays.ik_error_m).all()


def write_without(rows_file, rows, *names):
    """Write the rows without these columns."""
    lines = []
    for row in rows:
        columns = row.to_json()
        for name in names:
            columns.pop(name, None)
        lines.append(json.dumps(columns) + "\n")
    rows_file.write_text("".join(lines))


def test_columns_that_came_later_are_missing_in_older_runs(run, rows_file):
    later = ("goal", "decisive_step", "decisive_event")
    never_set = ("ik_failure_rate", "ik_error_mm", "final_joint_progress")
    write_without(
        rows_file,
        run.rows,
        *later,
        *never_set,
    )
    rows = load_rows(run.path)
    assert rows == [replace(row, **dict.fromkeys(later)) for row in run.rows]
    for row in rows:
        assert row.shown_step == row.decided_at_step


def test_a_row_that_lacks_another_field_is_damaged(run, rows_file):
    write_without(rows_file, run.rows, "n_steps")
    with pytest.raises(WhiskerError, match="n_steps"):
        load_rows(run.path)


def test_arrays_that_came_later_are_missing_in_older_runs(run):
    file = run.path / arrays_path(run.rows[0])
    stored = dict(np.load(file))
    for name in ("ik_error_m", "joint_progress", "goals_met", "closes_gripper"):
        stored.pop(name, None)
    np.savez(file, **stored)
    arrays = load_first_arrays(run)
    assert arrays.closes_gripper is None
    assert np.isnan(arrays.ik_error_m).all()
    assert arrays.joint_progress is None
    assert arrays.is_of_pick_and_place
    placed = arrays.progress[:, list(PICK_AND_PLACE.stages).index("placed")]
    np.testing.assert_array_equal(
        arrays.goals_met[:, 0],
        placed,
    )


def test_a_row_says_where_it_went_wrong(run):
    """A row keeps the event that decided it, and shows the decisive step first."""
    for row in load_rows(run.path):
        assert isinstance(row.decisive_event, Event)
        assert row.shown_step == row.decisive_step <= row.n_steps


def test_the_action_says_whether_the_gripper_closes(blind_env, record):
    gripper = record.arrays.action[:, blind_env.spec.action.gripper_index]
    np.testing.assert_array_equal(
        record.arrays.closes_gripper,
        gripper < 15,
    )


def test_the_name_says_when_what_and_where(run):
    assert run.path.name.endswith("Z-random-so101-pick_place")


def test_two_runs_of_one_second_get_two_folders(tmp_path, blind_env):
    paths = {RunFolder.create(tmp_path, describe_run(blind_env)).path for _ in range(3)}
    assert len(paths) == 3


@pytest.mark.parametrize(
    "torn",
    [b"{", b'{"task": "pick_place", "episode_ind', b"\x00\x00\x00"],
)
def test_a_torn_last_line_is_taken_off(run, rows_file, torn):
    whole = rows_file.read_bytes()
    rows_file.write_bytes(whole + torn)
    assert load_rows(run.path) == run.rows
    reopened = RunFolder.reopen(run.path)
    reopened.close()
    assert reopened.rows == run.rows
    assert rows_file.read_bytes() == whole


def test_a_damaged_line_before_the_last_is_named(run, rows_file):
    lines = rows_file.read_text().splitlines()
    lines[1] = "oops"
    rows_file.write_text("\n".join(lines))
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
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
            run.path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(WhiskerError, match="no other process writing"):
            RunFolder.reopen(run.path)


def test_a_truncated_episode_file_is_named(run):
    file = run.path / arrays_path(run.rows[0])
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WhiskerError, match=r"0\.npz"):
        load_first_arrays(run)


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
