"""Compares the policy's plans with the scripted expert's actions, and looks for a known bug.

If the environment has a scripted expert, the policy predicts at sampled moments of the expert's
episode. If its plans agree with the expert once, say, its images are flipped back, the policy has
that bug. If they disagree and no known bug explains it, the finding says where they disagree.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from eval.doctor.bug_search import find_bug, undo_in_plans
from eval.doctor.check_context import PATIENCE_S, CheckContext, Reference
from eval.doctor.disagreement import (
    AGREES,
    AGREES_FAIRLY,
    LIKE_THE_MEAN,
    compute_disagreement,
    describe_disagreement,
)
from eval.doctor.finding import Finding, fail, fine, unknown, warn
from eval.doctor.image_checks import find_dead_cameras
from eval.doctor.inputs import STATE, InputUse, measure_inputs
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
_UNEXPLAINED = (
    "No known bug explains it. If the policy learned from this expert's demonstrations "
    "(eval-demos), it was trained too little, or it observes something else than in training: look "
    "at its plans with whiskers. If it learned from other demonstrations, it may do the task in "
    "another way."
)


def check_agreement(context: CheckContext) -> Iterator[Finding]:
    """Compare with the expert, and undo one bug after the other if the policy disagrees."""
    reference = context.reference
    if reference is None:
        yield unknown("agreement", "no scripted expert to compare with")
        return
    obstacle = _find_obstacle(context, reference)
    if obstacle is not None:
        yield obstacle
        return
    chunks = context.reference_chunks
    degenerate = _check_degenerate(chunks[:, : context.n_compared], reference)
    if degenerate is not None:
        yield degenerate
        return
    if context.config.adapters.wrong_instruction:
        yield unknown(
            "agreement",
            "not compared with the expert: the policy is told the wrong instruction",
        )
        return
    yield from _compare(context, reference, chunks)


def _find_obstacle(context: CheckContext, reference: Reference) -> Finding | None:
    """Return why the policy cannot be compared with the expert; None if it can."""
    check = "agreement"
    if not reference.success:
        return unknown(check, "the scripted expert does not do the task")
    if not context.setup.policy.spec.image_sizes:
        return unknown(
            check,
            "not compared with the expert: the policy has no cameras",
        )
    cost_s = _cost_s(context, reference)
    if cost_s > PATIENCE_S:
        return unknown(
            check,
            "not tried: a prediction takes too long",
            f"{cost_s:.0f} s in all",
        )
    return None


def _cost_s(context: CheckContext, reference: Reference) -> float:
    return context.prediction_s * len(reference.memories)


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


def _compare(context: CheckContext, reference: Reference, chunks: np.ndarray) -> Iterator[Finding]:
    plans = chunks[:, : context.n_compared]
    own = compute_disagreement(plans, reference)
    evidence = (
        f"differs from the scripted expert by {own:.2f} of its standard deviation, "
        f"over {len(plans)} moments"
    )
    yield from _check_gripper(context, reference, plans)
    if _has_swapped_gripper(context, reference, plans):
        bug = swapped_gripper_bug(context)
        chunks = undo_in_plans(chunks, reference, bug, range(len(chunks)))
        plans = chunks[:, : context.n_compared]
        own = compute_disagreement(plans, reference)
        evidence += f"; {own:.2f} once open and closed of the gripper are swapped"
    if own < AGREES:
        yield fine("agreement", "plans what the scripted expert does", evidence)
        return
    dead_cameras = find_dead_cameras(context)
    uses: dict[str, InputUse] = {}
    if _cost_s(context, reference) * _COST_OF_INPUTS < PATIENCE_S:
        uses = measure_inputs(context, reference, plans)
    yield from _check_inputs(uses, dead_cameras)
    explanation, left = find_bug(context, reference, chunks, with_images=not dead_cameras)
    if explanation is not None:
        yield explanation.as_finding(f"{evidence}; {left:.2f} once that is undone")
    elif own < AGREES_FAIRLY:
        yield unknown("agreement", _FAIRLY, evidence)
    else:
        evidence += f"; {describe_disagreement(plans, reference, context.action.names)}"
        evidence += _describe_unhelpful_inputs(uses, reference, own)
        yield _describe_unexplained(own, evidence, dead_cameras)


def _describe_unhelpful_inputs(
    uses: Mapping[str, InputUse], reference: Reference, own: float
) -> str:
    """Name the inputs with which the plans get no worse if they are those of another moment."""
    unhelpful = []
    for name, use in uses.items():
        if compute_disagreement(use.plans, reference) < own:
            unhelpful.append(name)
    return f"; no worse with another moment's {' or '.join(unhelpful)}" if unhelpful else ""


def _describe_unexplained(own: float, evidence: str, dead_cameras: Mapping[str, str]) -> Finding:
    finding = "the policy does not plan what the scripted expert does"
    if own > LIKE_THE_MEAN:
        finding = "the plans have little to do with what the scripted expert does"
    hint = _UNEXPLAINED
    if dead_cameras:
        hint = f"Repair {' and '.join(dead_cameras)} first: see 'pictures'."
    return warn(
        "agreement",
        finding,
        evidence,
        hint,
    )


def _check_inputs(
    uses: Mapping[str, InputUse], dead_cameras: Mapping[str, str]
) -> Iterator[Finding]:
    """Check whether the plans depend on the images.

    Dead cameras have a finding of their own. The state is not required: many policies do without.
    """
    cameras = [use for name, use in uses.items() if name != STATE]
    moved = ", ".join(f"{name} {use.moved:.2f}" for name, use in uses.items())
    evidence = (
        "with the input of another moment, the plans move by this many standard deviations: "
        f"{moved}"
    )
    if any(use.is_used for use in cameras):
        yield fine("inputs", "the plans depend on the images", evidence)
    elif cameras and not dead_cameras:
        yield warn(
            "inputs",
            "the plans hardly depend on the images: the policy cannot know where the object is",
            evidence,
            (
                "Look at the weights of the vision backbone, at the image statistics, "
                "and at what reaches the network."
            ),
        )


def _check_gripper(
    context: CheckContext, reference: Reference, plans: np.ndarray
) -> Iterator[Finding]:
    g = context.action.gripper_index
    planned = plans[..., g]
    expert = reference.future(plans.shape[1])[..., g]
    evidence = (
        f"plans {planned.min():.3g} to {planned.max():.3g}, "
        f"the expert {expert.min():.3g} to {expert.max():.3g}"
    )
    if _has_swapped_gripper(context, reference, plans):
        yield swapped_gripper_bug(context).as_finding(evidence)
    elif planned.std() < _CONSTANT * expert.std():
        yield _check_constant_gripper(context, planned, evidence)
    else:
        yield fine("gripper", "the planned gripper opens and closes", evidence)


def _has_swapped_gripper(context: CheckContext, reference: Reference, plans: np.ndarray) -> bool:
    """Return whether the planned gripper fits the expert's far better with its ends swapped."""
    g = context.action.gripper_index
    bug = swapped_gripper_bug(context)
    expert = reference.future(plans.shape[1])[..., g]
    swapped = undo_in_plans(plans, reference, bug, range(len(plans)))
    error = np.abs(plans[..., g] - expert).mean()
    error_swapped = np.abs(swapped[..., g] - expert).mean()
    is_nearer = error_swapped < 0.5 * error
    is_near = error_swapped < _GRIPPER_AGREES * reference.scale[g]
    return bool(is_nearer and is_near)


def _check_constant_gripper(context: CheckContext, planned: np.ndarray, evidence: str) -> Finding:
    """Compare a planned gripper that hardly moves with how it moved in training."""
    trained = context.normalisation and context.normalisation.action
    hint = "Is its range or unit another one than in training? See the other findings."
    if trained and trained.typical is not None:
        mean, width = (part[context.action.gripper_index] for part in trained.typical)
        evidence += f"; the training's mean is {mean:.3g}"
        if planned.std() > _CONSTANT * width:
            return fine(
                "gripper",
                "the planned gripper moves as it did in training",
                evidence,
            )
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
