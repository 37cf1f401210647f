"""Measures of paths: length, spread and smoothness, and the goal that recorded distances imply."""

import numpy as np
from jaxtyping import Float64

from eval.episode_arrays import EpisodeArrays

# Object motion below this is physics noise, and does not determine the goal.
_MIN_MOTION_M = 1e-6
# A goal is accepted if it fits the recorded distances to this. A goal that moved does not.
_GOAL_TOLERANCE_M = 1e-6

_Polyline = Float64[np.ndarray, "_moment 3"]


def compute_length(path: _Polyline) -> float:
    """Return the length of a polyline, m."""
    segments = np.diff(path, axis=0)
    return float(np.linalg.norm(segments, axis=1).sum())


def compute_distances(
    points: Float64[np.ndarray, "*n dim"],
    others: Float64[np.ndarray, "*_n dim"],
) -> np.ndarray:
    """Return the distance of each point to another one, m."""
    return np.linalg.norm(points - others, axis=-1)


def compute_spread(points: Float64[np.ndarray, "sample 3"]) -> float:
    """Return the root mean square distance of points to their mean, m: sqrt(Σ ‖xᵢ - x̄‖² / n).

    It is nan for fewer than two points.
    """
    if len(points) < 2:
        return np.nan
    offsets = points - points.mean(axis=0)
    squares = (offsets**2).sum(axis=1)
    return float(np.sqrt(squares.mean()))


def compute_log_dimensionless_jerk(path: _Polyline) -> float:
    """Return the smoothness of a movement that is sampled at a constant rate.

        -ln( D³ / v² ∫ ‖x⃛‖² dt )

    with D its duration and v its highest speed. It is higher for smoother movements, and does not
    depend on their size and duration. A minimum-jerk movement from rest to rest has -ln 204.8 =
    -5.32, an arc of angle θ at constant speed has -4 ln θ, and noise has far less.

    Derivatives are differences, and the duration is that between the first and the last point. The
    result is nan for fewer than four points, without motion, and without jerk.

    Source: N. Hogan and D. Sternad, "Sensitivity of smoothness measures to movement duration,
    amplitude, and arrests", J. Motor Behavior 41 (2009); S. Balasubramanian et al., "On the
    analysis of movement smoothness", J. NeuroEng. Rehabil. 12:112 (2015). The latter take the jerk
    of the speed. Here it is the jerk of the position, a vector, so that a bend counts too.
    """
    if len(path) < 4:
        return np.nan
    # The sampling interval cancels out.
    duration = len(path) - 1
    velocities = np.diff(path, axis=0)
    speed = np.linalg.norm(velocities, axis=1).max()
    jerk = np.diff(path, n=3, axis=0)
    # There are fewer jerks than steps, so their mean stands for the whole duration.
    integral = duration * (jerk**2).sum(axis=1).mean()
    if not (speed > 0 and integral > 0):
        return np.nan
    return float(-np.log(duration**3 / speed**2 * integral))


def locate_goal(arrays: EpisodeArrays) -> Float64[np.ndarray, "2"] | None:
    """Return the centre of the goal (x, y), m, as the object's recorded distances to it imply.

    With object positions o and distances d, both horizontal, ‖o - g‖² = d² is linear in (g, ‖g‖²):

        2 oᵀ g - ‖g‖² = ‖o‖² - d²

    Returns None if the distances do not determine g: for an articulated goal, for an object that
    stayed or moved along a line, and for a goal that moved itself.
    """
    if arrays.object_pos_world is None or arrays.goal_distance_m is None:
        return None
    positions = arrays.object_pos_world[:, :2]
    distance_m = arrays.goal_distance_m
    if len(positions) < 3 or np.isnan(distance_m).any():
        return None
    # Centring keeps the numbers small, so that squaring them loses little precision.
    mean = positions.mean(axis=0)
    centred = positions - mean
    singular_values = np.linalg.svd(centred, compute_uv=False)
    least_motion_m = singular_values[-1] / np.sqrt(len(centred))
    if least_motion_m < _MIN_MOTION_M:
        return None
    coefficients = np.column_stack([2 * centred, -np.ones(len(centred))])
    values = (centred**2).sum(axis=1) - distance_m**2
    solution = np.linalg.lstsq(coefficients, values, rcond=None)[0]
    goal = solution[:2] + mean
    errors_m = np.abs(compute_distances(positions, goal) - distance_m)
    if errors_m.max() > _GOAL_TOLERANCE_M:
        return None
    return goal
