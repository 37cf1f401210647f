"""Known bugs of joints in the state and in the plans: order, sign, zero, statistics, gripper."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from eval.doctor.action_columns import body_columns
from eval.doctor.bugs import Bug, advise_on_order
from eval.doctor.check_context import CheckContext, Plans, Reference, state_change
from eval.doctor.finding import Level
from policies.normalisation import FeatureStats
from sim.spec import ActionSpec

# In standard deviations of the training: smaller offsets of the state vary with the episode.
_LEAST_OFFSET = 0.5
# In standard deviations of the expert's actions: plans of a policy that learned the task may be off
# by less. The shipped SmolVLA plans the elbow off by 0.17 in an episode in which it succeeds.
_LEAST_PLANNED_OFFSET = 0.25
# Plans that go this much further from their mean than the expert's, or less far, were
# un-normalised by other statistics.
_LEAST_SCALE = 1.25
_ORDER_OF_STATISTICS = (
    "Save the processors with the training's statistics, in the order of its joints."
)


@dataclass(frozen=True)
class _Comparison:
    """Holds the plans of a policy beside what the expert did.

    Attributes:
        spec: of the actions.
        plans: the policy's.
        expert: the expert's.
        scale: standard deviation of the expert's actions.
    """

    spec: ActionSpec
    plans: Plans
    expert: Plans
    scale: Float[np.ndarray, " action_dim"]

    def error_of(self, plans: np.ndarray) -> Float[np.ndarray, " action_dim"]:
        """Return the mean distance of each joint of other plans from the expert."""
        return np.abs(plans - self.expert).mean(axis=(0, 1))


def swapped_gripper_bug(context: CheckContext) -> Bug:
    """Return the bug that the plans mean open where the environment means closed."""
    spec = context.action
    own_range = (spec.gripper_closed, spec.gripper_open)
    is_body = body_columns(spec)
    closed, open_ = context.adapters.gripper_range or own_range
    return Bug(
        "gripper",
        "open and closed are swapped",
        f"Give --gripper-range {open_:g} {closed:g}",
        undo_in_plan=lambda plan, state: np.where(is_body, plan, sum(own_range) - plan),
    )


def state_bugs(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return the bugs of the state that the policy observes."""
    names = context.env.state_names
    spec = context.action
    if names != spec.names:
        return []
    bugs = [_mirrored_gripper_bug(spec)]
    for order, pair in _exchanges(spec):
        bugs += _exchange_bugs(spec, order, pair)
    stats = context.statistics.state
    if stats and stats.affine is not None and len(stats.affine[0]) == len(names):
        middle, width = stats.affine
        for order, pair in _exchanges(spec):
            bugs.append(_state_statistics_bug(order, pair, middle, width))
        bugs += _zero_bugs(names, stats, reference)
    return bugs


def plan_bugs(
    context: CheckContext,
    plans: np.ndarray,
    reference: Reference,
) -> list[Bug]:
    """Return the joint order, signs, offset and statistics that would fit the expert best.

    Only those that differ from the present ones are returned. Undoing them takes no prediction.

    Args:
        plans: `(moment, horizon, action_dim)`.
    """
    expert = reference.future(plans.shape[1])
    compared = _Comparison(context.action, plans, expert, reference.scale)
    bugs = [*_order_bugs(compared), *_sign_bugs(compared), *_offset_bugs(compared)]
    stats = context.statistics.action
    if stats and stats.affine is not None and len(stats.affine[0]) == context.action.dim:
        middle, width = stats.affine
        bugs += _statistics_order_bugs(compared, middle, np.maximum(width, 1e-9))
        bugs += _scale_bugs(compared, middle)
    return bugs


def _exchanges(spec: ActionSpec) -> Iterator[tuple[np.ndarray, str]]:
    """Yield each exchange of two joints, as an order and in words."""
    names = spec.names
    for one, other in itertools.combinations(np.flatnonzero(body_columns(spec)), 2):
        order = np.arange(spec.dim)
        order[[one, other]] = other, one
        yield order, f"{names[one]!r} and {names[other]!r}"


def _exchange_bugs(spec: ActionSpec, order: np.ndarray, pair: str) -> list[Bug]:
    """Return the bugs that two joints are exchanged in the state, and in the actions too."""
    in_state = Bug(
        "joint order",
        f"{pair} are exchanged in the state",
        advise_on_order(spec.names),
        undo_in_observation=state_change(lambda state: state[order]),
    )
    in_both = replace(
        in_state,
        finding=f"{pair} are exchanged in state and actions",
        undo_in_plan=lambda plan, state: plan[..., order],
    )
    return [in_state, in_both]


def _mirrored_gripper_bug(spec: ActionSpec) -> Bug:
    both_ends = spec.gripper_closed + spec.gripper_open
    is_body = body_columns(spec)
    return Bug(
        "gripper state",
        "the gripper's state is mirrored: open for closed",
        "Mirror it where it is recorded or read; --gripper-range mirrors it in the actions too.",
        undo_in_observation=state_change(lambda state: np.where(is_body, state, both_ends - state)),
    )


def _state_statistics_bug(
    order: np.ndarray,
    pair: str,
    middle: np.ndarray,
    width: np.ndarray,
) -> Bug:
    """Return the bug by which two joints of the state have each other's statistics.

    It is undone by the state that the wrong statistics normalise as the right ones would this.
    """
    return Bug(
        "joint order",
        f"the statistics of {pair} are exchanged in the state",
        _ORDER_OF_STATISTICS,
        undo_in_observation=state_change(
            lambda state: (state - middle[order]) / width[order] * width + middle
        ),
        level=Level.WARNING,
    )


