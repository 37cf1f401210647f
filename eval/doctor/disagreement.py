"""Measures how far a policy's plans are from the scripted expert's actions, and where."""

from collections.abc import Callable, Sequence

import numpy as np

from eval.doctor.check_context import Plans, Reference

type Average = Callable[[np.ndarray], np.floating]

# Mean distance to the expert in standard deviations of its actions. Every checkpoint below 0.08
# solved at least 19 of 20 episodes; those between 0.08 and 0.2 solved 0 to 19 (docs/doctor.md). A
# policy that always plans the mean action has about 0.8.
AGREES = 0.08
AGREES_FAIRLY = 0.2
LIKE_THE_MEAN = 0.6
# The median hides a moment at which the policy does something else. With exchanged red and blue, or
# rotated images, SmolVLA differs by 0.35 at the first moment, and by less than `AGREES` in the
# median. A healthy policy may differ as much at a moment: its gripper closes somewhat later.
STANDS_OUT = 0.3
# A third of the episode is named if it disagrees this much more than the median third, and a half
# of the chunk if it disagrees this much more than the other half.
_STANDS_OUT = 1.5


def compute_disagreement(
    plans: Plans,
    reference: Reference,
    moments: Sequence[int] | None = None,
    average: Average = np.median,
) -> float:
    """Return the average over the moments of the mean of |plan - expert| / std(expert).

    NaN in a plan is left out.

    Args:
        moments: indices of the reference's moments that the plans belong to; None: all.
    """
    return float(average(measure_each_moment(plans, reference, moments)))


def measure_each_moment(
    plans: Plans,
    reference: Reference,
    moments: Sequence[int] | None = None,
) -> np.ndarray:
    """Return the mean of |plan - expert| / std(expert) at each moment, without NaN."""
    return np.nanmean(_compute_error(plans, reference, moments), axis=(1, 2))


def find_worst_moment(plans: Plans, reference: Reference) -> tuple[int, float]:
    """Return the index of the moment that disagrees most, and its mean |plan - expert| / std."""
    by_moment = measure_each_moment(plans, reference)
    worst = int(np.argmax(by_moment))
    return worst, float(by_moment[worst])


def describe_disagreement(
    plans: Plans,
    reference: Reference,
    names: Sequence[str],
) -> str:
    """Name the joints, the part of the episode and the part of the chunk that disagree most."""
    error = _compute_error(plans, reference)
    by_joint = error.mean(axis=(0, 1))
    by_moment = error.mean(axis=(1, 2))
    by_step = error.mean(axis=(0, 2))
    worst = np.argsort(-by_joint)[:2]
    words = "by joint most in "
    words += " and ".join(f"{names[j]!r} ({by_joint[j]:.2f})" for j in worst)
    thirds = _part_means(by_moment, 3)
    third = int(np.argmax(thirds))
    if thirds[third] > _STANDS_OUT * np.median(thirds):
        name = ("first", "second", "last")[third]
        words += f"; most in the {name} third of the episode ({thirds[third]:.2f})"
    halves = _part_means(by_step, 2)
    if max(halves) > _STANDS_OUT * min(halves):
        name = ("near", "far")[int(np.argmax(halves))]
        words += f"; most in the {name} half of the chunk ({max(halves):.2f})"
    return words


def _part_means(values: np.ndarray, n_parts: int) -> list[float]:
    """Return the mean of each part of the values that is not empty."""
    return [float(part.mean()) for part in np.array_split(values, n_parts) if len(part)]


def _compute_error(
    plans: np.ndarray,
    reference: Reference,
    moments: Sequence[int] | None = None,
) -> Plans:
    expert = reference.future(plans.shape[1])
    if moments is not None:
        expert = expert[list(moments)]
    return np.abs(plans - expert) / reference.scale
