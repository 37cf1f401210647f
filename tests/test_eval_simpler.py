"""Runs the policies of Bridge in SimplerEnv's tasks, and looks at what they planned.

They need the extra and its assets, as `tests/test_sim_simpler.py` does.
"""

from contextlib import closing

import imageio.v3 as iio
import numpy as np
import pytest

from eval.run import Run
from policies.config import PolicyConfig
from policies.native.native_checkpoint import open_native_checkpoint
from policies.native.pi_zero_statistics import read_statistics
from tests.native_checkpoints import save_open_pi_zero, save_spatial_vla
from tests.runs import assert_same_arrays
from viz.cli import main as whiskers
from viz.event_board import EventBoard
from viz.run_branches import RunBranches

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("simpler", "one_thread")]

ENV = "simpler/carrot_on_plate"


def evaluate(eval_here, tmp_path, policy, checkpoint, flags):
    """Run one short episode without the doctor, and return the run with its only row."""
    command = f"--policy {policy} --checkpoint {checkpoint} --env {ENV} --episodes 1 {flags}"
    done = eval_here(f"{command} --no-doctor --quiet --run-dir", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").iterdir()
    run = Run.open(path)
    (row,) = run.rows
    return run, row


def test_open_pi_zero_observes_acts_and_is_drawn(eval_here, run_here, tmp_path):
    checkpoint = save_open_pi_zero(tmp_path, words=["carrot"])
    run, row = evaluate(eval_here, tmp_path, "open_pi_zero", checkpoint, "--max-steps 8")
    arrays = run.load_arrays(row)
    assert arrays.prediction_step.tolist() == [0, 4]
    # Bridge's robot and this one begin alike, by the numbers that open-pi-zero published.
    named = PolicyConfig("open_pi_zero", str(checkpoint))
    low, high = read_statistics(open_native_checkpoint(named), 7).state
    assert (low < arrays.state[0]).all() and (arrays.state[0] < high).all()
    # The same gripper command for two steps has moved the fingers to its side.
    opens = arrays.action[:, 6] > 0
    repeated = np.flatnonzero(opens[1:] == opens[:-1]) + 1
    assert len(repeated)
    assert ((arrays.state[repeated + 1, 6] > 0.5) == opens[repeated]).all()

    still = tmp_path / "still.png"
    done = run_here(whiskers, run.path, "--output", still, "--step", 0)
    assert done.returncode == 0, done.stderr
    image = iio.imread(still).astype(int)
    assert image.shape == (960, 1280, 3)
    # The plan begins at the gripper, which is right of the middle at the top.
    red, green, blue = image[:700].transpose(2, 0, 1)
    is_plan = (green > red + 60) & (green > blue + 20)
    rows, columns = np.nonzero(is_plan)
    assert len(rows) > 50
    assert columns.mean() > 500 and rows.mean() < 500


@pytest.mark.exhaustive
def test_a_branch_goes_on_by_replay_as_what_was_recorded(eval_here, tmp_path):
    checkpoint = save_open_pi_zero(tmp_path, words=["carrot"])
    run, row = evaluate(eval_here, tmp_path, "open_pi_zero", checkpoint, "--max-steps 8")
    with closing(RunBranches(EventBoard(), run)) as branches:
        branches.command({"command": "branch", "key": f"{ENV}/0", "prediction": 1})
        branches.wait()
        assert not branches.board.status["message"], branches.board.status
    (kept,) = run.branches
    assert kept.branch.at_step == 4
    assert_same_arrays(run.load_arrays(kept), run.load_arrays(row))


@pytest.mark.exhaustive
def test_spatial_vla_acts_with_both_ends_of_the_gripper(eval_here, tmp_path):
    checkpoint = save_spatial_vla(tmp_path / "checkpoint")
    flags = "--max-steps 3 --intermediate-plans"
    run, row = evaluate(eval_here, tmp_path, "spatialvla", checkpoint, flags)
    arrays = run.load_arrays(row)
    assert arrays.chunk.shape == (3, 4, 7)
    assert set(np.unique(arrays.chunk[..., 6])) <= {-1.0, 1.0}
    # One action of each averaged plan is executed.
    np.testing.assert_array_equal(arrays.action, arrays.chunk[:, 0])
