"""Does the policy plan what a good one would? If not: which known bug, once undone, explains it?

Where the environment has a scripted expert, the policy is asked at moments of the expert's episode.
A policy that agrees with it once its pictures are turned round, or its gripper is, has that bug.
One that disagrees for no known reason is said to disagree, and where.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.bugs import Bug, See, action_bugs, instruction_bugs
from eval.doctor.calibration import calibration_bugs
from eval.doctor.check_context import PATIENCE_S, CheckContext, Reference, changed
from eval.doctor.finding import Finding, Level
from eval.doctor.inputs import STATE, InputUse, measure_inputs
from eval.doctor.joint_bugs import plan_bugs, state_bugs, turned_gripper
from eval.doctor.picture_bugs import image_bugs
from eval.doctor.picture_checks import find_dead_cameras

# Mean difference to the expert in standard deviations of its actions. Every checkpoint below 0.08
# solved at least 19 of 20 episodes; those between 0.08 and 0.2 solved 0 to 19 (docs/doctor.md). Who
# always plans the mean has about 0.8.
_AGREES, _AGREES_FAIRLY, _LIKE_THE_MEAN = 0.08, 0.2, 0.6
# Of the disagreement, what is left once a bug is undone that was made; of a subtle one, which
# changes less.
_LEFT = {Level.ERROR: 0.6, Level.WARNING: 0.75}
_MOST_LEFT = {Level.ERROR: _AGREES_FAIRLY, Level.WARNING: 0.1}
# A bug is named if any of another kind leaves so many times more: else both may explain it.
_MARGIN = 1.2
_GRIPPER_AGREES = 0.3
# A gripper that varies by less than this share of the expert's varies by nothing that matters.
_CONSTANT = 0.1
# All bugs are tried at few moments, and at every moment those that help most there.
_N_SCREENED, _N_CONFIRMED = 2, 4
# The size of a bug is estimated in steps that grow smaller.
_STEPS = (1.0, 0.5)
# Another size is taken if it leaves less than this share.
_BETTER = 0.9
# Plans that vary by less than this share of the expert's actions are the same plan.
_SAME = 1e-4
# A third of the episode is named if it disagrees this much more than the median third; a half of
# the chunk, more than the other half.
_STANDS_OUT = 1.5

_FAIRLY = (
    "plans about what the scripted expert does, which does not tell whether it succeeds: of checkpoints that differ by "
    "0.08 to 0.2, some solve everything and some nothing (docs/doctor.md)"
)
_UNEXPLAINED = (
    "No known bug explains it. A policy that learned from this expert's demonstrations (eval-demos) is trained too "
    "little, or is shown something else than in training: look at its plans with whiskers. One that learned from other "
    "demonstrations may do the task in another way."
)


def check_agreement(context: CheckContext) -> Iterator[Finding]:
    """Compare with the expert, and undo one bug after the other where the policy disagrees."""
    reference = context.reference
    if reference is None or not reference.success:
        finding = (
            "no scripted expert to compare with"
            if reference is None
            else "the scripted expert does not do the task"
        )
        yield Finding("agreement", Level.UNKNOWN, finding)
        return
    if not context.setup.policy.spec.image_sizes:
        yield Finding(
            "agreement", Level.UNKNOWN, "not compared with the expert: the policy has no cameras"
        )
        return
    cost_s = context.prediction_s * len(reference.memories)
    if cost_s > PATIENCE_S:
        yield Finding(
            "agreement",
            Level.UNKNOWN,
            "not tried: a prediction takes too long",
            f"{cost_s:.0f} s in all",
        )
        return
    chunks = context.reference_chunks
    plans = chunks[:, : context.n_compared]
    if not np.isfinite(plans).all():
        hint = "Look for NaN in the weights, in their buffers and in the statistics."
        share = f"{1 - np.isfinite(plans).mean():.0%} of the numbers, in an episode of the expert"
        yield Finding("plans", Level.ERROR, "the plans are not finite numbers", share, hint)
        return
    if len(plans) > 1 and (np.ptp(plans, axis=0) <= _SAME * reference.scale).all():
        hint = "What it sees does not reach it: look for a queue that is not emptied, features kept from the first look."
        evidence = f"over {len(plans)} moments of an episode of the expert"
        yield Finding(
            "plans", Level.WARNING, "the policy plans the same at every moment", evidence, hint
        )
        return
    if context.config.adapters.wrong_instruction:
        finding = "not compared with the expert: the policy is told the wrong instruction"
        yield Finding("agreement", Level.UNKNOWN, finding)
        return
    own = compute_disagreement(plans, reference)
    evidence = f"differs from the scripted expert by {own:.2f} of its standard deviation, over {len(plans)} moments"
    yield from _check_gripper(context, reference, plans)
    if _is_turned(context, reference, plans):
        chunks = _act(chunks, reference, turned_gripper(context), range(len(chunks)))
        plans = chunks[:, : context.n_compared]
        own = compute_disagreement(plans, reference)
        evidence += f"; {own:.2f} once the gripper is turned"
    if own < _AGREES:
        yield Finding("agreement", Level.OK, "plans what the scripted expert does", evidence)
        return
    dead = find_dead_cameras(context)
    uses = measure_inputs(context, reference, plans) if cost_s * _N_CONFIRMED < PATIENCE_S else {}
    yield from _check_inputs(context, uses, dead)
    bug, left = _find_bug(context, reference, chunks, with_images=not dead)
    if bug is not None:
        yield Finding(
            bug.check,
            bug.level,
            bug.finding,
            f"{evidence}; {left:.2f} once that is undone",
            bug.hint,
        )
    elif own < _AGREES_FAIRLY:
        yield Finding("agreement", Level.UNKNOWN, _FAIRLY, evidence)
    else:
        finding = (
            "the plans have little to do with what the scripted expert does"
            if own > _LIKE_THE_MEAN
            else "the policy does not plan what the scripted expert does"
        )
        evidence += f"; {describe_disagreement(plans, reference, context.action.names)}"
        idle = [
            name for name, use in uses.items() if compute_disagreement(use.plans, reference) < own
        ]
        if idle:
            evidence += f"; no worse with another moment's {' or '.join(idle)}"
        hint = f"Mend {' and '.join(dead)} first: see 'pictures'." if dead else _UNEXPLAINED
        yield Finding("agreement", Level.WARNING, finding, evidence, hint)


def _check_inputs(
    context: CheckContext, uses: Mapping[str, InputUse], dead: Mapping[str, str]
) -> Iterator[Finding]:
    """Say whether the plans follow the pictures.

    A dead camera is named elsewhere, and many do without a state.
    """
    cameras = {name: use for name, use in uses.items() if name != STATE}
    moved = ", ".join(f"{name} {use.moved:.2f}" for name, use in uses.items())
    evidence = f"the plans move by so many standard deviations with that of another moment: {moved}"
    if any(use.is_noticed for use in cameras.values()):
        yield Finding("inputs", Level.OK, "the plans follow the pictures", evidence)
    elif cameras and not dead:
        finding = (
            "the plans hardly depend on the pictures: the policy cannot know where the object is"
        )
        hint = "Look at the vision's weights, at the image statistics, and at what reaches the network."
        yield Finding("inputs", Level.WARNING, finding, evidence, hint)


def compute_disagreement(
    plans: Float[np.ndarray, "moment horizon action_dim"],
    reference: Reference,
    moments: Sequence[int] | None = None,
) -> float:
    """Return the median over the moments of the mean |plan - expert| / std(expert); NaN in a plan is left out."""
    error = _compute_error(plans, reference, moments)
    return float(np.median(np.nanmean(error, axis=(1, 2))))


def describe_disagreement(
    plans: Float[np.ndarray, "moment horizon action_dim"],
    reference: Reference,
    names: Sequence[str],
) -> str:
    """Name the joints, the phase and the part of the chunk that disagree most."""
    error = _compute_error(plans, reference)
    by_joint, by_moment, by_step = (error.mean(axis=axes) for axes in ((0, 1), (1, 2), (0, 2)))
    thirds = [part.mean() for part in np.array_split(by_moment, 3) if len(part)]
    halves = [part.mean() for part in np.array_split(by_step, 2) if len(part)]
    worst = np.argsort(-by_joint)[:2]
    where = "by joint most in " + " and ".join(f"{names[j]!r} ({by_joint[j]:.2f})" for j in worst)
    phase = int(np.argmax(thirds))
    if thirds[phase] > _STANDS_OUT * np.median(thirds):
        where += f"; most in the {('first', 'second', 'last')[phase]} third of the episode ({thirds[phase]:.2f})"
    if max(halves) > _STANDS_OUT * min(halves):
        part = ("near", "far")[int(np.argmax(halves))]
        where += f"; most in the {part} half of the chunk ({max(halves):.2f})"
    return where


def _compute_error(
    plans: np.ndarray, reference: Reference, moments: Sequence[int] | None = None
) -> Float[np.ndarray, "moment horizon action_dim"]:
    expert = reference.future(plans.shape[1])
    return np.abs(plans - (expert if moments is None else expert[list(moments)])) / reference.scale


def _find_bug(
    context: CheckContext, reference: Reference, chunks: np.ndarray, with_images: bool
) -> tuple[Bug | None, float]:
    """Return the one bug that explains the disagreement, and what is left of it; None if none does, or several do."""
    every = range(len(reference.memories))
    plans = chunks[:, : context.n_compared]
    own = compute_disagreement(plans, reference)
    of_plans = action_bugs(context) + plan_bugs(context, plans, reference)
    left = _undo_each(context, reference, chunks, of_plans, every)
    if context.prediction_s * len(every) * _N_CONFIRMED < PATIENCE_S:
        shown = (
            state_bugs(context, reference) + calibration_bugs(context) + instruction_bugs(context)
        )
        shown += image_bugs(context, reference) if with_images else []
        few = np.linspace(0, len(every) - 1, _N_SCREENED + 2).round().astype(int)[1:-1].tolist()
        screened = _undo_each(context, reference, chunks, shown, few)
        best_few = sorted(shown, key=screened.__getitem__)[:_N_CONFIRMED]
        left |= _undo_each(context, reference, chunks, best_few, every)
        promising = {bug: left[bug] for bug in best_few if bug.nearby and left[bug] < own}
        left |= _refine(context, reference, chunks, promising)
    best = min(left, key=lambda bug: left[bug] / _LEFT[bug.level])
    others = [value for bug, value in left.items() if bug.check != best.check]
    explains = left[best] < min(_LEFT[best.level] * own, _MOST_LEFT[best.level])
    stands_out = all(value > _MARGIN * left[best] for value in others)
    return (best if explains and stands_out else None), left[best]


def _refine(
    context: CheckContext, reference: Reference, chunks: np.ndarray, left: dict[Bug, float]
) -> dict[Bug, float]:
    """Return the best of these bugs once its size is estimated, step by step, and what that leaves."""
    if not left:
        return {}
    best = min(left, key=left.__getitem__)
    for step in _STEPS:
        assert best.nearby is not None
        left |= _undo_each(
            context, reference, chunks, best.nearby(step), range(len(reference.memories))
        )
        nearest = min(left, key=left.__getitem__)
        if left[nearest] < _BETTER * left[best]:
            best = nearest
    return {best: left[best]}


def _undo_each(
    context: CheckContext,
    reference: Reference,
    chunks: np.ndarray,
    bugs: Sequence[Bug],
    moments: Sequence[int],
) -> dict[Bug, float]:
    """Return the disagreement at those moments without each bug."""
    seen: dict[See | None, np.ndarray] = {None: chunks[list(moments)]}
    left = {}
    for bug in bugs:
        if bug.see is not None and bug.see not in seen:
            memories = [changed(reference.memories[i], bug.see) for i in moments]
            seen[bug.see] = context.predict(*memories)
        undone = _act(seen[bug.see], reference, bug, moments)[:, : context.n_compared]
        left[bug] = compute_disagreement(undone, reference, moments)
    return left


def _act(
    plans: np.ndarray, reference: Reference, bug: Bug, moments: Sequence[int]
) -> Float[np.ndarray, "moment horizon action_dim"]:
    if bug.act is None:
        return plans
    states = [reference.memories[i].present.state for i in moments]
    return np.stack([bug.act(plan, state) for plan, state in zip(plans, states, strict=True)])


def _check_gripper(
    context: CheckContext, reference: Reference, plans: np.ndarray
) -> Iterator[Finding]:
    g = context.action.gripper_index
    planned, expert = plans[..., g], reference.future(plans.shape[1])[..., g]
    span = f"plans {planned.min():.3g} to {planned.max():.3g}, the expert {expert.min():.3g} to {expert.max():.3g}"
    swapped = turned_gripper(context)
    if _is_turned(context, reference, plans):
        yield Finding(swapped.check, swapped.level, swapped.finding, span, swapped.hint)
    elif planned.std() < _CONSTANT * expert.std():
        yield from _check_still_gripper(context, planned, span)
    else:
        yield Finding("gripper", Level.OK, "the planned gripper opens and closes", span)


def _is_turned(context: CheckContext, reference: Reference, plans: np.ndarray) -> bool:
    """Return whether the planned gripper is much nearer to the expert's with open and closed exchanged."""
    g, bug = context.action.gripper_index, turned_gripper(context)
    expert = reference.future(plans.shape[1])[..., g]
    error = np.abs(plans[..., g] - expert).mean()
    turned = np.abs(_act(plans, reference, bug, range(len(plans)))[..., g] - expert).mean()
    return bool(turned < 0.5 * error and turned < _GRIPPER_AGREES * reference.scale[g])


def _check_still_gripper(
    context: CheckContext, planned: np.ndarray, span: str
) -> Iterator[Finding]:
    """It hardly moves, for the expert. For the training too?"""
    trained = context.normalisation and context.normalisation.action
    hint = "Another range or another unit than in training? See the other findings."
    if trained and trained.typical is not None:
        mean, width = (part[context.action.gripper_index] for part in trained.typical)
        span += f"; the training's mean is {mean:.3g}"
        if planned.std() > _CONSTANT * width:
            yield Finding(
                "gripper", Level.OK, "the planned gripper moves as it did in training", span
            )
            return
        if abs(planned.mean() - mean) < width / 2:
            hint = (
                "It stays near the training's mean: too little training, or inputs that tell it nothing. Compare the "
                "other findings; --gripper-offset and --gripper-min shift what it plans."
            )
    yield Finding("gripper", Level.WARNING, "the planned gripper hardly moves", span, hint)
