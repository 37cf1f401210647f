"""Plants single bugs in a copy of a checkpoint, in observations, in plans or in flags."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import load_file

from policies.checkpoint_files import find_checkpoint
from sim.observation import Observation
from sim.so101.pick_place_words import INSTRUCTIONS
from tests.small_checkpoints import edit_statistics, edit_tensors
from tests.small_tokenizers import save_byte_tokenizer

type Damage = Callable[[Path], None]
type Spoil = Callable[[Observation], Observation]
type Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
type ArrayChange = Callable[[np.ndarray], np.ndarray]
type TensorChange = Callable[[str, np.ndarray], np.ndarray]

GRIPPER = 5
OVERHEAD = "overhead_cam"
WRIST = "wrist_cam"


@dataclass(frozen=True)
class Plant:
    """Describes one bug, and the findings that name it.

    Attributes:
        checks: the checks that may name it, separated by "|"; "refused" is an error at opening.
        words: words, separated by "|", of which the finding must contain one.
        files: damages a copy of the checkpoint.
        seen: spoils the observations of the environment.
        plans: changes plans `(batch, horizon, action_dim)`, given the states in which they were
            made.
        flags: flags of the command.
    """

    name: str
    checks: str = ""
    words: str = ""
    files: Damage | None = None
    seen: Spoil | None = None
    plans: Change | None = None
    flags: Mapping[str, object] = field(default_factory=dict)


def images(change: ArrayChange, *cameras: str) -> Spoil:
    """Return a function that changes the images of those cameras, or of all cameras."""

    def spoil(observation):
        changed = dict(observation.images)
        for camera in cameras or observation.images:
            changed[camera] = np.ascontiguousarray(change(observation.images[camera]))
        return replace(observation, images=changed)

    return spoil


def state(change: ArrayChange) -> Spoil:
    def spoil(observation):
        changed = change(observation.state.astype(np.float64))
        return replace(observation, state=changed.astype(np.float32))

    return spoil


def words(change: Callable[[str], str]) -> Spoil:
    """Return a function that changes the instruction of an observation."""
    return lambda o: replace(o, instruction=change(o.instruction))


def statistics(edit: TensorChange, part: str = "*processor") -> Damage:
    """Return a function that changes the tensors of the normalisers."""
    return lambda folder: edit_statistics(folder, edit, part)


def statistics_of(
    feature: str, change: ArrayChange, *kinds: str, part: str = "*processor"
) -> Damage:
    """Return a function that changes the statistics of one feature.

    Args:
        kinds: the statistics to change; without any, all but the count are changed.
    """

    def edit(name, value):
        key, _, kind = name.rpartition(".")
        is_chosen = kind in kinds if kinds else kind != "count"
        return change(value) if key.startswith(feature) and is_chosen else value

    return statistics(edit, part)


def weights(edit: TensorChange) -> Damage:
    """Return a function that changes the weights. A bug that changes none of them is none."""

    def damage(folder):
        path = folder / "model.safetensors"
        before = path.read_bytes()
        edit_tensors(path, edit)
        assert path.read_bytes() != before, "the weights are as before"

    return damage


def settings(file: str, edit: Callable[[dict], object]) -> Damage:
    """Return a function that edits a JSON file of the checkpoint in place."""

    def damage(folder):
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        edit(content)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return damage


def identity(part: str, kind: str) -> Damage:
    """Return a function that switches off the normalisation of one kind of feature."""

    def edit(pipeline):
        for step in pipeline["steps"]:
            if "norm_map" in step.get("config", {}):
                step["config"]["norm_map"][kind] = "IDENTITY"

    return settings(f"policy_{part}.json", edit)


def at(index: int, value: float) -> ArrayChange:
    """Return a function that replaces one number of an array."""

    def change(array):
        array = array.copy()
        array.reshape(-1)[index] = value
        return array

    return change


def plus(index: int, value: float) -> ArrayChange:
    """Return a function that adds to one number of the last axis."""

    def change(array):
        return array + value * (np.arange(array.shape[-1]) == index)

    return change


def exchanged(array):
    return array[..., [0, 2, 1, 3, 4, 5]]


def in_old_calibration(folder: Path) -> None:
    """Convert the checkpoint to lerobot's old degrees; the policy stays the same.

    In the old degrees, shoulder_lift is 90 - x and elbow_flex is x + 90. A mirrored number keeps
    its std, so the layers that read it and write it change their signs.
    """
    mirrored = {
        "min": "max",
        "max": "min",
        "q01": "q99",
        "q99": "q01",
        "q10": "q90",
        "q90": "q10",
    }

    def mirror(name, value):
        key, _, kind = name.rpartition(".")
        if key in ("action", "observation.state") and kind not in ("count", "std"):
            value[1] = 90 - before[f"{key}.{mirrored.get(kind, kind)}"][1]
            value[2] += 90
        return value

    for path in folder.glob("policy_*processor_step_*.safetensors"):
        before = load_file(path)
        edit_tensors(path, mirror)

    def flip(name, value):
        if name == "model.encoder_robot_state_input_proj.weight":
            value[:, 1] *= -1
        elif name in ("model.action_head.weight", "model.action_head.bias"):
            value[1] *= -1
        return value

    weights(flip)(folder)


def imagenet(name, value):
    """Return ImageNet's statistics for those of a camera."""
    if name.endswith("cam.mean"):
        return np.array([0.485, 0.456, 0.406], value.dtype).reshape(value.shape)
    if name.endswith("cam.std"):
        return np.array([0.229, 0.224, 0.225], value.dtype).reshape(value.shape)
    return value