def _zero_bugs(
    names: tuple[str, ...],
    stats: FeatureStats,
    reference: Reference,
) -> Iterator[Bug]:
    """Yield the bugs of joints whose zero is elsewhere than in training."""
    if stats.typical is None:
        return
    mean, std = stats.typical
    states = np.stack([memory.present.state for memory in reference.memories])
    offset = states.mean(axis=0) - mean
    for j in np.flatnonzero(np.abs(offset) > _LEAST_OFFSET * std):
        yield _zero_bug(names, int(j), float(offset[j]), float(std[j]))


def _zero_bug(
    names: tuple[str, ...],
    j: int,
    offset: float,
    std: float,
) -> Bug:
    """Return the bug that joint j is read too large by `offset`.

    Args:
        std: standard deviation of the joint in training.
    """
    factors = (-0.5, -0.25, 0.25, 0.5)
    offsets = np.where(np.arange(len(names)) == j, offset, 0.0)
    return Bug(
        "joint offset",
        f"{names[j]!r} is read off by about {offset:+.3g}",
        "Compare where the joint's zero is in training and here (homing, calibration).",
        undo_in_observation=state_change(lambda state: state - offsets),
        level=Level.WARNING,
        nearby=lambda step: [
            _zero_bug(names, j, offset + factor * step * std, std) for factor in factors
        ],
    )


def _order_bugs(compared: _Comparison) -> Iterator[Bug]:
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    names = compared.spec.names
    joints = range(len(names))
    # error[i, j] is the distance of the planned joint i from the expert's joint j.
    error = np.stack([compared.error_of(compared.plans[..., [i]]) for i in joints])
    rows, columns = linear_sum_assignment(error / compared.scale)
    order = rows[np.argsort(columns)]
    moved = [i for i in np.argsort(order) if order[i] != i]
    if moved:
        changes = ", ".join(f"{names[i]!r} gets what {names[order[i]]!r} should" for i in moved)
        yield Bug(
            "joint order",
            f"the planned joints are in another order ({changes})",
            advise_on_order(names),
            undo_in_plan=lambda plan, state: plan[..., order],
        )


def _sign_bugs(compared: _Comparison) -> Iterator[Bug]:
    is_nearer = compared.error_of(-compared.plans) < 0.5 * compared.error_of(compared.plans)
    is_flipped = is_nearer & body_columns(compared.spec)
    if is_flipped.any():
        which = ", ".join(repr(compared.spec.names[i]) for i in np.flatnonzero(is_flipped))
        signs = np.where(is_flipped, -1, 1)
        yield Bug(
            "joint sign",
            f"the sign of {which} is flipped",
            "Flip it where it is recorded, or in the processors.",
            undo_in_plan=lambda plan, state: plan * signs,
        )


def _offset_bugs(compared: _Comparison) -> Iterator[Bug]:
    spec = compared.spec
    offset = np.median(compared.plans - compared.expert, axis=(0, 1))
    share = np.abs(offset) / compared.scale * body_columns(spec)
    worst = int(share.argmax())
    if share[worst] < _LEAST_PLANNED_OFFSET:
        return
    offsets = np.where(np.arange(spec.dim) == worst, offset, 0.0)
    yield Bug(
        "joint offset",
        f"{spec.names[worst]!r} is planned off by {offset[worst]:+.3g} throughout",
        "Compare where the joint's zero is in training and here (homing, calibration, statistics).",
        undo_in_plan=lambda plan, state: plan - offsets,
        level=Level.WARNING,
    )


def _statistics_order_bugs(
    compared: _Comparison,
    middle: np.ndarray,
    width: np.ndarray,
) -> Iterator[Bug]:
    """Yield the bug that joints of the plans have the statistics of others, if these fit better."""
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    names = compared.spec.names
    normalised = (compared.plans - middle) / width
    errors = []
    for j in range(len(names)):
        errors.append(compared.error_of(normalised * width[j] + middle[j]) / compared.scale)
    # error[i, j] is that of joint i once it is un-normalised by the statistics of joint j.
    error = np.stack(errors, axis=1)
    # The gripper keeps its own: its range may be another one, which the adapter converts.
    is_body = body_columns(compared.spec)
    error[is_body != is_body[:, None]] = 1e9
    order = linear_sum_assignment(error)[1]
    moved = [i for i in range(len(names)) if order[i] != i]
    if moved:
        changes = ", ".join(f"{names[i]!r} has those of {names[order[i]]!r}" for i in moved)
        yield Bug(
            "joint order",
            f"the statistics of the actions are in another joint order ({changes})",
            _ORDER_OF_STATISTICS,
            undo_in_plan=lambda plan, state: (plan - middle) / width * width[order] + middle[order],
        )


def _scale_bugs(compared: _Comparison, middle: np.ndarray) -> Iterator[Bug]:
    """Yield the bug that all standard deviations of the actions are too large or too small."""
    planned = (compared.plans - middle) / compared.scale
    expert = (compared.expert - middle) / compared.scale
    factor = float((planned * expert).sum() / np.square(planned).sum())
    goes_as_far = 1 / _LEAST_SCALE < factor < _LEAST_SCALE
    if not factor > 0 or goes_as_far:
        return
    yield Bug(
        "action scale",
        f"the plans go {1 / factor:.2g} times as far from the mean action as the expert",
        (
            "Compare the actions' standard deviation (or span) in the postprocessor "
            "with that of the training's data."
        ),
        undo_in_plan=lambda plan, state: (plan - middle) * factor + middle,
    )
