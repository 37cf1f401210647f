"""Known bugs of harnesses and checkpoints, each as something that can be undone to see whether it was made."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from eval.doctor.camera_checks import propose_map_change
from eval.doctor.finding import Level
from eval.doctor.patient import Patient, Reference, changed_camera
from eval.evaluation import make_adapters
from sim.observation import Observation

type See = Callable[[Observation], Observation]
type Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
type Change = Callable[[np.ndarray], np.ndarray]

# A camera that stands a little elsewhere shows its picture moved by about this share of its width.
_SHIFT = 0.08
_GAMMA = 2.2
# Height of a 4:3 picture within the bars of a square letterbox.
_LETTERBOX = 3 / 4


@dataclass(frozen=True)
class Bug:
    """A mistake that can be undone to see whether it was made.

    Attributes:
        see: undoes it in an observation.
        act: undoes it in a plan `(horizon, action_dim)`, given the state `(state_dim,)` in which it was made; NaN where
            the plan does not say.
        level: a warning is subtle, and must explain everything to be named.
    """

    check: str
    finding: str
    do: str
    see: See | None = None
    act: Act | None = None
    level: Level = Level.ERROR


def image_bugs(patient: Patient) -> list[Bug]:
    """Return what can be wrong with the pictures: of all cameras, then of each by itself."""
    sizes = patient.setup.policy.spec.image_sizes
    is_square = all(height == width for height, width in sizes.values())
    bugs = _bugs_of_turning("the images", _each, is_square) + _bugs_of_preparation(_each)
    two_cameras = len(sizes) == 2
    if two_cameras and len(set(sizes.values())) == 1:
        bugs.append(_swapped_cameras(patient))
    for camera in sizes:

        def of_camera(change: Change, camera: str = camera) -> See:
            return changed_camera(camera, change)

        if two_cameras:
            bugs += _bugs_of_turning(f"the images of {camera}", of_camera, is_square)
        bugs += _bugs_of_pose(camera, of_camera)
    return bugs


def state_bugs(patient: Patient) -> list[Bug]:
    """Return what can be wrong with the state that the policy is shown."""
    names, spec = patient.env.state_names, patient.action
    if names != spec.names:
        return []
    g, both_ends = spec.gripper_index, spec.gripper_closed + spec.gripper_open

    def turn(observation: Observation) -> Observation:
        state = observation.state.copy()
        state[g] = both_ends - state[g]
        return replace(observation, state=state)

    do = "Turn it where it is recorded or read; --gripper-range turns it in the actions too."
    bugs = [Bug("gripper state", "the gripper's state is mirrored: open for closed", do, see=turn)]
    for one, other in itertools.combinations([i for i in range(len(names)) if i != g], 2):
        order = np.arange(len(names))
        order[[one, other]] = other, one

        def reorder(observation: Observation, order: np.ndarray = order) -> Observation:
            return replace(observation, state=observation.state[order])

        def reorder_plan(plan: np.ndarray, state: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            return plan[..., order]

        pair = f"{names[one]!r} and {names[other]!r} are exchanged"
        do = f"The environment's order is {', '.join(names)}: bring the checkpoint's data into it."
        bugs.append(Bug("joint order", f"{pair} in the state", do, see=reorder))
        bugs.append(Bug("joint order", f"{pair} in state and actions", do, see=reorder, act=reorder_plan))
    return bugs


def action_bugs(patient: Patient, plans: np.ndarray, reference: Reference) -> list[Bug]:
    """Return what can be wrong with the plans. To undo these costs no prediction."""
    spec = patient.action
    bugs = _bugs_of_time(patient.n_compared) + _bugs_of_joints(spec.names, spec.gripper_index, plans, reference)
    says_itself = patient.normalisation is not None and patient.normalisation.relative.output is not None
    if spec.mode == "absolute" and patient.env.state_names == spec.names and not says_itself:
        not_gripper = np.arange(spec.dim) != spec.gripper_index

        def add_state(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return plan + not_gripper * state

        def take_state(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return plan - not_gripper * state

        finding = "the actions are differences, and are taken for targets"
        bugs.append(Bug("delta or absolute", finding, "Give --policy-actions delta", act=add_state))
        finding = "the actions are targets, and are taken for differences"
        bugs.append(Bug("delta or absolute", finding, "Leave --policy-actions delta out", act=take_state))
    if "deg" in spec.units:
        angles = np.array([unit == "deg" for unit in spec.units])

        def to_degrees(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
            return np.where(angles, np.rad2deg(plan), plan)

        do = "Turn them into degrees once, where the training's data or the processors are made."
        bugs.append(Bug("action units", "the planned angles are radians, where degrees are taken", do, act=to_degrees))
    trained = patient.normalisation and patient.normalisation.trained_action
    if trained and trained.typical is not None:
        middle, width = (part[: spec.dim] for part in trained.typical)
        do = "The postprocessor is missing or does nothing: save it with the training's statistics."
        bugs.append(
            Bug("postprocessor", "the actions are left normalised", do, act=lambda plan, state: plan * width + middle)
        )
    return bugs


def turned_gripper(patient: Patient) -> Bug:
    """Return the bug that concerns the planned gripper alone."""
    spec = patient.action
    g, both_ends = spec.gripper_index, spec.gripper_closed + spec.gripper_open

    def turn(plan: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.concatenate([plan[..., :g], both_ends - plan[..., g : g + 1], plan[..., g + 1 :]], axis=-1)

    closed, open_ = make_adapters(patient.config).gripper_range or (spec.gripper_closed, spec.gripper_open)
    return Bug("gripper", "open and closed are swapped", f"Give --gripper-range {open_:g} {closed:g}", act=turn)


def _bugs_of_turning(which: str, of: Callable[[Change], See], is_square: bool) -> list[Bug]:
    do = "Turn them back where they are recorded or rendered; twice is a bug too."
    changes: list[tuple[str, Change]] = [
        ("rotated by 180 degrees", lambda i: i[::-1, ::-1]),
        ("upside down", lambda i: i[::-1]),
        ("mirrored left to right", lambda i: i[:, ::-1]),
    ]
    if is_square:
        changes += [("rotated by 90 degrees", np.rot90), ("rotated by 270 degrees", lambda i: np.rot90(i, 3))]
    bugs = [Bug("image flip", f"{which} are {words}", do, see=of(change)) for words, change in changes]
    do = "Convert BGR to RGB once."
    bugs.append(Bug("channel order", f"red and blue are swapped in {which}", do, see=of(lambda i: i[..., ::-1])))
    return bugs


def _bugs_of_preparation(of: Callable[[Change], See]) -> list[Bug]:
    do = "Compare how the pictures were encoded in the training: linear light, or sRGB."
    bugs = [
        Bug("gamma", f"the images are {words} than in training, as by a gamma of {_GAMMA:g}", do, see=of(_gamma(power)))
        for words, power in (("darker", 1 / _GAMMA), ("brighter", _GAMMA))
    ]
    do = "Resize as the training did, with or without bars."
    finding = "the images are stretched, and were between bars in training"
    bugs.append(Bug("letterbox", "the images are shown between bars", do, see=of(_crop_bars)))
    bugs.append(Bug("letterbox", finding, do, see=of(_add_bars)))
    return bugs


def _swapped_cameras(patient: Patient) -> Bug:
    one, other = patient.setup.policy.spec.image_sizes
    given = make_adapters(patient.config).camera_map
    exchanged = {one: given.get(other, other), other: given.get(one, one)}
    do = propose_map_change(patient, exchanged) or "Exchange the two where they are named."

    def swap(observation: Observation) -> Observation:
        return replace(observation, images={one: observation.images[other], other: observation.images[one]})

    return Bug("cameras", "the two cameras are swapped", do, see=swap)


def _bugs_of_pose(camera: str, of: Callable[[Change], See]) -> list[Bug]:
    """Return another angle of view, and a camera that stands or looks a little elsewhere."""
    do = "Evaluate with the camera of the training."
    bugs = []
    for factor in (0.67, 0.8, 1.25, 1.5):
        finding = f"{camera} sees {'more' if factor > 1 else 'less'} of the scene than in training"
        bugs.append(Bug("field of view", finding, do, see=of(_warp(zoom=factor)), level=Level.WARNING))
    for words, right, down in (("left", 1, 0), ("right", -1, 0), ("up", 0, 1), ("down", 0, -1)):
        finding = f"{camera} looks further {words} than in training, by about {_SHIFT:.0%} of its picture"
        see = of(_warp(shift=(-_SHIFT * right, -_SHIFT * down)))
        bugs.append(Bug("camera pose", finding, do, see=see, level=Level.WARNING))
    return bugs


def _bugs_of_time(n_compared: int) -> list[Bug]:
    do = "Compare the control rate and the chunk's first step with the training's."

    def shift(plan: np.ndarray, k: int) -> np.ndarray:
        """Take `plan[t + k]` for step t."""
        moved = np.full_like(plan, np.nan)
        if k > 0:
            moved[:-k] = plan[k:]
        else:
            moved[-k:] = plan[:k]
        return moved

    def play(plan: np.ndarray, speed: float) -> np.ndarray:
        """Take `plan[t * speed]` for step t."""
        steps = np.arange(len(plan))
        columns = [np.interp(steps * speed, steps, column, right=np.nan) for column in plan.T]
        return np.stack(columns, axis=-1)

    bugs = [Bug("plan order", "the plans run backwards", "Reverse them once.", act=lambda plan, state: plan[::-1])]
    for k in (k for k in (-8, -4, -2, 2, 4, 8) if 2 * abs(k) <= n_compared):
        finding = f"the plans come {abs(k)} steps too {'late' if k > 0 else 'early'}"

        def act(plan: np.ndarray, state: np.ndarray, k: int = k) -> np.ndarray:
            return shift(plan, k)

        bugs.append(Bug("timing", finding, do, act=act, level=Level.WARNING))
    for speed, words in ((2.0, "half as fast"), (0.5, "twice as fast")):

        def replay(plan: np.ndarray, state: np.ndarray, speed: float = speed) -> np.ndarray:
            return play(plan, speed)

        bugs.append(Bug("timing", f"the plans are {words} as the expert", do, act=replay, level=Level.WARNING))
    return bugs


def _bugs_of_joints(names: tuple[str, ...], gripper_index: int, plans: np.ndarray, reference: Reference) -> list[Bug]:
    """Return the joint order, the signs and the offset that would fit best, where they are not as they should be."""
    expert = reference.future(plans.shape[1])
    # [i, j]: how far planned joint i is from the expert's joint j.
    error = np.stack([np.abs(plans[..., [i]] - expert).mean(axis=(0, 1)) for i in range(len(names))]) / reference.scale
    planned, wanted = linear_sum_assignment(error)
    order = planned[np.argsort(wanted)]
    bugs = []
    if (order != np.arange(len(names))).any():
        moved = np.flatnonzero(order != np.arange(len(names)))
        words = ", ".join(f"{names[i]!r} gets what {names[order[i]]!r} should" for i in np.argsort(order) if i in moved)
        do = f"The environment's order is {', '.join(names)}: bring the checkpoint's data into it."
        finding = f"the planned joints are in another order ({words})"
        bugs.append(Bug("joint order", finding, do, act=lambda plan, state: plan[..., order]))
    flipped = np.abs(-plans - expert).mean(axis=(0, 1)) < 0.5 * np.abs(plans - expert).mean(axis=(0, 1))
    flipped[gripper_index] = False
    if flipped.any():
        which = ", ".join(repr(names[i]) for i in np.flatnonzero(flipped))
        signs = np.where(flipped, -1, 1)
        do = "Flip it where it is recorded, or in the processors."
        finding = f"the sign of {which} is turned"
        bugs.append(Bug("joint sign", finding, do, act=lambda plan, state: plan * signs))
    offset = np.median(plans - expert, axis=(0, 1))
    worst = int((np.abs(offset) / reference.scale * (np.arange(len(names)) != gripper_index)).argmax())
    one = np.where(np.arange(len(names)) == worst, offset, 0.0)
    do = "Compare where the joint's zero is in training and here (homing, calibration, statistics)."
    finding = f"{names[worst]!r} is planned off by {offset[worst]:+.3g} throughout"
    bugs.append(Bug("joint offset", finding, do, act=lambda plan, state: plan - one, level=Level.WARNING))
    return bugs


def _each(change: Change) -> See:
    """Change every image of an observation."""
    return lambda o: replace(o, images={name: np.ascontiguousarray(change(i)) for name, i in o.images.items()})


def _gamma(power: float) -> Change:
    table = np.rint(255 * (np.arange(256) / 255) ** power).astype(np.uint8)
    return lambda image: table[image]


def _crop_bars(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    bar = round(height * (1 - _LETTERBOX) / 2)
    return cv2.resize(image[bar : height - bar], (width, height), interpolation=cv2.INTER_AREA)


def _add_bars(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    bar = round(height * (1 - _LETTERBOX) / 2)
    padded = np.zeros_like(image)
    padded[bar : height - bar] = cv2.resize(image, (width, height - 2 * bar), interpolation=cv2.INTER_AREA)
    return padded


def _warp(zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Change:
    """Zoom about the middle, then move by shares of the width and the height."""

    def warp(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, zoom)
        matrix[:, 2] += np.array(shift) * (width, height)
        return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)

    return warp
