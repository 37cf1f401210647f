"""Computes the quality of single predictions from their whiskers.

Positions are those of the tool centre point, in metres of the world. An undefined number is None,
never 0.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float64

from eval.episode_arrays import EpisodeArrays
from viz.path_measures import (
    compute_distances,
    compute_length,
    compute_log_dimensionless_jerk,
    compute_spread,
    locate_goal,
)
from viz.whiskers import Whiskers


@dataclass(frozen=True)
class PlanQuality:
    """Holds the numbers of one prediction.

    The whisker is that of the executed plan; its point j is j control steps ahead.

    Attributes:
        step: control step of the prediction.
        path_length_m: length of the whole whisker.
        displacement_m: distance from its start to its end. Noise has a long path and a small
            displacement.
        smoothness: its `compute_log_dimensionless_jerk`; None for a horizon below 3, and without
            motion.
        deviation_mean_m: mean distance from the whisker to the robot's position at the same step,
            over all steps ahead that the episode still had. It is 0 while the plan is executed,
            since the simulation is exact. After that, it is how far the robot went from what it had
            planned.
        deviation_max_m: the largest of these distances.
        n_compared: the number of these steps.
        bundle_half_m: spread of the sampled plans at half the horizon, rounded up: the root mean
            square distance to their mean. None for fewer than two samples.
        bundle_end_m: their spread at the horizon.
        end_to_object_m: distance from the whisker's end to the object's position at the prediction.
        nearest_to_object_m: smallest distance from a point of the whisker, its start included, to
            that position.
        end_to_goal_m: horizontal distance from the whisker's end to the centre of the goal; see
            `locate_goal`.
        change_m: mean distance to the previous prediction's whisker over the steps ahead that both
            reach. None if there are none, as when every plan is executed to its end.
    """

    step: int
    path_length_m: float | None
    displacement_m: float | None
    smoothness: float | None
    deviation_mean_m: float | None
    deviation_max_m: float | None
    n_compared: int
    bundle_half_m: float | None
    bundle_end_m: float | None
    end_to_object_m: float | None
    nearest_to_object_m: float | None
    end_to_goal_m: float | None
    change_m: float | None


_NOT_AVERAGED = ("step", "n_compared")
# The names of the numbers that an episode has the mean of.
AVERAGED = tuple(field.name for field in fields(PlanQuality) if field.name not in _NOT_AVERAGED)


def compute_plan_quality(whiskers: Whiskers, arrays: EpisodeArrays) -> list[PlanQuality]:
    """Return the quality of every prediction of an episode, in order."""
    goal_xy = locate_goal(arrays)
    qualities = []
    for prediction in range(len(whiskers.path_world)):
        qualities.append(_assess(whiskers, arrays, prediction, goal_xy))
    return qualities


def _assess(
    whiskers: Whiskers,
    arrays: EpisodeArrays,
    prediction: int,
    goal_xy: Float64[np.ndarray, "2"] | None,
) -> PlanQuality:
    step = int(whiskers.prediction_step[prediction])
    bundle = whiskers.path_world[prediction]
    path = bundle[0]
    horizon = len(path) - 1
    middle = -(-horizon // 2)
    taken = arrays.ee_pos_world[step + 1 : step + 1 + horizon]
    deviations_m = to_object_m = to_goal_m = np.array([np.nan])
    if len(taken):
        deviations_m = compute_distances(path[1 : len(taken) + 1], taken)
    if arrays.object_pos_world is not None:
        to_object_m = compute_distances(path, arrays.object_pos_world[step])
    if goal_xy is not None:
        to_goal_m = compute_distances(path[-1:, :2], goal_xy)
    numbers = {
        "path_length_m": compute_length(path),
        "displacement_m": compute_length(path[[0, -1]]),
        "smoothness": compute_log_dimensionless_jerk(path),
        "deviation_mean_m": deviations_m.mean(),
        "deviation_max_m": deviations_m.max(),
        "bundle_half_m": compute_spread(bundle[:, middle]),
        "bundle_end_m": compute_spread(bundle[:, -1]),
        "end_to_object_m": to_object_m[-1],
        "nearest_to_object_m": to_object_m.min(),
        "end_to_goal_m": to_goal_m[0],
        "change_m": _compute_change(whiskers, prediction),
    }
    defined = {name: finite_or_none(number) for name, number in numbers.items()}
    return PlanQuality(step=step, n_compared=len(taken), **defined)


def _compute_change(whiskers: Whiskers, prediction: int) -> float:
    """Return `PlanQuality.change_m`; nan if there is none.

    The step of the prediction itself is left out: if the previous plan was followed, both whiskers
    are at the robot's position there.
    """
    if prediction == 0:
        return np.nan
    previous_step, step = whiskers.prediction_step[prediction - 1 : prediction + 1]
    n_since = int(step - previous_step)
    previous = whiskers.path_world[prediction - 1, 0, n_since + 1 :]
    path = whiskers.path_world[prediction, 0, 1:]
    n_shared = min(len(previous), len(path))
    if n_shared == 0:
        return np.nan
    distances_m = compute_distances(previous[:n_shared], path[:n_shared])
    return distances_m.mean()


def finite_or_none(value: float | np.floating) -> float | None:
    """Return a number as float, or None if it is nan or infinite."""
    return float(value) if np.isfinite(value) else None
