"""Does the policy plan what a good one would? If not: which known bug, once undone, explains it?

Where the environment has a scripted expert, the policy is asked at moments of the expert's episode. A policy that
agrees with it much better once its pictures are turned round, or its gripper is, has that bug.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float

from eval.doctor.finding import Finding, Level
from eval.doctor.patient import PATIENCE_S, Patient, Reference, changed, changed_camera
from eval.evaluation import make_adapters
from sim.observation import Observation

# Mean difference to the expert in standard deviations of its actions. The shipped ACT has 0.04 to 0.07, and 0.1 to 1.1
# with any of the bugs below; who always plans the mean has about 0.8.
_AGREES, _AGREES_FAIRLY = 0.08, 0.3
_MUCH_BETTER, _BETTER = 0.6, 0.75
# A gripper that varies by less than this share of the expert's varies by nothing that matters.
_CONSTANT = 0.1
# How many times the policy is asked at every moment, at most.
_N_TRIALS = 14

type See = Callable[[Observation], Observation]
type Act = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bug:
    """A mistake that can be undone to see whether it was made.

    Attributes:
        see: undo it in an observation.
        act: undo it in a plan `(horizon, action_dim)`, given the state `(state_dim,)` in which it was made.
        only_gripper: it concerns nothing else.
    """

    check: str
    finding: str
    do: str
    see: See = lambda observation: observation
    act: Act = lambda plan, state: plan
    only_gripper: bool = False
    level: Level = Level.ERROR

    @property
    def share_left(self) -> float:
        """If it was made, undoing it leaves less than this of the disagreement."""
        return _MUCH_BETTER if self.level is Level.ERROR else _BETTER

    @property
    def most_left(self) -> float:
        """And no more than this in all: what is subtle must explain everything."""
        return _AGREES_FAIRLY if self.level is Level.ERROR else _AGREES


def check_agreement(patient: Patient) -> Iterator[Finding]:
    """Compare with the expert, and undo one bug after the other where the policy disagrees."""
    reference = patient.reference
    if reference is None or not reference.success or not patient.setup.policy.spec.image_sizes:
        yield Finding("agreement", Level.FINE, "no scripted expert to compare with")
        return
    cost_s = patient.prediction_s * len(reference.memories) * _N_TRIALS
    if cost_s > PATIENCE_S:
        yield Finding("agreement", Level.FINE, "not tried: a prediction takes too long", f"{cost_s:.0f} s in all")
        return
    plans = patient.reference_plans
    own = compute_disagreement(plans, reference)
    evidence = f"differs from the scripted expert by {own:.2f} of its standard deviation, over {len(plans)} moments"
    yield from _check_gripper(patient, reference, plans)
    if own < _AGREES:
        yield Finding("agreement", Level.FINE, "plans what the scripted expert does", evidence)
        return
    undone = {bug: _see(patient, reference, bug) for bug in _image_bugs(patient)}
    undone |= {bug: _act(plans, reference, bug) for bug in _action_bugs(patient) if not bug.only_gripper}
    left = {bug: compute_disagreement(better, reference) for bug, better in undone.items()}
    best = min(left, key=lambda bug: left[bug] / bug.share_left)
    if left[best] < min(best.share_left * own, best.most_left):
        evidence += f"; {left[best]:.2f} once that is undone"
        yield Finding(best.check, best.level, best.finding, evidence, best.do)
    else:
        yield Finding(
            "agreement", Level.FINE, "none of the known bugs explains how it differs from the expert", evidence
        )


def compute_disagreement(plans: Float[np.ndarray, "moment horizon action_dim"], reference: Reference) -> float:
    """Median over the moments of the mean |plan - expert| / std(expert)."""
    error = np.abs(plans - reference.future(plans.shape[1])) / reference.scale
    return float(np.median(error.mean(axis=(1, 2))))


def _check_gripper(patient: Patient, reference: Reference, plans: np.ndarray) -> Iterator[Finding]:
    g = patient.action.gripper_index
    planned, expert = plans[..., g], reference.future(plans.shape[1])[..., g]
    span = f"plans {planned.min():.3g} to {planned.max():.3g}, the expert {expert.min():.3g} to {expert.max():.3g}"
    (swapped,) = [bug for bug in _action_bugs(patient) if bug.only_gripper]
    error = np.abs(planned - expert).mean()
    turned = np.abs(_act(plans, reference, swapped)[..., g] - expert).mean()
    if turned < 0.5 * error and turned < _AGREES_FAIRLY * reference.scale[g]:
        yield Finding(swapped.check, swapped.level, swapped.finding, span, swapped.do)
    elif planned.std() < _CONSTANT * expert.std():
        yield from _check_still_gripper(patient, planned, span)
    else:
        yield Finding("gripper", Level.FINE, "the planned gripper opens and closes", span)


def _check_still_gripper(patient: Patient, planned: np.ndarray, span: str) -> Iterator[Finding]:
    """It hardly moves, for the expert. For the training too?"""
    trained = patient.normalisation and patient.normalisation.action
    do = "Another range or another unit than in training? See the other findings."
    if trained and trained.typical is not None:
        mean, width = (part[patient.action.gripper_index] for part in trained.typical)
        span += f"; the training's mean is {mean:.3g}"
        if planned.std() > _CONSTANT * width:
            yield Finding("gripper", Level.FINE, "the planned gripper moves as it did in training", span)
            return
        if abs(planned.mean() - mean) < width / 2:
            do = "It learned the mean: see more grasps in training, or test with --gripper-offset and --gripper-min."
    yield Finding("gripper", Level.WARNING, "the planned gripper hardly moves", span, do)


def _image_bugs(patient: Patient) -> list[Bug]:
    turned = "Turn them back where they are recorded or rendered; twice is a bug too."
    bugs = [
        Bug("image flip", "the images are rotated by 180 degrees", turned, see=_each(lambda i: i[::-1, ::-1])),
        Bug("image flip", "the images are upside down", turned, see=_each(lambda i: i[::-1])),
        Bug("image flip", "the images are mirrored left to right", turned, see=_each(lambda i: i[:, ::-1])),
        Bug("channel order", "red and blue are swapped", "Convert BGR to RGB once.", see=_each(lambda i: i[..., ::-1])),
    ]
    sizes = patient.setup.policy.spec.image_sizes
    if len(sizes) == 2 and len(set(sizes.values())) == 1:
        one, other = sizes
        pairs = {
            patient_camera: make_adapters(patient.config).camera_map.get(patient_camera, patient_camera)
            for patient_camera in sizes
        }
        do = f"Give --camera-map {one}={pairs[other]},{other}={pairs[one]}"
        bugs.append(
            Bug(
                "cameras",
                "the two cameras are swapped",
                do,
                see=lambda o: replace(o, images={one: o.images[other], other: o.images[one]}),
            )
        )
    for camera, factor in itertools.product(sizes, (0.67, 0.8, 1.25, 1.5)):
        finding = f"{camera} sees {'more' if factor > 1 else 'less'} of the scene than in training"
        do = "Evaluate with the camera of the training."
        see = changed_camera(camera, _zoom(factor))
        bugs.append(Bug("field of view", finding, do, see=see, level=Level.WARNING))
    return bugs


def _action_bugs(patient: Patient) -> list[Bug]:
    spec = patient.action
    g, both_ends = spec.gripper_index, spec.gripper_closed + spec.gripper_open

    def turn_gripper(plan, state):
        return np.concatenate([plan[..., :g], both_ends - plan[..., g : g + 1], plan[..., g + 1 :]], axis=-1)

    closed, open_ = make_adapters(patient.config).gripper_range or (spec.gripper_closed, spec.gripper_open)
    bugs = [
        Bug(
            "gripper",
            "open and closed are swapped",
            f"Give --gripper-range {open_:g} {closed:g}",
            act=turn_gripper,
            only_gripper=True,
        )
    ]
    if spec.mode == "absolute" and patient.env.state_names == spec.names:

        def add_state(plan, state):
            return np.where(np.arange(spec.dim) == g, plan, plan + state)

        def take_state(plan, state):
            return np.where(np.arange(spec.dim) == g, plan, plan - state)

        bugs += [
            Bug(
                "delta or absolute",
                "the actions are differences, and are taken for targets",
                "Give --policy-actions delta",
                act=add_state,
            ),
            Bug(
                "delta or absolute",
                "the actions are targets, and are taken for differences",
                "Leave --policy-actions delta out",
                act=take_state,
            ),
        ]
    trained = patient.normalisation and patient.normalisation.trained_action
    if trained and trained.typical is not None:
        middle, width = (part[: spec.dim] for part in trained.typical)
        do = "The postprocessor is missing or does nothing: save it with the training's statistics."
        bugs.append(
            Bug("postprocessor", "the actions are left normalised", do, act=lambda plan, state: plan * width + middle)
        )
    return bugs


def _see(patient: Patient, reference: Reference, bug: Bug) -> np.ndarray:
    memories = [changed(memory, bug.see) for memory in reference.memories]
    return patient.predict(*memories)[:, : patient.n_compared]


def _act(plans: np.ndarray, reference: Reference, bug: Bug) -> np.ndarray:
    return np.stack([bug.act(p, m.present.state) for p, m in zip(plans, reference.memories, strict=True)])


def _each(change: Callable[[np.ndarray], np.ndarray]) -> See:
    """Change every image of an observation."""
    return lambda o: replace(o, images={name: np.ascontiguousarray(change(i)) for name, i in o.images.items()})


def _zoom(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def zoom(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        about_middle = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factor)
        return cv2.warpAffine(image, about_middle, (width, height), borderMode=cv2.BORDER_REPLICATE)

    return zoom
