"""Compares the policy's plans with the scripted expert's actions, and looks for a known bug.

If the environment has a scripted expert, the policy predicts at sampled moments of the expert's
episode. If its plans agree with the expert once, say, its images are flipped back, the policy has
that bug. If they disagree and no known bug explains it, the finding says where they disagree.
"""

from collections.abc import Mapping

import numpy as np

from eval.doctor.action_columns import name_gripper
from eval.doctor.bug_search import find_bug, has_time_for_observation_bugs, undo_in_plans
from eval.doctor.check_context import PATIENCE_S, CheckContext, Reference
from eval.doctor.disagreement import (
    AGREES,
    AGREES_FAIRLY,
    LIKE_THE_MEAN,
    STANDS_OUT,
    compute_disagreement,
    describe_disagreement,
    find_worst_moment,
)
from eval.doctor.finding import Finding, Findings, fail, fine, unknown, warn
from eval.doctor.image_checks import find_dead_cameras
from eval.doctor.inputs import InputUse, check_inputs, measure_inputs
from eval.doctor.joint_bugs import swapped_gripper_bug

_GRIPPER_AGREES = 0.3
# A gripper that varies by less than this share of the expert's is effectively constant.
_CONSTANT = 0.1
# Plans that vary by less than this share of the expert's actions are the same plan.
_SAME = 1e-4
# The inputs are measured if this many times the predictions of the comparison do not take too long.
_COST_OF_INPUTS = 4

_FAIRLY = (
    "the plans are roughly the scripted expert's actions, which does not tell whether the policy "
    "succeeds: of checkpoints that differ by 0.08 to 0.2, some solve everything and some nothing "
    "(docs/doctor.md)"
)
_AT_MOST_MOMENTS = (
    "the plans are the scripted expert's actions at most moments, but not at all of them, which "
    "does not tell whether the policy succeeds: a bug can show at the decisive moments alone"
)
_UNEXPLAINED = (
    "No known bug explains it. If the policy learned from this expert's demonstrations "
    "(eval-demos), it was trained too little, or it observes something else than in training: look "
    "at its plans with whiskers. If it learned from other demonstrations, it may do the task in "
    "another way."
)
_NOT_ALL_TRIED = (
    "No bug of the plans explains it. Bugs of the observations (images, state, instruction) were "
    "not tried, because one prediction takes {:.1f} s."
)


def check_agreement(context: CheckContext) -> Findings:
    """Compare with the expert, and undo one bug after the other if the policy disagrees."""
    reference = context.reference
    if reference is None:
        yield unknown("agreement", "no scripted expert to compare with")
        return
    obstacle = _find_obstacle(context, reference)
    if obstacle is None:
        yield from _compare(context, reference)
    else:
        yield obstacle


def _find_obstacle(context: CheckContext, reference: Reference) -> Finding | None:
    """Return why the policy cannot be compared with the expert; None if it can."""
    check = "agreement"
    if not reference.success:
        return unknown(check, "the scripted expert does not do the task")
    if not context.policy.image_sizes:
        return unknown(check, "not compared with the expert: the policy has no cameras")
    cost_s = context.prediction_s * len(reference.memories)
    if cost_s > PATIENCE_S:
        return unknown(
            check,
            "not tried: a prediction takes too long",
            f"{cost_s:.0f} s in all",
        )
    degenerate = _check_degenerate(context.reference_plans, reference)
    if degenerate is None and context.adapters.wrong_instruction:
        told = "not compared with the expert: the policy is told the wrong instruction"
        return unknown(check, told)
    return degenerate


def _check_degenerate(plans: np.ndarray, reference: Reference) -> Finding | None:
    """Return what is wrong with plans that are not finite, or the same at every moment."""
    is_finite = np.isfinite(plans)
    if not is_finite.all():
        return fail(
            "plans",
            "the plans are not finite numbers",
            f"{1 - is_finite.mean():.0%} of the numbers, in an episode of the expert",
            "Look for NaN in the weights, in their buffers and in the statistics.",
        )
    is_same = (np.ptp(plans, axis=0) <= _SAME * reference.scale).all()
    if len(plans) > 1 and is_same:
        return warn(
            "plans",
            "the policy plans the same at every moment",
            f"over {len(plans)} moments of an episode of the expert",
            (
                "Its observations do not reach it: look for a queue that is not emptied, "
                "or for features kept from the first observation."
            ),
        )
    return None


