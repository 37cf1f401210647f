"""Plan quality of hand-made whiskers, whose numbers are known, and of real runs.

One run is of a policy that reaches the object, the other of one that does not.
"""

import io
import json
import shutil

import numpy as np
import pytest
from pytest import approx
from rich.console import Console
from safetensors.numpy import load_file, save_file

from eval.config import EvalConfig
from eval.episode_arrays import EpisodeArrays, EpisodeRecord
from eval.episode_row import make_row
from eval.run import Run
from policies.registry import CHECKPOINT_FOLDER
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.recordings import record_run
from tests.runs import make_trajectory_of
from viz.path_measures import (
    compute_length,
    compute_log_dimensionless_jerk,
    compute_spread,
    locate_goal,
)
from viz.plan_assessment import save_plan_quality
from viz.plan_quality import PLAN_QUALITY_FILE, Mean, print_plan_quality, summarise_episode
from viz.prediction_quality import compute_plan_quality
from viz.whiskers import Whiskers

HORIZON = 4
GOAL_XY = (0.2, 0.1)

STAGES = tuple(PICK_AND_PLACE.stages)


def line(start, n_points, step_m=0.01):
    """Return points along x."""
    return np.array(start, dtype=float) + step_m * np.arange(n_points)[:, None] * np.eye(3)[0]


def episode(ee_pos_world, object_pos_world=(0.04, 0.03, 0.0)):
    """Return the arrays that plan quality is computed from.

    The object lies still unless it has a position for every moment.
    """
    n_moments = len(ee_pos_world)
    object_pos_world = np.broadcast_to(object_pos_world, (n_moments, 3))
    return EpisodeArrays(
        state=np.zeros((n_moments, 6), np.float32),
        action=np.zeros((n_moments - 1, 6), np.float32),
        clipped=np.zeros(n_moments - 1, bool),
        ik_error_m=np.full(n_moments - 1, np.nan),
        ee_pos_world=ee_pos_world,
        object_pos_world=object_pos_world,
        object_height_m=np.zeros(n_moments),
        goal_distance_m=np.linalg.norm(
            object_pos_world[:, :2] - GOAL_XY,
            axis=1,
        ),
        progress=np.zeros((n_moments, len(STAGES)), bool),
        joint_progress=np.full(n_moments, np.nan),
        goals_met=np.zeros((n_moments, 1), bool),
        step_snapshot=np.zeros((n_moments, 1)),
        prediction_step=np.zeros(1, np.int64),
        chunk=np.zeros((1, HORIZON, 6), np.float32),
        snapshot=np.zeros((1, 1)),
        n_executed=np.zeros(1, np.int64),
    )


def whiskers(*bundles, every=2):
    """Return whiskers with one bundle `(K, H + 1, 3)` a prediction."""
    steps = every * np.arange(len(bundles))
    return Whiskers(np.stack(bundles), steps, np.full(len(bundles), every))


def rate(taken, *plans):
    """Return the quality of predictions with one plan each, of an episode with this path taken."""
    return compute_plan_quality(whiskers(*(plan[None] for plan in plans)), episode(taken))


STRAIGHT = line((0, 0, 0), 5)
# It lies 5 mm to the side of STRAIGHT, and begins after two of its steps.
ASIDE = line((0.02, 0.005, 0), 5)


def test_a_straight_plan_that_is_executed():
    """The path deviates nowhere from two predictions of four steps.

    Two steps are executed of each, and the second prediction continues the first.
    """
    first, second = rate(STRAIGHT, STRAIGHT, line((0.02, 0, 0), 5))
    assert (first.step, second.step) == (0, 2)
    assert first.path_length_m == approx(0.04)
    assert first.displacement_m == approx(0.04)
    # The episode ends in the middle of the second prediction.
    assert (first.n_compared, second.n_compared) == (4, 2)
    assert first.deviation_max_m == approx(0, abs=1e-15)
    assert first.nearest_to_object_m == first.end_to_object_m == approx(0.03)
    assert first.change_m is None
    assert second.change_m == approx(0, abs=1e-15)
    assert first.bundle_half_m is None
    assert first.bundle_end_m is None
    assert first.end_to_goal_m is None