def shuffled(name, value):
    """Return the backbone's weights in random order."""
    if "backbone" in name and name.endswith("weight"):
        return np.random.default_rng(0).permutation(value.ravel()).reshape(value.shape)
    return value


def gamma(power: float) -> ArrayChange:
    return lambda image: np.uint8(255 * (image / 255) ** power)


def grey(image):
    return image.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)


def noisy_image(image):
    noise = np.random.default_rng(0).normal(0, 40, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def between_bars(image):
    height, width = image.shape[:2]
    bar = height // 8
    boxed = np.zeros_like(image)
    boxed[bar : height - bar] = cv2.resize(image, (width, height - 2 * bar))
    return boxed


def moved(
    right_px: float, down_px: float = 0.0, angle_deg: float = 0.0, zoom: float = 1.0
) -> ArrayChange:
    """Return a function that shifts, rotates and enlarges an image."""

    def change(image):
        height, width = image.shape[:2]
        middle = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, angle_deg, zoom)
        matrix[:, 2] += right_px, down_px
        size = (width, height)
        return cv2.warpAffine(
            image,
            matrix,
            size,
            borderMode=cv2.BORDER_REPLICATE,
        )

    return change


def coarse(image):
    height, width = image.shape[:2]
    return cv2.resize(cv2.resize(image, (16, 16)), (width, height))


def frozen(camera: str) -> Spoil:
    """Return a function that always shows the camera's first image."""
    kept = {}
    return images(
        lambda image: kept.setdefault(camera, image),
        camera,
    )


def swapped_cameras(observation: Observation) -> Observation:
    seen = observation.images
    return replace(
        observation,
        images={
            OVERHEAD: seen[WRIST],
            WRIST: seen[OVERHEAD],
        },
    )


def shown_twice(observation: Observation) -> Observation:
    show_overhead = images(
        lambda _: observation.images[OVERHEAD],
        WRIST,
    )
    return show_overhead(observation)


def mirrored_gripper(values):
    return np.where(np.arange(6) == GRIPPER, 100 - values, values)


def not_gripper(values):
    return values * (np.arange(6) != GRIPPER)


def late(plans, states):
    waiting = np.repeat(states[:, None], 4, axis=1)
    return np.concatenate([waiting, plans[:, :-4]], axis=1)