def _compare(context: CheckContext, reference: Reference) -> Findings:
    chunks = context.reference_chunks
    plans = context.reference_plans
    own = compute_disagreement(plans, reference)
    evidence = (
        f"differs from the scripted expert by {own:.2f} of its standard deviation, "
        f"over {len(plans)} moments"
    )
    undone = None
    if context.action.gripper_indices:
        swap = swapped_gripper_bug(context)
        swapped = undo_in_plans(chunks, reference, swap, range(len(chunks)))
        is_swapped = _fits_swapped(context, reference, plans, swapped[:, : context.n_compared])
        for gripper in context.action.gripper_indices:
            found = _check_gripper(context, reference, plans, gripper, is_swapped)
            yield name_gripper(found, context.action, gripper)
        if is_swapped:
            undone = swap
            chunks = swapped
            plans = chunks[:, : context.n_compared]
            own = compute_disagreement(plans, reference)
            evidence += f"; {own:.2f} once open and closed of the gripper are swapped"
    worst, difference = find_worst_moment(plans, reference)
    if own < AGREES and difference < STANDS_OUT:
        yield fine("agreement", "plans what the scripted expert does", evidence)
        return
    if own < AGREES:
        evidence += f"; by {difference:.2f} at step {reference.steps[worst]}"
    dead_cameras = find_dead_cameras(context)
    uses: dict[str, InputUse] = {}
    if context.prediction_s * len(plans) * _COST_OF_INPUTS < PATIENCE_S:
        uses = measure_inputs(context, reference, plans)
    yield from check_inputs(context, reference, plans, uses, dead_cameras)
    explanation = find_bug(context, reference, chunks, with_images=not dead_cameras, undone=undone)
    if explanation is not None:
        bug, left = explanation
        yield bug.as_finding(f"{evidence}; {left}")
    elif own < AGREES:
        yield unknown("agreement", _AT_MOST_MOMENTS, evidence)
    elif own < AGREES_FAIRLY:
        yield unknown("agreement", _FAIRLY, evidence)
    else:
        # With these inputs of another moment, the plans get no worse.
        unhelpful = [
            name for name, use in uses.items() if compute_disagreement(use.plans, reference) < own
        ]
        evidence += f"; {describe_disagreement(plans, reference, context.action.names)}"
        if unhelpful:
            evidence += f"; no worse with another moment's {' or '.join(unhelpful)}"
        yield _make_unexplained(context, reference, own, evidence, dead_cameras)


def _make_unexplained(
    context: CheckContext,
    reference: Reference,
    own: float,
    evidence: str,
    dead_cameras: Mapping[str, str],
) -> Finding:
    """Return the finding on a disagreement that no known bug explains."""
    finding = "the policy does not plan what the scripted expert does"
    if own > LIKE_THE_MEAN:
        finding = "the plans have little to do with what the scripted expert does"
    hint = _UNEXPLAINED
    if not has_time_for_observation_bugs(context, reference):
        hint = _NOT_ALL_TRIED.format(context.prediction_s)
    if dead_cameras:
        hint = f"Repair {' and '.join(dead_cameras)} first: see 'pictures'."
    return warn("agreement", finding, evidence, hint)


def _check_gripper(
    context: CheckContext,
    reference: Reference,
    plans: np.ndarray,
    g: int,
    is_swapped: bool,
) -> Finding:
    planned = plans[..., g]
    expert = reference.future(plans.shape[1])[..., g]
    evidence = (
        f"plans {planned.min():.3g} to {planned.max():.3g}, "
        f"the expert {expert.min():.3g} to {expert.max():.3g}"
    )
    if is_swapped:
        return swapped_gripper_bug(context).as_finding(evidence)
    if planned.std() < _CONSTANT * expert.std():
        return _check_constant_gripper(context, planned, g, evidence)
    return fine("gripper", "the planned gripper opens and closes", evidence)


def _fits_swapped(
    context: CheckContext,
    reference: Reference,
    plans: np.ndarray,
    swapped: np.ndarray,
) -> bool:
    """Return whether each planned gripper fits the expert's far better with its ends swapped."""
    grippers = list(context.action.gripper_indices)
    expert = reference.future(plans.shape[1])
    error = np.abs(plans - expert)[..., grippers].mean(axis=(0, 1))
    error_swapped = np.abs(swapped - expert)[..., grippers].mean(axis=(0, 1))
    is_near = error_swapped < _GRIPPER_AGREES * reference.scale[grippers]
    return bool((is_near & (error_swapped < 0.5 * error)).all())


def _check_constant_gripper(
    context: CheckContext,
    planned: np.ndarray,
    g: int,
    evidence: str,
) -> Finding:
    """Compare a planned gripper that hardly moves with how it moved in training."""
    trained = context.statistics.action
    hint = "Is its range or unit another one than in training? See the other findings."
    if trained and trained.typical is not None:
        mean, width = (part[g] for part in trained.typical)
        evidence += f"; the training's mean is {mean:.3g}"
        if planned.std() > _CONSTANT * width:
            return fine("gripper", "the planned gripper moves as it did in training", evidence)
        if abs(planned.mean() - mean) < width / 2:
            hint = (
                "It stays near the training's mean: the policy was trained too little, or its "
                "inputs carry no information. Compare the other findings; --gripper-offset and "
                "--gripper-min shift what it plans."
            )
    return warn(
        "gripper",
        "the planned gripper hardly moves",
        evidence,
        hint,
    )