def test_departing_from_a_plan_and_planning_anew():
    """The second plan lies 5 mm to the side of the first, and the robot follows it."""
    taken = np.concatenate([STRAIGHT[:3], ASIDE[1:3]])
    first, second = rate(taken, STRAIGHT, ASIDE)
    assert first.deviation_mean_m == approx(0.0025)
    assert first.deviation_max_m == approx(0.005)
    assert second.deviation_max_m == approx(0, abs=1e-15)
    assert second.change_m == approx(0.005)


def test_plans_executed_to_their_end_have_nothing_in_common():
    first, second = rate(STRAIGHT, STRAIGHT[:3], STRAIGHT[2:])
    assert first.change_m is None
    assert second.change_m is None


def test_a_bundle_of_rays():
    """The spread of four plans grows from 0 to r.

    They lead from one point to the corners of a square whose diagonal is 2 r.
    """
    corners = 0.02 * np.array(
        [
            [1, 0, 0],
            [0, 1, 0],
            [-1, 0, 0],
            [0, -1, 0],
        ]
    )
    bundle = np.linspace(0, 1, HORIZON + 1)[None, :, None] * corners[:, None]
    (row,) = compute_plan_quality(whiskers(bundle), episode(bundle[0]))
    assert row.bundle_half_m == approx(0.01)
    assert row.bundle_end_m == approx(0.02)
    assert np.isnan(compute_spread(corners[:1]))


def move_with_minimum_jerk(goal, n_points):
    u = np.linspace(0, 1, n_points)
    return np.outer(
        10 * u**3 - 15 * u**4 + 6 * u**5,
        goal,
    )


def test_smoothness_of_a_minimum_jerk_movement():
    """s = 10 u³ - 15 u⁴ + 6 u⁵ has ∫ jerk² = 720 and a highest speed of 15/8."""
    path = move_with_minimum_jerk([0.3, -0.2, 0.1], 2001)
    assert compute_log_dimensionless_jerk(path) == approx(-np.log(720 * 64 / 225), abs=0.02)


@pytest.mark.parametrize(
    "radius_m",
    [0.01, 0.5],
)
def test_smoothness_of_a_circle(radius_m):
    """An arc θ at constant speed v has the jerk v³/r², so D³/v² · D · jerk² = θ⁴."""
    angle = np.linspace(0, np.pi, 1001)
    path = radius_m * np.column_stack(
        [
            np.cos(angle),
            np.sin(angle),
            0 * angle,
        ]
    )
    assert compute_log_dimensionless_jerk(path) == approx(-4 * np.log(np.pi), abs=0.02)
    assert compute_length(path) == approx(np.pi * radius_m, rel=1e-5)


def test_smoothness_is_undefined_without_jerk():
    for path in (line((0, 0, 0), 3), np.zeros((9, 3)), line((0, 0, 0), 9, step_m=0.25)):
        assert np.isnan(compute_log_dimensionless_jerk(path))


def test_noise_is_less_smooth_and_gets_nowhere():
    rng = np.random.default_rng(0)
    paths = move_with_minimum_jerk([0.3, 0, 0], 41), rng.normal(0, 0.01, (41, 3))
    (reach,), (noise,) = (rate(path, path) for path in paths)
    assert reach.smoothness > noise.smoothness + 5
    assert reach.displacement_m == approx(reach.path_length_m)
    assert noise.displacement_m < 0.1 * noise.path_length_m


def test_a_plan_that_diverges_has_no_numbers_of_its_end():
    path = STRAIGHT.copy()
    path[3:] = np.nan
    (row,) = rate(STRAIGHT, path)
    assert row.path_length_m is row.smoothness is row.end_to_object_m is row.deviation_max_m is None


