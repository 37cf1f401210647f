"""Bugs of single joints, in the state and in the plans: their order, signs, zeros, statistics, and the gripper."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from eval.doctor.bugs import Bug, See
from eval.doctor.check_context import CheckContext, Reference
from eval.doctor.finding import Level
from policies.normalisation import FeatureStats

# Of the training's standard deviation: a smaller offset of the state is of the episode.
_LEAST_OFFSET = 0.5
# Plans that go this much further, or less far, from their mean than the expert's differ in their
# statistics.
_LEAST_SCALE = 1.25


def turned_gripper(context: CheckContext) -> Bug:
    """Return the bug that concerns the planned gripper alone."""
    spec = context.action
    g, both_ends = spec.gripper_index, spec.gripper_closed + spec.gripper_open

    def turn(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [plan[..., :g], both_ends - plan[..., g : g + 1], plan[..., g + 1 :]], axis=-1
        )

    closed, open_ = context.adapters.gripper_range or (
        spec.gripper_closed,
        spec.gripper_open,
    )
    return Bug(
        "gripper",
        "open and closed are swapped",
        f"Give --gripper-range {open_:g} {closed:g}",
        act=turn,
    )


def state_bugs(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return what can be wrong with the state that the policy is shown."""
    names, spec = context.env.state_names, context.action
    if names != spec.names:
        return []
    g, both_ends = spec.gripper_index, spec.gripper_closed + spec.gripper_open
    hint = "Turn it where it is recorded or read; --gripper-range turns it in the actions too."
    see = _see_state(lambda s: np.where(np.arange(len(s)) == g, both_ends - s, s))
    bugs = [Bug("gripper state", "the gripper's state is mirrored: open for closed", hint, see=see)]
    hint = f"The environment's order is {', '.join(names)}: bring the checkpoint's data into it."
    for order, pair in _exchanges(names, g):
        see = _see_state(lambda s, order=order: s[order])

        def act(plan: np.ndarray, state: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            return plan[..., order]

        bugs.append(Bug("joint order", f"{pair} are exchanged in the state", hint, see=see))
        bugs.append(
            Bug("joint order", f"{pair} are exchanged in state and actions", hint, see=see, act=act)
        )
    stats = context.normalisation and context.normalisation.state
    if stats and stats.affine is not None and len(stats.affine[0]) == len(names):
        bugs += _bugs_of_state_statistics(names, g, stats, reference)
    return bugs


def plan_bugs(context: CheckContext, plans: np.ndarray, reference: Reference) -> list[Bug]:
    """Return the joint order, the signs, the offset and the statistics that would fit best, where they differ.

    Args:
        plans: `(moment, horizon, action_dim)`. To undo these bugs costs no prediction.
    """
    names, g = context.action.names, context.action.gripper_index
    expert = reference.future(plans.shape[1])
    bugs = [
        *_bugs_of_order(names, plans, expert, reference.scale),
        *_bugs_of_sign(names, g, plans, expert),
    ]
    bugs.append(_bug_of_offset(names, g, plans, expert, reference.scale))
    stats = context.normalisation and context.normalisation.action
    if stats and stats.affine is not None and len(stats.affine[0]) == len(names):
        bugs += _bugs_of_action_statistics(names, g, stats, plans, expert, reference.scale)
    return bugs


def _exchanges(names: tuple[str, ...], gripper_index: int) -> Iterator[tuple[np.ndarray, str]]:
    """Yield each exchange of two joints, as an order and in words."""
    for one, other in itertools.combinations(
        [i for i in range(len(names)) if i != gripper_index], 2
    ):
        order = np.arange(len(names))
        order[[one, other]] = other, one
        yield order, f"{names[one]!r} and {names[other]!r}"


def _see_state(change) -> See:
    return lambda o: replace(o, state=change(o.state).astype(np.float32))


def _bugs_of_state_statistics(
    names: tuple[str, ...], gripper_index: int, stats: FeatureStats, reference: Reference
) -> list[Bug]:
    """Return statistics that belong to another joint, and a joint whose zero is elsewhere than in training."""
    assert stats.affine is not None
    middle, width = stats.affine
    bugs = []
    hint = "Save the processors with the training's statistics, in the order of its joints."
    for order, pair in _exchanges(names, gripper_index):

        def exchange(state: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            """Return the state that the wrong statistics normalise to what the right ones would make of this one."""
            return (state - middle[order]) / width[order] * width + middle

        finding = f"the statistics of {pair} are exchanged in the state"
        bugs.append(
            Bug("joint order", finding, hint, see=_see_state(exchange), level=Level.WARNING)
        )
    if stats.typical is None:
        return bugs
    mean, std = stats.typical
    seen = np.stack([memory.present.state for memory in reference.memories]).mean(axis=0)
    for j in np.flatnonzero(np.abs(mean - seen) > _LEAST_OFFSET * std):
        bugs.append(_bug_of_zero(names, int(j), float(seen[j] - mean[j]), float(std[j])))
    return bugs


def _bug_of_zero(names: tuple[str, ...], j: int, off: float, std: float) -> Bug:
    """Return the bug of a joint that is read too large by `off`, while it varies by `std` in training."""

    def nearby(step: float) -> list[Bug]:
        return [
            _bug_of_zero(names, j, off + way * step * std, std) for way in (-0.5, -0.25, 0.25, 0.5)
        ]

    offset = np.where(np.arange(len(names)) == j, off, 0.0)
    finding = f"{names[j]!r} is read off by about {off:+.3g}"
    hint = "Compare where the joint's zero is in training and here (homing, calibration)."
    see = _see_state(lambda state: state - offset)
    return Bug("joint offset", finding, hint, see=see, level=Level.WARNING, nearby=nearby)


def _assign(error: np.ndarray) -> np.ndarray:
    """Return, for each joint of the expert, the one whose row of `error` fits it best, each taken once."""
    rows, columns = linear_sum_assignment(error)
    return rows[np.argsort(columns)]


def _bugs_of_order(
    names: tuple[str, ...], plans: np.ndarray, expert: np.ndarray, scale: np.ndarray
) -> Iterator[Bug]:
    # [i, j]: how far planned joint i is from the expert's joint j.
    error = (
        np.stack([np.abs(plans[..., [i]] - expert).mean(axis=(0, 1)) for i in range(len(names))])
        / scale
    )
    order = _assign(error)
    moved = np.flatnonzero(order != np.arange(len(names)))
    if len(moved):
        words = ", ".join(
            f"{names[i]!r} gets what {names[order[i]]!r} should"
            for i in np.argsort(order)
            if i in moved
        )
        hint = (
            f"The environment's order is {', '.join(names)}: bring the checkpoint's data into it."
        )
        finding = f"the planned joints are in another order ({words})"
        yield Bug("joint order", finding, hint, act=lambda plan, state: plan[..., order])


def _bugs_of_sign(
    names: tuple[str, ...], gripper_index: int, plans: np.ndarray, expert: np.ndarray
) -> Iterator[Bug]:
    flipped = np.abs(-plans - expert).mean(axis=(0, 1)) < 0.5 * np.abs(plans - expert).mean(
        axis=(0, 1)
    )
    flipped[gripper_index] = False
    if flipped.any():
        which = ", ".join(repr(names[i]) for i in np.flatnonzero(flipped))
        signs = np.where(flipped, -1, 1)
        hint = "Flip it where it is recorded, or in the processors."
        yield Bug(
            "joint sign",
            f"the sign of {which} is turned",
            hint,
            act=lambda plan, state: plan * signs,
        )


def _bug_of_offset(
    names: tuple[str, ...],
    gripper_index: int,
    plans: np.ndarray,
    expert: np.ndarray,
    scale: np.ndarray,
) -> Bug:
    offset = np.median(plans - expert, axis=(0, 1))
    worst = int((np.abs(offset) / scale * (np.arange(len(names)) != gripper_index)).argmax())
    one = np.where(np.arange(len(names)) == worst, offset, 0.0)
    hint = (
        "Compare where the joint's zero is in training and here (homing, calibration, statistics)."
    )
    finding = f"{names[worst]!r} is planned off by {offset[worst]:+.3g} throughout"
    return Bug(
        "joint offset", finding, hint, act=lambda plan, state: plan - one, level=Level.WARNING
    )


def _bugs_of_action_statistics(
    names: tuple[str, ...],
    gripper_index: int,
    stats: FeatureStats,
    plans: np.ndarray,
    expert: np.ndarray,
    scale: np.ndarray,
) -> Iterator[Bug]:
    """Yield statistics of other joints, and deviations that are all too large or too small, if they fit better."""
    assert stats.affine is not None
    middle, width = stats.affine[0], np.maximum(stats.affine[1], 1e-9)
    # [i, j]: how far joint i is from the expert's once it is un-normalised by the statistics of
    # joint j.
    undone = [(plans - middle) / width * width[j] + middle[j] for j in range(len(names))]
    error = np.stack([np.abs(plan - expert).mean(axis=(0, 1)) / scale for plan in undone], axis=1)
    # The gripper's may be of another range, which is turned into the environment's: it keeps its
    # own.
    other = np.arange(len(names)) != gripper_index
    error[gripper_index, other] = error[other, gripper_index] = 1e9
    order = linear_sum_assignment(error)[1]
    hint = "Save the processors with the training's statistics, in the order of its joints."
    if (moved := np.flatnonzero(order != np.arange(len(names)))).size:
        words = ", ".join(f"{names[i]!r} has those of {names[order[i]]!r}" for i in moved)

        def reorder(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return (plan - middle) / width * width[order] + middle[order]

        yield Bug(
            "joint order",
            f"the statistics of the actions are in another joint order ({words})",
            hint,
            act=reorder,
        )
    planned, wanted = (plans - middle) / scale, (expert - middle) / scale
    factor = float((planned * wanted).sum() / np.square(planned).sum())
    if factor > 0 and not 1 / _LEAST_SCALE < factor < _LEAST_SCALE:
        finding = f"the plans go {1 / factor:.2g} times as far from the mean action as the expert"
        hint = "Compare the actions' standard deviation (or span) in the postprocessor with that of the training's data."
        yield Bug(
            "action scale", finding, hint, act=lambda plan, state: (plan - middle) * factor + middle
        )
