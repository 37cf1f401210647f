"""Tests of episodes that begin on a grid of initial states."""

from contextlib import closing

import numpy as np
import pytest

from eval.run import Run
from sim.errors import WhiskerError
from sim.init_grid import count_cells
from sim.registry import make_env
from sim.so101.scene_config import DEFAULT_SCENE

PICK_PLACE = "so101/pick_place"


def block_of(env, episode_index):
    """Return the position [m] and the quaternion of the block at the start of an episode."""
    env.reset(episode_index)
    model = env._env.model
    begin = model.jnt_qposadr[model.body("block").jntadr[0]]
    return env._env.data.qpos[begin : begin + 7].copy()


@pytest.fixture(scope="module")
def grid():
    with closing(make_env(PICK_PLACE, {}, init_grid="3x2")) as env:
        yield env


def test_blocks_lie_in_the_middle_of_their_cells(grid):
    assert (grid.spec.task, grid.spec.n_episodes) == ("pick_place_grid_3x2", 6)
    (low_x, high_x), (low_y, high_y) = DEFAULT_SCENE.block_x_m, DEFAULT_SCENE.block_y_m
    for episode_index in range(6):
        row, column = divmod(episode_index, 2)
        x_m = low_x + (row + 0.5) / 3 * (high_x - low_x)
        y_m = low_y + (column + 0.5) / 2 * (high_y - low_y)
        assert block_of(grid, episode_index)[:2] == pytest.approx([x_m, y_m])


def test_what_the_grid_does_not_set_is_drawn_as_without_it(grid, blind_env):
    for episode_index in (4, 1):
        block = block_of(grid, episode_index)
        blind_env.reset(episode_index)
        begin = blind_env.model.jnt_qposadr[blind_env.model.body("block").jntadr[0]]
        np.testing.assert_array_equal(
            block[3:],
            blind_env.data.qpos[begin + 3 : begin + 7],
        )


def test_an_episode_depends_on_its_cell_alone(grid):
    first = block_of(grid, 5)
    block_of(grid, 0)
    np.testing.assert_array_equal(block_of(grid, 5), first)
    # A plain episode of the environment inside is as it was.
    grid._env.reset(5)
    with closing(make_env(PICK_PLACE, {})) as plain:
        plain.reset(5)
        np.testing.assert_array_equal(grid._env.data.qpos, plain.data.qpos)


def test_a_number_is_set_by_its_name():
    with closing(make_env(PICK_PLACE, {}, init_grid="object yaw=4")) as env:
        quats = [block_of(env, episode_index)[3:] for episode_index in range(4)]
    yaws_rad = [2 * np.arctan2(quat[3], quat[0]) for quat in quats]
    low, high = DEFAULT_SCENE.block_yaw_rad
    assert yaws_rad == pytest.approx([low + (k + 0.5) / 4 * (high - low) for k in range(4)])


def test_eval_runs_each_cell_once_and_resumes(eval_here, tmp_path):
    flags = ("--policy", "zero", "--init-grid", "2x2", "--max-steps", 2)
    done = eval_here(*flags, "--run-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    run = Run.open(folder)
    assert [row.episode_index for row in run.rows] == [0, 1, 2, 3]
    assert {row.task for row in run.rows} == {"pick_place_grid_2x2"} and run.is_finished
    rows = folder / "episodes.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:2]))
    assert eval_here("--resume", folder).returncode == 0
    assert len(Run.open(folder).rows) == 4
    with closing(run.open_env("pick_place_grid_2x2", {})) as env:
        recorded = run.load_array(run.rows[3], "object_pos_world")
        np.testing.assert_allclose(block_of(env, 3)[:3], recorded[0], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "n_cells"),
    [
        ("10", 10),
        ("4x5", 20),
        ("object x=3,a=4", 12),
    ],
)
def test_cells_are_counted_without_the_environment(text, n_cells):
    assert count_cells(text) == n_cells


@pytest.mark.parametrize(
    "text",
    ["", "0x3", "3x", "axb", "2000x2000"],
)
def test_only_numbers_of_cells_are_a_grid(text):
    with pytest.raises(WhiskerError, match="expected numbers of values, such as 10x10"):
        count_cells(text)


@pytest.mark.parametrize(
    ("env_name", "text", "said"),
    [
        (PICK_PLACE, "2x2x2x2", "at most 3 numbers: object x, object y, object yaw"),
        (PICK_PLACE, "object z=3", "object yaw"),
        ("so101/pick_place_words", "3x3", "none can be set"),
    ],
)
def test_what_an_environment_cannot_set_is_refused(env_name, text, said):
    with pytest.raises(WhiskerError, match=said):
        make_env(env_name, {}, init_grid=text)
