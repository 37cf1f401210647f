"""An SO-100 or SO-101 that was calibrated otherwise than the environment's: told by statistics, or by undoing it."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from eval.doctor.bugs import Bug
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding
from policies.calibration import CALIBRATIONS, CalibrationMap, describe_calibration, form_in_degrees
from policies.calibration import make_calibration_map as make_map
from policies.normalisation import FeatureStats
from sim.observation import Observation

# Joints recorded in another calibration reach so far beyond the actuators' range, or are so many
# standard deviations of the training away from where they are at reset.
_BEYOND_DEG, _FAR_STD = 10.0, 3.0
# In the right calibration less than this share of the distance is left, and no joint is farther
# away than this.
_LEFT, _PLAUSIBLE_STD = 0.5, 6.0


def find_other_calibration(context: CheckContext) -> Finding | None:
    """Return which calibration the training's statistics are in, if they make no sense in the one they are read in.

    They make none if every joint that the two write differently reaches beyond the actuators'
    range, or if each is far from where it is at reset.
    """
    stats = _find_joint_stats(context)
    if stats is None or stats.typical is None:
        return None
    spec = context.action
    here = context.first_memory.present.state.astype(np.float64)
    limits = np.array([spec.low, spec.high])
    middle, width = (part[: spec.dim] for part in stats.typical)
    span = _measured_span(stats, spec.dim)
    for bug, read, reread in _other_readings(context):
        at = np.flatnonzero((read.sign != reread.sign) | (read.offset_deg != reread.offset_deg))
        beyond = _overshoot(read.to_env(span), limits)[at]
        now, then = (
            np.abs(here - joints.to_env(middle))[at] / np.maximum(width[at], 1e-9)
            for joints in (read, reread)
        )
        makes_no_sense = (beyond > _BEYOND_DEG).all() or (now > _FAR_STD).all()
        within = (_overshoot(reread.to_env(middle), limits)[at] <= 0).all()
        nearer = (
            (then <= now).all() and then.sum() < _LEFT * now.sum() and then.max() < _PLAUSIBLE_STD
        )
        if makes_no_sense and within and nearer:
            names = " and ".join(repr(spec.names[i]) for i in at)
            was, is_, would = (
                _numbers(values[at])
                for values in (read.to_env(middle), here, reread.to_env(middle))
            )
            evidence = f"the training's mean of {names} is {was}, at reset they are {is_}; converted, the mean is {would}"
            return Finding(bug.check, bug.level, bug.finding, evidence, bug.hint)
    return None


def calibration_bugs(context: CheckContext) -> list[Bug]:
    """Return the other calibrations that the policy may have learned from, each undone in its state and its plans."""
    return [bug for bug, _, _ in _other_readings(context)]


def convert_span(
    context: CheckContext, low: Float[np.ndarray, " dim"], high: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, "2 dim"]:
    """Return (lowest, highest) of the policy's targets in the environment's calibration."""
    joints = make_map(context.adapters.calibration, context.action.names)
    return np.sort(joints.to_env(np.stack([low, high])), axis=0)


def _other_readings(context: CheckContext) -> list[tuple[Bug, CalibrationMap, CalibrationMap]]:
    """Return the bug of each other calibration, with the map that is in force and the one that would be."""
    spec, env = context.action, context.env
    form = form_in_degrees(env)
    if not form or env.state_names != spec.names or spec.mode != "absolute":
        return []
    given = context.adapters.calibration
    read = make_map(given, spec.names)
    readings = []
    for other in (None, *CALIBRATIONS):
        if other == given:
            continue
        reread = make_map(other, spec.names)
        finding = "the joints are in the environment's own calibration already"
        hint = "Leave --calibration out."
        if other is not None:
            finding = f"the arm was calibrated in lerobot's old way ({describe_calibration(other)})"
            hint = f"Give --calibration {other}" + (
                "." if form == env.name else f", with --env {form}."
            )

        def see(
            o: Observation, read: CalibrationMap = read, reread: CalibrationMap = reread
        ) -> Observation:
            return replace(o, state=read.to_env(reread.to_policy(o.state)).astype(np.float32))

        def act(
            plan: np.ndarray,
            state: np.ndarray,
            read: CalibrationMap = read,
            reread: CalibrationMap = reread,
        ) -> np.ndarray:
            return reread.to_env(read.to_policy(plan))

        readings.append((Bug("calibration", finding, hint, see=see, act=act), read, reread))
    return readings


def _find_joint_stats(context: CheckContext) -> FeatureStats | None:
    """Return the statistics of the training's states, else of its actions where these are joints too."""
    normalisation = context.normalisation
    if normalisation is None:
        return None
    if normalisation.state is not None and context.setup.policy.spec.state_dim is not None:
        return normalisation.state
    says_delta = context.adapters.policy_actions == "delta"
    plans_differences = says_delta or normalisation.relative.output is not None
    return None if plans_differences else normalisation.trained_action or normalisation.action


def _measured_span(stats: FeatureStats, dim: int) -> Float[np.ndarray, "2 dim"]:
    """Return (lowest, highest) as measured, or the mean with one standard deviation to either side."""
    assert stats.typical is not None
    if stats.span is not None and {"min", "q01"} & stats.values.keys():
        low, high = stats.span
    else:
        middle, width = stats.typical
        low, high = middle - width, middle + width
    return np.stack([low, high])[:, :dim]


def _overshoot(
    values: Float[np.ndarray, "*n dim"], limits: Float[np.ndarray, "2 dim"]
) -> Float[np.ndarray, " dim"]:
    """Return how far the outermost of the values lies beyond the limits; negative inside them."""
    values = np.atleast_2d(values)
    return np.maximum(limits[0] - values.min(axis=0), values.max(axis=0) - limits[1])


def _numbers(values: np.ndarray) -> str:
    return " and ".join(f"{value:.0f}" for value in values)
