"""Tests that one class reads a run folder of any version, finished or not."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_row import ROWS_FILE, make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path
from policies.baselines import BASELINES
from sim.errors import UnknownNameError, WhiskerError
from sim.flags import replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.runs import describe_run

N_ASKED = 3

STAGES = tuple(PICK_AND_PLACE.stages)


@pytest.fixture(scope="module")
def record(blind_env):
    return run_episode(
        blind_env, BASELINES["random"](blind_env), 0, EpisodeRecorder(), RolloutSettings(1, 12)
    )


@pytest.fixture
def folder(tmp_path, blind_env, record):
    """Yield a run of `N_ASKED` episodes, open for writing, that has only the second of them."""
    description = describe_run(blind_env)
    description = replace(
        description,
        config=replace_flags(description.config, episodes=N_ASKED),
    )
    with closing(RunFolder.create(tmp_path, description)) as folder:
        append(folder, record, 1)
        yield folder


def append(folder, record, episode_index):
    each = replace(record, episode_index=episode_index)
    folder.append(each, make_row(each))


def test_an_unfinished_run_can_be_read_and_knows_what_it_lacks(folder, record):
    run = Run.open(str(folder.path))
    assert not run.is_finished and run.missing == [
        ("pick_place", 0),
        ("pick_place", 2),
    ]
    append(folder, record, 0)
    append(folder, replace(record, error="RuntimeError: no"), 2)
    assert run.is_finished and run.missing == []


def test_a_run_that_goes_on_is_followed(folder, record):
    run = Run.open(folder.path)
    (first,) = run.rows
    append(folder, record, 2)
    assert run.rows == folder.rows and [row.episode_index for row in run.rows] == [1, 2]
    # Rows that did not change are not read again.
    assert first == run.rows[0] and run.rows[0] is run.rows[0]
    run.rows.clear()
    assert len(run.rows) == 2


def test_columns_of_a_later_version_are_kept(folder):
    line = folder.rows[0].to_json() | {"start_position_m": [0.1, 0.2]}
    (folder.path / ROWS_FILE).write_text(json.dumps(line) + "\n")
    (row,) = Run.open(folder.path).rows
    assert row.extra == {"start_position_m": [0.1, 0.2]} and row.to_json() == line
    assert replace(row, extra={}) == folder.rows[0]


@pytest.mark.parametrize(
    "line", ["5", "[]", '"row"', '{"task": "pick_place"}', '{"outcome": "unheard of"}', "{"]
)
def test_a_line_that_is_no_row_is_named(folder, line):
    (folder.path / ROWS_FILE).write_text(line + "\n")
    with pytest.raises(WhiskerError, match="line 1"):
        _ = Run.open(folder.path).rows


def test_one_array_is_read_without_the_others(folder, record):
    run, (row,) = Run.open(folder.path), folder.rows
    for name, array in vars(record.arrays).items():
        if name == "series":
            continue
        read = run.load_array(row, name)
        assert read is None if array is None else np.array_equal(read, array, equal_nan=True)
    file = folder.path / arrays_path(row)
    content = bytearray(file.read_bytes())
    at = content.find(record.arrays.chunk.tobytes())
    content[at] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(WhiskerError, match=r"1\.npz"):
        run.load_arrays(row)
    np.testing.assert_array_equal(
        run.load_array(row, "ee_pos_world"),
        record.arrays.ee_pos_world,
    )
    with pytest.raises(WhiskerError, match="an array 'colour'"):
        run.load_array(row, "colour")


def test_arrays_that_came_later_are_filled_in_one_by_one(folder, record):
    run, (row,) = Run.open(folder.path), folder.rows
    file = folder.path / arrays_path(row)
    with np.load(file) as stored:
        np.savez(
            file,
            **{
                name: stored[name]
                for name in stored.files
                if name not in ("goals_met", "closes_gripper")
            },
        )
    placed = record.arrays.progress[:, STAGES.index("placed")]
    np.testing.assert_array_equal(
        run.load_array(row, "goals_met")[:, 0],
        placed,
    )
    assert run.load_array(row, "closes_gripper") is None


def test_pickled_objects_are_not_loaded(folder):
    run, (row,) = Run.open(folder.path), folder.rows
    np.savez(
        folder.path / arrays_path(row),
        state=np.array([print], dtype=object),
    )
    with pytest.raises(WhiskerError, match="the recorded arrays"):
        run.load_array(row, "state")


def test_a_second_copy_of_the_world_has_the_cameras_asked_for_and_the_recorded_states(
    folder, blind_env
):
    run, (row,) = Run.open(folder.path), folder.rows
    arrays = run.load_arrays(row)
    with closing(run.open_env(row.task, {"wrist_cam": (24, 32)})) as env:
        assert env.spec.name == blind_env.spec.name
        env.restore(arrays.step_snapshot[-1])
        assert {name: image.shape for name, image in env.observe().images.items()} == {
            "wrist_cam": (24, 32, 3)
        }
        np.testing.assert_allclose(env.ee_pos_world(), arrays.ee_pos_world[-1], atol=1e-9)


def test_a_task_that_was_not_run_has_no_world(folder):
    with pytest.raises(UnknownNameError, match="pick_place"):
        Run.open(folder.path).open_env("pick_plaice", {})


def test_reading_a_run_imports_no_simulator_and_no_network(folder):
    code = (
        "import sys; from eval.run import Run\n"
        "run = Run.open(sys.argv[1]); "
        "assert len(run.rows) == 1 and run.load_arrays(run.rows[0]) and run.missing\n"
        "print(sorted({'mujoco', 'robosuite', 'libero', 'torch', 'lerobot', "
        "'transformers', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder.path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
