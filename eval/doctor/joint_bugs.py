"""Known bugs of joints in the state and in the plans: order, sign, zero, statistics, gripper."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from eval.doctor.bugs import Bug, ObservationChange
from eval.doctor.check_context import CheckContext, Reference
from eval.doctor.finding import Level
from policies.normalisation import FeatureStats
from sim.observation import Observation

# In standard deviations of the training: smaller offsets of the state vary with the episode.
_LEAST_OFFSET = 0.5
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
        names: of the joints.
        gripper_index: of the gripper among them.
        plans: the policy's.
        expert: the expert's.
        scale: standard deviation of the expert's actions.
    """

    names: tuple[str, ...]
    gripper_index: int
    plans: Float[np.ndarray, "moment horizon action_dim"]
    expert: Float[np.ndarray, "moment horizon action_dim"]
    scale: Float[np.ndarray, " action_dim"]

    @property
    def is_body(self) -> np.ndarray:
        """Return which joints are not the gripper."""
        return np.arange(len(self.names)) != self.gripper_index


def swapped_gripper_bug(context: CheckContext) -> Bug:
    """Return the bug that the plans mean open where the environment means closed."""
    spec = context.action
    g = spec.gripper_index
    both_ends = spec.gripper_closed + spec.gripper_open

    def swap(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        swapped = plan.copy()
        swapped[..., g] = both_ends - plan[..., g]
        return swapped

    own_range = (spec.gripper_closed, spec.gripper_open)
    closed, open_ = context.adapters.gripper_range or own_range
    return Bug(
        "gripper",
        "open and closed are swapped",
        f"Give --gripper-range {open_:g} {closed:g}",
        undo_in_plan=swap,
    )


def state_bugs(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return the bugs of the state that the policy observes."""
    names = context.env.state_names
    spec = context.action
    if names != spec.names:
        return []
    g = spec.gripper_index
    bugs = [_mirrored_gripper_bug(g, spec.gripper_closed + spec.gripper_open)]
    hint = _order_hint(names)
    for order, pair in _exchanges(names, g):

        def reorder_state(state: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            return state[order]

        def reorder_plan(
            plan: np.ndarray, state: np.ndarray, order: np.ndarray = order
        ) -> np.ndarray:
            return plan[..., order]

        in_state = Bug(
            "joint order",
            f"{pair} are exchanged in the state",
            hint,
            undo_in_observation=_state_change(reorder_state),
        )
        finding = f"{pair} are exchanged in state and actions"
        bugs.append(in_state)
        bugs.append(replace(in_state, finding=finding, undo_in_plan=reorder_plan))
    stats = context.normalisation and context.normalisation.state
    if stats and stats.affine is not None and len(stats.affine[0]) == len(names):
        bugs += _state_statistics_bugs(names, g, stats)
        bugs += _zero_bugs(names, stats, reference)
    return bugs


def plan_bugs(context: CheckContext, plans: np.ndarray, reference: Reference) -> list[Bug]:
    """Return the joint order, signs, offset and statistics that would fit the expert best.

    Only those that differ from the present ones are returned. Undoing them takes no prediction.

    Args:
        plans: `(moment, horizon, action_dim)`.
    """
    names = context.action.names
    expert = reference.future(plans.shape[1])
    compared = _Comparison(names, context.action.gripper_index, plans, expert, reference.scale)
    bugs = [*_order_bugs(compared), *_sign_bugs(compared), _offset_bug(compared)]
    stats = context.normalisation and context.normalisation.action
    if stats and stats.affine is not None and len(stats.affine[0]) == len(names):
        middle = stats.affine[0]
        width = np.maximum(stats.affine[1], 1e-9)
        bugs += _statistics_order_bugs(compared, middle, width)
        bugs += _scale_bugs(compared, middle)
    return bugs


def _order_hint(names: tuple[str, ...]) -> str:
    return f"The environment's order is {', '.join(names)}: bring the checkpoint's data into it."


def _state_change(change: Callable[[np.ndarray], np.ndarray]) -> ObservationChange:
    def apply(observation: Observation) -> Observation:
        return replace(observation, state=change(observation.state).astype(np.float32))

    return apply


def _exchanges(names: tuple[str, ...], gripper_index: int) -> Iterator[tuple[np.ndarray, str]]:
    """Yield each exchange of two joints, as an order and in words."""
    body = [i for i in range(len(names)) if i != gripper_index]
    for one, other in itertools.combinations(body, 2):
        order = np.arange(len(names))
        order[[one, other]] = other, one
        yield order, f"{names[one]!r} and {names[other]!r}"


def _mirrored_gripper_bug(gripper_index: int, both_ends: float) -> Bug:
    def mirror(state: np.ndarray) -> np.ndarray:
        is_gripper = np.arange(len(state)) == gripper_index
        return np.where(is_gripper, both_ends - state, state)

    return Bug(
        "gripper state",
        "the gripper's state is mirrored: open for closed",
        "Mirror it where it is recorded or read; --gripper-range mirrors it in the actions too.",
        undo_in_observation=_state_change(mirror),
    )


def _state_statistics_bugs(
    names: tuple[str, ...], gripper_index: int, stats: FeatureStats
) -> Iterator[Bug]:
    """Yield the bugs by which two joints of the state have each other's statistics."""
    assert stats.affine is not None
    middle, width = stats.affine
    for order, pair in _exchanges(names, gripper_index):

        def renormalise(state: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            """Return the state that the wrong statistics normalise as the right ones would this."""
            return (state - middle[order]) / width[order] * width + middle

        yield Bug(
            "joint order",
            f"the statistics of {pair} are exchanged in the state",
            _ORDER_OF_STATISTICS,
            undo_in_observation=_state_change(renormalise),
            level=Level.WARNING,
        )


def _zero_bugs(names: tuple[str, ...], stats: FeatureStats, reference: Reference) -> Iterator[Bug]:
    """Yield the bugs of joints whose zero is elsewhere than in training."""
    if stats.typical is None:
        return
    mean, std = stats.typical
    states = np.stack([memory.present.state for memory in reference.memories])
    offset = states.mean(axis=0) - mean
    for j in np.flatnonzero(np.abs(offset) > _LEAST_OFFSET * std):
        yield _zero_bug(names, int(j), float(offset[j]), float(std[j]))


def _zero_bug(names: tuple[str, ...], j: int, offset: float, std: float) -> Bug:
    """Return the bug that joint j is read too large by `offset`.

    Args:
        std: standard deviation of the joint in training.
    """

    def nearby(step: float) -> list[Bug]:
        factors = (-0.5, -0.25, 0.25, 0.5)
        return [_zero_bug(names, j, offset + factor * step * std, std) for factor in factors]

    offsets = np.where(np.arange(len(names)) == j, offset, 0.0)
    return Bug(
        "joint offset",
        f"{names[j]!r} is read off by about {offset:+.3g}",
        "Compare where the joint's zero is in training and here (homing, calibration).",
        undo_in_observation=_state_change(lambda state: state - offsets),
        level=Level.WARNING,
        nearby=nearby,
    )


def _order_bugs(compared: _Comparison) -> Iterator[Bug]:
    names = compared.names
    # error[i, j] is the distance of the planned joint i from the expert's joint j.
    error = np.stack(
        [
            np.abs(compared.plans[..., [i]] - compared.expert).mean(axis=(0, 1))
            for i in range(len(names))
        ]
    )
    rows, columns = linear_sum_assignment(error / compared.scale)
    order = rows[np.argsort(columns)]
    moved = np.flatnonzero(order != np.arange(len(names)))
    if not len(moved):
        return
    changes = []
    for i in np.argsort(order):
        if i in moved:
            changes.append(f"{names[i]!r} gets what {names[order[i]]!r} should")
    finding = f"the planned joints are in another order ({', '.join(changes)})"

    def reorder(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return plan[..., order]

    yield Bug(
        "joint order",
        finding,
        _order_hint(names),
        undo_in_plan=reorder,
    )


def _sign_bugs(compared: _Comparison) -> Iterator[Bug]:
    plans = compared.plans
    expert = compared.expert
    error = np.abs(plans - expert).mean(axis=(0, 1))
    flipped_error = np.abs(-plans - expert).mean(axis=(0, 1))
    is_flipped = (flipped_error < 0.5 * error) & compared.is_body
    if is_flipped.any():
        which = ", ".join(repr(compared.names[i]) for i in np.flatnonzero(is_flipped))
        signs = np.where(is_flipped, -1, 1)
        yield Bug(
            "joint sign",
            f"the sign of {which} is flipped",
            "Flip it where it is recorded, or in the processors.",
            undo_in_plan=lambda plan, state: plan * signs,
        )


def _offset_bug(compared: _Comparison) -> Bug:
    names = compared.names
    offset = np.median(compared.plans - compared.expert, axis=(0, 1))
    share = np.abs(offset) / compared.scale * compared.is_body
    worst = int(share.argmax())
    offsets = np.where(np.arange(len(names)) == worst, offset, 0.0)
    return Bug(
        "joint offset",
        f"{names[worst]!r} is planned off by {offset[worst]:+.3g} throughout",
        "Compare where the joint's zero is in training and here (homing, calibration, statistics).",
        undo_in_plan=lambda plan, state: plan - offsets,
        level=Level.WARNING,
    )


def _statistics_order_bugs(
    compared: _Comparison, middle: np.ndarray, width: np.ndarray
) -> Iterator[Bug]:
    """Yield the bug that joints of the plans have the statistics of others, if these fit better."""
    names = compared.names
    normalised = (compared.plans - middle) / width
    errors = []
    for j in range(len(names)):
        plans = normalised * width[j] + middle[j]
        errors.append(np.abs(plans - compared.expert).mean(axis=(0, 1)) / compared.scale)
    # error[i, j] is that of joint i once it is un-normalised by the statistics of joint j.
    error = np.stack(errors, axis=1)
    # The gripper keeps its own: its range may be another one, which the adapter converts.
    g = compared.gripper_index
    error[g, compared.is_body] = 1e9
    error[compared.is_body, g] = 1e9
    order = linear_sum_assignment(error)[1]
    moved = np.flatnonzero(order != np.arange(len(names)))
    if not len(moved):
        return
    changes = ", ".join(f"{names[i]!r} has those of {names[order[i]]!r}" for i in moved)
    finding = f"the statistics of the actions are in another joint order ({changes})"

    def reorder(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return (plan - middle) / width * width[order] + middle[order]

    yield Bug(
        "joint order",
        finding,
        _ORDER_OF_STATISTICS,
        undo_in_plan=reorder,
    )


def _scale_bugs(compared: _Comparison, middle: np.ndarray) -> Iterator[Bug]:
    """Yield the bug that all standard deviations of the actions are too large or too small."""
    planned = (compared.plans - middle) / compared.scale
    expert = (compared.expert - middle) / compared.scale
    factor = float((planned * expert).sum() / np.square(planned).sum())
    goes_as_far = 1 / _LEAST_SCALE < factor < _LEAST_SCALE
    if not factor > 0 or goes_as_far:
        return
    finding = f"the plans go {1 / factor:.2g} times as far from the mean action as the expert"
    hint = (
        "Compare the actions' standard deviation (or span) in the postprocessor "
        "with that of the training's data."
    )

    def rescale(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return (plan - middle) * factor + middle

    yield Bug(
        "action scale",
        finding,
        hint,
        undo_in_plan=rescale,
    )