def test_the_goal_is_found_where_the_objects_way_determines_it():
    steps = np.linspace(0, 1, 30)
    bent = np.column_stack([0.1 * steps, 0.05 * steps**2, 0 * steps])
    straight = np.column_stack([0.1 * steps, 0.05 * steps, 0 * steps])
    moved = episode(bent, bent)
    assert locate_goal(moved) == approx(
        GOAL_XY,
        rel=0,
        abs=1e-12,
    )
    assert locate_goal(episode(straight, straight)) is None
    # The object stayed.
    assert locate_goal(episode(bent)) is None
    moved.goal_distance_m[15:] += 0.01
    assert locate_goal(moved) is None
    moved.goal_distance_m[:] = np.nan
    assert locate_goal(moved) is None


def test_the_distance_to_the_goal_is_horizontal():
    steps = np.linspace(0, 1, 5)
    taken = np.column_stack([0.1 * steps, 0.05 * steps**2, 0.3 * steps])
    (row,) = compute_plan_quality(whiskers(taken[None]), episode(taken, taken))
    assert row.end_to_goal_m == approx(np.hypot(0.1, 0.05))


def test_a_mean_says_of_how_many():
    arrays = episode(STRAIGHT)
    record = EpisodeRecord(
        "t",
        3,
        False,
        "",
        1.0,
        arrays,
        make_trajectory_of(arrays),
    )
    row = make_row(record)
    predictions = compute_plan_quality(
        whiskers(STRAIGHT[None], ASIDE[None]),
        arrays,
    )
    quality = summarise_episode(row, arrays, predictions)
    assert quality.means["change_m"].value == approx(0.005)
    assert quality.means["change_m"].n == 1
    assert quality.means["bundle_end_m"] == Mean(None, 0)
    assert quality.closest_plan_m == approx(0.025)
    assert quality.taken_length_m == approx(0.04)
    first, *others = quality.as_rows()
    assert first["kind"] == "episode"
    assert first["n_change_m"] == 1
    assert first["n_path_length_m"] == 2
    assert first["decisive_step"] == row.decisive_step
    assert first["decisive_event"] == row.decisive_event
    assert [other["kind"] for other in others] == ["prediction", "prediction"]
    assert [other["step"] for other in others] == [0, 2]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(WhiskerError, match="run folder"):
        save_plan_quality(Run.open(tmp_path))


def test_workers_compute_the_same_numbers_to_the_last_bit(six_failures):
    file = six_failures.path / PLAN_QUALITY_FILE
    one = save_plan_quality(six_failures)
    written = file.read_bytes()
    file.unlink()
    assert save_plan_quality(six_failures, workers=2) == one
    assert file.read_bytes() == written
    file.unlink()
    assert [quality.episode_index for quality in one] == [0, 1, 2, 3, 4, 5]


def test_the_shipped_act_differs_from_one_with_its_weights_shuffled(tmp_path):
    shuffled = shutil.copytree(CHECKPOINT_FOLDER / "act", tmp_path / "shuffled")
    rng = np.random.default_rng(0)
    weights = load_file(shuffled / "model.safetensors")
    for values in weights.values():
        rng.shuffle(values.reshape(-1))
    save_file(weights, shuffled / "model.safetensors", metadata={"format": "pt"})
    config = make_config(
        EvalConfig,
        policy="act",
        episodes=1,
        max_steps=100,
    )
    run = record_run(config, tmp_path)
    noise_run = record_run(
        replace_flags(config, checkpoint=str(shuffled)),
        tmp_path,
    )
    (act,) = save_plan_quality(run)
    (noise,) = save_plan_quality(noise_run)
    assert act.closest_plan_m < 0.01 < 0.03 < noise.closest_plan_m
    assert act.means["smoothness"].value > noise.means["smoothness"].value + 1

    def straightness(quality):
        return quality.means["displacement_m"].value / quality.means["path_length_m"].value

    assert straightness(act) > 3 * straightness(noise)
    lines = (run.path / PLAN_QUALITY_FILE).read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["episode"] + ["prediction"] * 5
    console = Console(
        width=80,
        file=io.StringIO(),
    )
    print_plan_quality(console, [act, noise])
    table = console.file.getvalue()
    assert "median" in table
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
