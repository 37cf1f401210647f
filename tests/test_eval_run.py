"""Tests that one class reads a run folder of any version, finished or not."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.episode_row import ROWS_FILE, make_row
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path
from sim.errors import UnknownNameError, WhiskerError
from sim.flags import replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.recordings import record_episode
from tests.runs import describe_run


@pytest.fixture(scope="module")
def record(blind_env):
    return record_episode(blind_env, "random")


@pytest.fixture
def folder(tmp_path, blind_env, record):
    """Yield a run of three episodes, open for writing, that has only the second of them."""
    config = replace_flags(describe_run(blind_env).config, episodes=3)
    with closing(RunFolder.create(tmp_path, describe_run(blind_env, config=config))) as folder:
        append(folder, record, 1)
        yield folder


@pytest.fixture
def run(folder):
    return Run.open(folder.path)


@pytest.fixture
def row(folder):
    return folder.rows[0]


@pytest.fixture
def arrays_file(folder, row):
    return folder.path / arrays_path(row)


def append(folder, record, episode_index):
    each = replace(record, episode_index=episode_index)
    folder.append(each, make_row(each))


def test_an_unfinished_run_can_be_read_and_knows_what_it_lacks(folder, record):
    run = Run.open(str(folder.path))
    assert not run.is_finished
    assert run.missing == [
        ("pick_place", 0),
        ("pick_place", 2),
    ]
    append(folder, record, 0)
    append(
        folder,
        replace(record, error="RuntimeError: no"),
        2,
    )
    assert run.is_finished
    assert run.missing == []


def test_a_run_that_goes_on_is_followed(folder, record, run):
    (first,) = run.rows
    append(folder, record, 2)
    assert run.rows == folder.rows
    assert [row.episode_index for row in run.rows] == [1, 2]
    # Rows that did not change are not read again.
    assert first == run.rows[0]
    assert run.rows[0] is run.rows[0]
    run.rows.clear()
    assert len(run.rows) == 2


def test_columns_of_a_later_version_are_kept(folder, run, row):
    later = {"start_position_m": [0.1, 0.2]}
    line = row.to_json() | later
    (folder.path / ROWS_FILE).write_text(json.dumps(line) + "\n")
    (read,) = run.rows
    assert read == replace(row, extra=later)
    assert read.to_json() == line


@pytest.mark.parametrize(
    "line", ["5", "[]", '"row"', '{"task": "pick_place"}', '{"outcome": "unheard of"}', "{"]
)
def test_a_line_that_is_no_row_is_named(folder, run, line):
    (folder.path / ROWS_FILE).write_text(line + "\n")
    with pytest.raises(WhiskerError, match="line 1"):
        _ = run.rows


def test_one_array_is_read_without_the_others(run, row, arrays_file, record):
    for name, array in vars(record.arrays).items():
        if name != "series":
            assert_array_equal(run.load_array(row, name), array)
    content = bytearray(arrays_file.read_bytes())
    content[content.find(record.arrays.chunk.tobytes())] ^= 0xFF
    arrays_file.write_bytes(content)
    with pytest.raises(WhiskerError, match=r"1\.npz"):
        run.load_arrays(row)
    ee_pos_world = run.load_array(row, "ee_pos_world")
    assert_array_equal(ee_pos_world, record.arrays.ee_pos_world)
    with pytest.raises(WhiskerError, match="an array 'colour'"):
        run.load_array(row, "colour")


def test_arrays_that_came_later_are_filled_in_one_by_one(run, row, arrays_file, record):
    stored = dict(np.load(arrays_file))
    del stored["goals_met"]
    del stored["closes_gripper"]
    np.savez(arrays_file, **stored)
    placed = list(PICK_AND_PLACE.stages).index("placed")
    (goals_met,) = run.load_array(row, "goals_met").T
    assert_array_equal(
        goals_met,
        record.arrays.progress[:, placed],
    )
    assert run.load_array(row, "closes_gripper") is None


def test_pickled_objects_are_not_loaded(run, row, arrays_file):
    np.savez(
        arrays_file,
        state=np.array([print], dtype=object),
    )
    with pytest.raises(WhiskerError, match="the recorded arrays"):
        run.load_array(row, "state")


def test_a_second_copy_of_the_world_has_the_cameras_asked_for_and_the_recorded_states(
    run, row, blind_env
):
    arrays = run.load_arrays(row)
    with closing(run.open_env(row.task, {"wrist_cam": (24, 32)})) as env:
        assert env.spec.name == blind_env.spec.name
        env.restore(arrays.step_snapshot[-1])
        images = env.observe().images
        assert images.keys() == {"wrist_cam"}
        assert images["wrist_cam"].shape == (24, 32, 3)
        assert_allclose(
            env.ee_pos_world(),
            arrays.ee_pos_world[-1],
            atol=1e-9,
        )


def test_a_task_that_was_not_run_has_no_world(run):
    with pytest.raises(UnknownNameError, match="pick_place"):
        run.open_env("pick_plaice", {})


def test_reading_a_run_imports_no_simulator_and_no_network(folder):
    code = (
        "import sys; from eval.run import Run\n"
        "run = Run.open(sys.argv[1]); "
        "assert len(run.rows) == 1 and run.load_arrays(run.rows[0]) and run.missing\n"
        "print(sorted({'mujoco', 'robosuite', 'libero', 'torch', 'lerobot', "
        "'transformers', 'cv2'} & set(sys.modules)))"
    )
    command = (sys.executable, "-c", code, folder.path)
    assert subprocess.check_output(command, text=True) == "[]\n"