def half_speed(plans, states):
    return plans[:, np.arange(plans.shape[1]) // 2]


def with_flipped_shoulder(plans, states):
    return plans * np.array([1, -1, 1, 1, 1, 1])


def with_constant_gripper(plans, states):
    return not_gripper(plans) + 19.3 * (np.arange(6) == GRIPPER)


def as_differences(plans, states):
    return plans - not_gripper(states)[:, None]


def in_radians(plans, states):
    return np.where(np.arange(6) == GRIPPER, plans, np.deg2rad(plans))


def with_nan(plans, states):
    return plans + np.where(np.arange(6) == 3, np.nan, 0)


def noisy_plans(plans, states):
    return plans + np.random.default_rng(0).normal(0, 10, plans.shape)


def normalised(plans, states):
    (file,) = find_checkpoint("act").glob("policy_postprocessor_step_*.safetensors")
    tensors = load_file(file)
    return (plans - tensors["action.mean"]) / tensors["action.std"]


def the_first_always() -> Change:
    """Return a function that repeats the first plan, like a queue that is never emptied."""
    first = []

    def change(plans, states):
        if not first:
            first.append(plans[0])
        return np.repeat(first[0][None], len(plans), axis=0)

    return change


def opposite(instruction: str) -> str:
    """Return the instruction that names the other block and the other receptacle."""
    return dict(zip(INSTRUCTIONS, reversed(INSTRUCTIONS), strict=True))[instruction]


def in_steps(**fields: int) -> Damage:
    """Return a function that sets numbers of denoising steps in config.json."""
    return settings(
        "config.json",
        lambda config: config.update(fields),
    )


def cut_after(n_tokens: int) -> Damage:
    """Return a function that limits the length of the tokenized instruction."""

    def edit(pipeline):
        for step in pipeline["steps"]:
            if "max_length" in step.get("config", {}):
                step["config"]["max_length"] = n_tokens

    return settings("policy_preprocessor.json", edit)


def tokenizer_of_bytes(folder: Path) -> None:
    """Replace the tokenizer by one of another model: a token for each byte, and fewer tokens."""
    names = ("fake_image", "image", "global_image", "end_of_utterance")
    named_tokens = {f"{name}_token": f"<{name}>" for name in names}
    save_byte_tokenizer(folder / "vlm", **named_tokens)


def tokenizer_of_another_order(folder: Path) -> None:
    """Replace the tokenizer by one of another model: as many tokens, but with permuted ids."""
    tokenizer, special = _read_tokenizer(folder)
    vocabulary = tokenizer["model"]["vocab"]
    pieces = [piece for piece in vocabulary if piece not in special]
    ids = [vocabulary[piece] for piece in pieces]
    permuted = np.random.default_rng(0).permutation(ids).tolist()
    vocabulary.update(zip(pieces, permuted, strict=True))
    _write_tokenizer(folder, tokenizer)


def larger_tokenizer(folder: Path) -> None:
    """Replace the tokenizer by one of another model: a thousand other tokens come first."""
    tokenizer, special = _read_tokenizer(folder)
    others = {f"other{number}": len(special) + number for number in range(1000)}
    moved_ids = {}
    for piece, number in tokenizer["model"]["vocab"].items():
        moved_ids[piece] = number if piece in special else number + len(others)
    tokenizer["model"]["vocab"] = moved_ids | others
    _write_tokenizer(folder, tokenizer)


def _read_tokenizer(folder: Path) -> tuple[dict, set[str]]:
    """Return the content of the tokenizer's file, and its special tokens."""
    tokenizer = json.loads((folder / "vlm" / "tokenizer.json").read_text(encoding="utf-8"))
    return tokenizer, {token["content"] for token in tokenizer["added_tokens"]}


def _write_tokenizer(folder: Path, tokenizer: dict) -> None:
    path = folder / "vlm" / "tokenizer.json"
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def noisy(share: float) -> Damage:
    """Return a function that adds noise to each matrix of weights.

    Args:
        share: standard deviation of the noise, as a share of the matrix's standard deviation.
    """
    rng = np.random.default_rng(0)

    def edit(name, value):
        is_matrix = value.dtype.kind == "f" and value.ndim >= 2
        if not is_matrix:
            return value
        noise = rng.normal(size=value.shape)
        return (value + share * value.std() * noise).astype(value.dtype)

    return weights(edit)


def towards_early(share: float) -> Damage:
    """Return a function that mixes in the weights of `act-early`.

    `act-early` is a training run of the same recipe that was stopped early.
    """
    early = load_file(find_checkpoint("act-early") / "model.safetensors")

    def edit(name, value):
        if value.dtype.kind != "f":
            return value
        mixed = (1 - share) * value + share * early[name]
        return mixed.astype(value.dtype)

    return weights(edit)
