"""Finds an SO-100 or SO-101 that was calibrated in another way than the environment's arm."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from eval.doctor.bugs import Bug
from eval.doctor.check_context import CheckContext, state_change
from eval.doctor.finding import Finding
from policies.calibration import CALIBRATIONS, CalibrationMap, describe_calibration, form_in_degrees
from policies.calibration import make_calibration_map as make_map
from policies.normalisation import FeatureStats

# Joints that were recorded in another calibration reach this far beyond the actuators' range, or
# their training mean is this many standard deviations away from their position at reset.
_BEYOND_DEG = 10.0
_FAR_STD = 3.0
# In the right calibration less than this share of the distance to the position at reset is left,
# and no joint is farther away than this.
_LEFT = 0.5
_PLAUSIBLE_STD = 6.0


@dataclass(frozen=True)
class _Reading:
    """Pairs the calibration in force with another one that the training may have used.

    Attributes:
        bug: the bug that the training used the other one.
        current: map of the calibration in force.
        other: map of the other one.
    """

    bug: Bug
    current: CalibrationMap
    other: CalibrationMap

    @property
    def differs(self) -> Bool[np.ndarray, " dim"]:
        """Return which joints the two maps convert differently."""
        has_other_offset = self.current.offset_deg != self.other.offset_deg
        return has_other_offset | (self.current.sign != self.other.sign)


def find_other_calibration(context: CheckContext) -> Finding | None:
    """Return the calibration of the training's statistics if they make no sense in this one.

    They make no sense if every joint that the two calibrations convert differently reaches beyond
    the actuators' range, or if each of them is far from its position at reset.
    """
    stats = _find_joint_stats(context)
    if stats is None or stats.typical is None:
        return None
    for reading in _other_readings(context):
        explanation = _explain(context, stats, reading)
        if explanation is not None:
            return reading.bug.as_finding(explanation)
    return None


def calibration_bugs(context: CheckContext) -> list[Bug]:
    """Return one bug for each other calibration; undoing it converts the state and the plans."""
    return [reading.bug for reading in _other_readings(context)]


def convert_span(
    context: CheckContext,
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
) -> Float[np.ndarray, "2 dim"]:
    """Return (lowest, highest) of the policy's targets in the environment's calibration."""
    joints = make_map(context.adapters.calibration, context.action.names)
    return np.sort(joints.to_env(np.stack([low, high])), axis=0)


def _explain(
    context: CheckContext,
    stats: FeatureStats,
    reading: _Reading,
) -> str | None:
    """Describe statistics that make sense in the other calibration, and only there; else None."""
    assert stats.typical is not None
    spec = context.action
    limits = np.array([spec.low, spec.high])
    at_reset = context.first_memory.present.state.astype(np.float64)
    middle, width = (part[: spec.dim] for part in stats.typical)
    width = np.maximum(width, 1e-9)
    differs = reading.differs
    mean_now = reading.current.to_env(middle)
    mean_then = reading.other.to_env(middle)
    distance_now = (np.abs(at_reset - mean_now) / width)[differs]
    distance_then = (np.abs(at_reset - mean_then) / width)[differs]
    span_now = reading.current.to_env(_measured_span(stats, spec.dim))
    is_beyond = _overshoot(span_now, limits)[differs] > _BEYOND_DEG
    is_far = distance_now > _FAR_STD
    makes_no_sense_now = is_beyond.all() or is_far.all()
    is_within_then = (_overshoot(mean_then, limits)[differs] <= 0).all()
    is_nearer_then = (
        (distance_then <= distance_now).all()
        and distance_then.sum() < _LEFT * distance_now.sum()
        and distance_then.max() < _PLAUSIBLE_STD
    )
    if not (makes_no_sense_now and is_within_then and is_nearer_then):
        return None
    names = " and ".join(repr(spec.names[i]) for i in np.flatnonzero(differs))
    return (
        f"the training's mean of {names} is {_join(mean_now[differs])}, at reset they are "
        f"{_join(at_reset[differs])}; converted, the mean is {_join(mean_then[differs])}"
    )


def _other_readings(context: CheckContext) -> Iterator[_Reading]:
    """Yield a reading for each calibration that is not in force."""
    spec = context.action
    form = form_in_degrees(context.env)
    if not form or context.env.state_names != spec.names or spec.mode != "absolute":
        return
    given = context.adapters.calibration
    current = make_map(given, spec.names)
    for name in (None, *CALIBRATIONS):
        if name == given:
            continue
        finding = "the joints are in the environment's own calibration already"
        hint = "Leave --calibration out."
        if name is not None:
            finding = f"the arm was calibrated in lerobot's old way ({describe_calibration(name)})"
            hint = f"Give --calibration {name}"
            hint += "." if form == context.env.name else f", with --env {form}."
        other = make_map(name, spec.names)
        yield _Reading(_calibration_bug(finding, hint, current, other), current, other)


def _calibration_bug(
    finding: str,
    hint: str,
    current: CalibrationMap,
    other: CalibrationMap,
) -> Bug:
    return Bug(
        "calibration",
        finding,
        hint,
        state_change(lambda state: current.to_env(other.to_policy(state))),
        undo_in_plan=lambda plan, state: other.to_env(current.to_policy(plan)),
    )


def _find_joint_stats(context: CheckContext) -> FeatureStats | None:
    """Return the statistics of the training's states, else of its actions if they are joints."""
    statistics = context.statistics
    if statistics.state is not None and context.policy.state_dim is not None:
        return statistics.state
    is_declared_delta = context.adapters.policy_actions == "delta"
    if is_declared_delta or statistics.relative.output is not None:
        return None
    return statistics.trained_action or statistics.action


def _measured_span(stats: FeatureStats, dim: int) -> Float[np.ndarray, "2 dim"]:
    """Return (lowest, highest) as measured, else the mean minus and plus one standard deviation."""
    assert stats.typical is not None
    if stats.span is not None and {"min", "q01"} & stats.values.keys():
        low, high = stats.span
    else:
        middle, width = stats.typical
        low = middle - width
        high = middle + width
    return np.stack([low, high])[:, :dim]


def _overshoot(
    values: Float[np.ndarray, "*n dim"],
    limits: Float[np.ndarray, "2 dim"],
) -> Float[np.ndarray, " dim"]:
    """Return how far the outermost values lie beyond the limits; negative inside them."""
    values = np.atleast_2d(values)
    below = limits[0] - values.min(axis=0)
    above = values.max(axis=0) - limits[1]
    return np.maximum(below, above)


def _join(values: np.ndarray) -> str:
    return " and ".join(f"{value:.0f}" for value in values)
