"""Plant bugs in a shipped policy, one at a time, and print what the doctor makes of each as a table.

    uv run python -m tests.planted_bugs
    uv run python -m tests.planted_bugs --policy smolvla

A bug is *named* if a warning or an error of its own check says it, *disagrees* if the doctor only
says that the policy does not plan what the expert does, *missed* if all is fine, and *misnamed* if
only other checks complain. Healthy policies are to be quiet. It takes some minutes. With
--rollouts, about half an hour, it rolls each of them out too, and shows for ACT how the
disagreement goes with success for checkpoints that get worse step by step.
"""

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import load_file, save_file

from eval.config import SubjectConfig
from eval.doctor.agreement import compute_disagreement
from eval.doctor.check_context import CheckContext
from eval.doctor.examination import examine
from eval.doctor.finding import Finding
from eval.drivers import run_episode
from eval.evaluation import Setup, set_up
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.action_chunk import ActionChunk
from policies.checkpoint_files import find_checkpoint
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.observation import Observation
from sim.so101.pick_place_words import INSTRUCTIONS
from tests.small_tokenizers import save_byte_tokenizer

type Damage = Callable[[Path], None]
type Spoil = Callable[[Observation], Observation]
type Change = Callable[[np.ndarray, np.ndarray], np.ndarray]

GRIPPER = 5
N_ROLLOUTS, N_GRADED = 6, 20
DISAGREES = "agreement"
SHOWN = 160  # characters of what the doctor says


@dataclass(frozen=True)
class Plant:
    """One bug, and the checks whose business it is.

    Attributes:
        checks: any of these names it; "refused" is an error at opening.
        words: of which its finding has at least one; none: any finding of those checks names it.
        files: damages a copy of the checkpoint.
        seen: spoils what the environment hands over.
        plans: changes plans `(batch, horizon, action_dim)`, given the states in which they were
            made.
        flags: of the command.
    """

    name: str
    checks: tuple[str, ...]
    words: tuple[str, ...] = ()
    files: Damage | None = None
    seen: Spoil | None = None
    plans: Change | None = None
    flags: tuple[tuple[str, object], ...] = ()


def images(change: Callable[[np.ndarray], np.ndarray], *cameras: str) -> Spoil:
    """Change the images of those cameras, or of all."""

    def spoil(observation: Observation) -> Observation:
        chosen = cameras or tuple(observation.images)
        changed = {
            camera: np.ascontiguousarray(change(observation.images[camera])) for camera in chosen
        }
        return replace(observation, images=dict(observation.images) | changed)

    return spoil


def state(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda o: replace(o, state=change(o.state.astype(np.float64)).astype(np.float32))


def words(change: Callable[[str], str]) -> Spoil:
    """Change the instruction that is handed over."""
    return lambda o: replace(o, instruction=change(o.instruction))


def statistics(
    edit: Callable[[str, np.ndarray], np.ndarray], part: str = "policy_*processor"
) -> Damage:
    """Change the tensors of the normalisers."""

    def damage(folder: Path) -> None:
        for path in folder.glob(f"{part}_step_*.safetensors"):
            save_file(
                {
                    name: np.ascontiguousarray(edit(name, v.copy()))
                    for name, v in load_file(path).items()
                },
                path,
            )

    return damage


def settings(file: str, edit: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        edit(content)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return damage


def weights(edit: Callable[[str, np.ndarray], np.ndarray]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(
            {
                name: np.ascontiguousarray(edit(name, v.copy()))
                for name, v in load_file(path).items()
            },
            path,
        )

    return damage


def of_feature(feature: str, change: Callable[[np.ndarray], np.ndarray], *kinds: str) -> Callable:
    """Change the statistics of one feature: all but its count, or those kinds."""

    def edit(name: str, value: np.ndarray) -> np.ndarray:
        key, _, kind = name.rpartition(".")
        return (
            change(value)
            if key.startswith(feature) and kind != "count" and (not kinds or kind in kinds)
            else value
        )

    return edit


def identity(part: str, kind: str) -> Damage:
    def edit(pipeline: dict) -> None:
        for step in pipeline["steps"]:
            if "norm_map" in step.get("config", {}):
                step["config"]["norm_map"][kind] = "IDENTITY"

    return settings(f"policy_{part}.json", edit)


def at(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[index] = value
        return array

    return change


def plus(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array + value * (np.arange(array.shape[-1]) == index)


def exchanged(array: np.ndarray) -> np.ndarray:
    return array[..., [0, 2, 1, 3, 4, 5]]


def in_old_calibration(folder: Path) -> None:
    """Make the checkpoint the same policy in lerobot's old degrees: shoulder_lift is 90 - x, elbow_flex x + 90.

    A mirrored number keeps its std, so the layer that reads it and the one that writes it turn
    their signs.
    """
    mirrored = {"min": "max", "max": "min", "q01": "q99", "q99": "q01", "q10": "q90", "q90": "q10"}
    for path in folder.glob("policy_*processor_step_*.safetensors"):
        tensors, changed = load_file(path), {}
        for name, value in tensors.items():
            key, _, kind = name.rpartition(".")
            changed[name] = value = value.copy()
            if key in ("action", "observation.state") and kind not in ("count", "std"):
                value[1] = 90 - tensors[f"{key}.{mirrored.get(kind, kind)}"][1]
                value[2] += 90
        save_file(changed, path)

    def turn(name: str, value: np.ndarray) -> np.ndarray:
        if name == "model.encoder_robot_state_input_proj.weight":
            value[:, 1] *= -1
        elif name in ("model.action_head.weight", "model.action_head.bias"):
            value[1] *= -1
        return value

    weights(turn)(folder)


def imagenet(name: str, value: np.ndarray) -> np.ndarray:
    shape = value.shape
    if name.endswith("cam.mean"):
        return np.array([0.485, 0.456, 0.406], value.dtype).reshape(shape)
    if name.endswith("cam.std"):
        return np.array([0.229, 0.224, 0.225], value.dtype).reshape(shape)
    return value


def shuffled(name: str, value: np.ndarray) -> np.ndarray:
    """A random backbone: the same numbers in another order."""
    if "backbone" in name and name.endswith("weight"):
        return np.random.default_rng(0).permutation(value.ravel()).reshape(value.shape)
    return value


def between_bars(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    boxed = np.zeros_like(image)
    boxed[height // 8 : height - height // 8] = cv2.resize(
        image, (width, height - 2 * (height // 8))
    )
    return boxed


def moved(
    right_px: float, down_px: float = 0.0, angle_deg: float = 0.0, zoom: float = 1.0
) -> Callable:
    def change(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, zoom)
        matrix[:, 2] += right_px, down_px
        return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)

    return change


def coarse(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return cv2.resize(cv2.resize(image, (16, 16)), (width, height))


def frozen(camera: str) -> Spoil:
    kept: dict[str, np.ndarray] = {}
    return lambda o: images(lambda image: kept.setdefault(camera, image), camera)(o)


def swapped_cameras(observation: Observation) -> Observation:
    overhead, wrist = (observation.images[camera] for camera in ("overhead_cam", "wrist_cam"))
    return replace(observation, images={"overhead_cam": wrist, "wrist_cam": overhead})


def shown_twice(observation: Observation) -> Observation:
    return images(lambda _: observation.images["overhead_cam"], "wrist_cam")(observation)


def mirrored_gripper(values: np.ndarray) -> np.ndarray:
    return np.where(np.arange(6) == GRIPPER, 100 - values, values)


def not_gripper(values: np.ndarray) -> np.ndarray:
    return values * (np.arange(6) != GRIPPER)


def late(plans: np.ndarray, states: np.ndarray) -> np.ndarray:
    return np.concatenate([np.repeat(states[:, None], 4, axis=1), plans[:, :-4]], axis=1)


def half_speed(plans: np.ndarray, states: np.ndarray) -> np.ndarray:
    return plans[:, np.arange(plans.shape[1]) // 2]


def normalised(plans: np.ndarray, states: np.ndarray) -> np.ndarray:
    (file,) = find_checkpoint("act").glob("policy_postprocessor_step_*.safetensors")
    tensors = load_file(file)
    return (plans - tensors["action.mean"]) / tensors["action.std"]


def the_first_always() -> Change:
    """A queue that is never emptied."""
    first: list[np.ndarray] = []

    def change(plans: np.ndarray, states: np.ndarray) -> np.ndarray:
        first.extend([] if first else [plans[0]])
        return np.repeat(first[0][None], len(plans), axis=0)

    return change


OVERHEAD, WRIST = "overhead_cam", "wrist_cam"
TURNED, ORDER = ("image flip",), ("joint order", "state order")
STATISTICS = ("refused", "statistics", "postprocessor", "normalised observation", "weights")
ANY_STATE = (
    "state",
    "state order",
    "state units",
    "normalised observation",
    "training environment",
)
ACTIONS = (
    "action range",
    "action scale",
    "action units",
    "planned actions",
    "postprocessor",
    "statistics",
)

PLANTS = (
    Plant("images rotated by 180°", TURNED, ("180",), seen=images(lambda i: i[::-1, ::-1])),
    Plant("images upside down", TURNED, ("upside",), seen=images(lambda i: i[::-1])),
    Plant("images mirrored", TURNED, ("mirrored",), seen=images(lambda i: i[:, ::-1])),
    Plant("images rotated by 90°", TURNED, ("270", "90"), seen=images(np.rot90)),
    Plant("overhead camera rotated by 90°", TURNED, (OVERHEAD,), seen=images(np.rot90, OVERHEAD)),
    Plant(
        "overhead camera rotated by 180°",
        TURNED,
        (OVERHEAD,),
        seen=images(lambda i: i[::-1, ::-1], OVERHEAD),
    ),
    Plant("wrist camera upside down", TURNED, (WRIST,), seen=images(lambda i: i[::-1], WRIST)),
    Plant("red and blue exchanged", ("channel order",), seen=images(lambda i: i[..., ::-1])),
    Plant(
        "red and blue exchanged, wrist",
        ("channel order",),
        (WRIST,),
        seen=images(lambda i: i[..., ::-1], WRIST),
    ),
    Plant(
        "images darker (gamma 2.2)",
        ("gamma",),
        seen=images(lambda i: np.uint8(255 * (i / 255) ** 2.2)),
    ),
    Plant(
        "images brighter (gamma 1/2.2)",
        ("gamma",),
        seen=images(lambda i: np.uint8(255 * (i / 255) ** (1 / 2.2))),
    ),
    Plant("images scaled twice", ("cameras", "pictures"), seen=images(lambda i: i // 255)),
    Plant("images inverted", ("cameras",), seen=images(lambda i: 255 - i)),
    Plant(
        "images grey",
        ("colour",),
        seen=images(lambda i: i.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8)),
    ),
    Plant("letterbox", ("letterbox",), seen=images(between_bars)),
    Plant("16 px blown up", ("pictures",), ("detail",), seen=images(coarse)),
    Plant(
        "noise of 40 levels",
        ("cameras",),
        seen=images(
            lambda i: np.clip(i + np.random.default_rng(0).normal(0, 40, i.shape), 0, 255).astype(
                np.uint8
            )
        ),
    ),
    Plant(
        "overhead camera black", ("pictures",), (OVERHEAD,), seen=images(np.zeros_like, OVERHEAD)
    ),
    Plant("wrist camera black", ("pictures",), (WRIST,), seen=images(np.zeros_like, WRIST)),
    Plant("overhead camera frozen", ("pictures",), (OVERHEAD,), seen=frozen(OVERHEAD)),
    Plant("wrist camera frozen", ("pictures",), (WRIST,), seen=frozen(WRIST)),
    Plant("cameras exchanged", ("cameras",), ("swapped",), seen=swapped_cameras),
    Plant("one camera in both slots", ("pictures",), ("same picture",), seen=shown_twice),
    Plant(
        "overhead camera moved (8 % of the picture)",
        ("camera pose",),
        (OVERHEAD,),
        seen=images(moved(5), OVERHEAD),
    ),
    Plant(
        "overhead camera turned by 8°",
        ("camera pose",),
        (OVERHEAD,),
        seen=images(moved(0, 0, 8), OVERHEAD),
    ),
    Plant(
        "overhead camera sees 1.5 x less",
        ("camera pose",),
        ("sees less",),
        seen=images(moved(0, zoom=1.5), OVERHEAD),
    ),
    Plant("gripper's state mirrored", ("gripper state",), seen=state(mirrored_gripper)),
    Plant("two joints exchanged in the state", ORDER, seen=state(exchanged)),
    Plant("state in radians", ANY_STATE, seen=state(np.deg2rad)),
    Plant("state always zero", (*ANY_STATE, "sensitivity"), seen=state(np.zeros_like)),
    Plant(
        "elbow's state 30° off", ("joint offset", *ANY_STATE), ("elbow",), seen=state(plus(2, 30))
    ),
    Plant("two joints exchanged in the plans", ("joint order",), plans=lambda p, s: exchanged(p)),
    Plant(
        "shoulder's sign turned",
        ("joint sign",),
        plans=lambda p, s: p * np.array([1, -1, 1, 1, 1, 1]),
    ),
    Plant("plans backwards", ("plan order",), plans=lambda p, s: p[:, ::-1]),
    Plant("plans 4 steps late", ("timing",), plans=late),
    Plant("plans half as fast", ("timing",), plans=half_speed),
    Plant(
        "gripper turned in the plans",
        ("gripper",),
        ("swapped",),
        plans=lambda p, s: mirrored_gripper(p),
    ),
    Plant(
        "gripper stays at its mean",
        ("gripper",),
        ("hardly",),
        plans=lambda p, s: not_gripper(p) + 19.3 * (np.arange(6) == GRIPPER),
    ),
    Plant(
        "differences sent as targets",
        ("delta or absolute",),
        plans=lambda p, s: p - not_gripper(s)[:, None],
    ),
    Plant("plans left normalised", ("postprocessor",), plans=normalised),
    Plant(
        "plans in radians",
        ACTIONS,
        plans=lambda p, s: np.where(np.arange(6) == GRIPPER, p, np.deg2rad(p)),
    ),
    Plant(
        "elbow planned 30° off", ("joint offset",), ("elbow",), plans=lambda p, s: plus(2, 30)(p)
    ),
    Plant(
        "one plan for every moment",
        ("plans",),
        ("same at every moment",),
        plans=the_first_always(),
    ),
    Plant(
        "plans with a NaN",
        ("agreement", "planned actions", "plans"),
        ("finite",),
        plans=lambda p, s: p + np.where(np.arange(6) == 3, np.nan, 0),
    ),
    Plant(
        "noise of 10° on the plans",
        ("agreement",),
        ("does not plan", "little to do"),
        plans=lambda p, s: p + np.random.default_rng(0).normal(0, 10, p.shape),
    ),
    Plant(
        "image statistics x 255",
        STATISTICS,
        files=statistics(lambda n, v: v * 255 if "image" in n else v),
    ),
    Plant(
        "image std of 0.002",
        STATISTICS,
        files=statistics(of_feature("observation.image", lambda v: v * 0 + 0.002, "std")),
    ),
    Plant(
        "ImageNet's image statistics instead",
        ("image statistics",),
        files=statistics(imagenet),
    ),
    Plant("images not normalised", STATISTICS, files=identity("preprocessor", "VISUAL")),
    Plant("state not normalised", STATISTICS, files=identity("preprocessor", "STATE")),
    Plant("actions not un-normalised", STATISTICS, files=identity("postprocessor", "ACTION")),
    Plant(
        "action std halved", ACTIONS, files=statistics(of_feature("action", lambda v: v / 2, "std"))
    ),
    Plant(
        "other action std after than before",
        STATISTICS,
        files=statistics(of_feature("action", lambda v: v * 3, "std"), "policy_postprocessor"),
    ),
    Plant(
        "action statistics in another joint order",
        ORDER + ACTIONS,
        files=statistics(of_feature("action", exchanged)),
    ),
    Plant(
        "state statistics in another joint order",
        ORDER + STATISTICS,
        files=statistics(of_feature("observation.state", exchanged)),
    ),
    Plant(
        "state statistics in radians",
        ANY_STATE,
        files=statistics(of_feature("observation.state", np.deg2rad)),
    ),
    Plant(
        "action statistics in radians", ACTIONS, files=statistics(of_feature("action", np.deg2rad))
    ),
    Plant(
        "infinite state statistics",
        STATISTICS,
        files=statistics(of_feature("observation.state", lambda v: v + np.inf, "mean", "std")),
    ),
    Plant(
        "NaN in the action's std",
        STATISTICS,
        ("finite", "statistics"),
        files=statistics(of_feature("action", at(2, np.nan), "std")),
    ),
    Plant(
        "gripper's action std 0",
        (*STATISTICS, "gripper"),
        files=statistics(of_feature("action", at(GRIPPER, 0.0), "std")),
    ),
    Plant(
        "an arm calibrated lerobot's old way",
        ("calibration",),
        ("shoulder_lift = 90 - x, elbow_flex = x + 90",),
        files=in_old_calibration,
    ),
    Plant("random backbone", ("inputs", "weights"), files=weights(shuffled)),
    Plant(
        "NaN in the weights",
        ("weights",),
        files=weights(lambda n, v: at(0, np.nan)(v) if n == "model.action_head.bias" else v),
    ),
    Plant(
        "NaN in a BatchNorm buffer",
        ("weights",),
        files=weights(
            lambda n, v: at(0, np.nan)(v) if n.endswith("layer1.0.bn1.running_mean") else v
        ),
    ),
    Plant(
        "negative variance in a BatchNorm buffer",
        ("weights",),
        files=weights(lambda n, v: -v if n.endswith("layer1.0.bn1.running_var") else v),
    ),
    Plant(
        "another n_heads in config.json",
        ("agreement",),
        files=settings("config.json", lambda c: c.update(n_heads=c["n_heads"] // 2)),
    ),
    Plant(
        "another activation in config.json",
        ("agreement",),
        files=settings("config.json", lambda c: c.update(feedforward_activation="gelu")),
    ),
    Plant(
        "joints in -100..100 instead of degrees",
        ("state order and units", "training environment"),
        flags=(("env", "so101/pick_place_range"),),
    ),
    Plant(
        "the brick's scene",
        ("training environment", "field of view"),
        flags=(("env", "so101/pick_place_brick"),),
    ),
)


def opposite(instruction: str) -> str:
    """Return the one that names the other block and the other receptacle."""
    return dict(zip(INSTRUCTIONS, reversed(INSTRUCTIONS), strict=True))[instruction]


def in_steps(**fields: int) -> Damage:
    return settings("config.json", lambda c: c.update(fields))


def cut_after(n_tokens: int) -> Damage:
    def edit(pipeline: dict) -> None:
        for step in pipeline["steps"]:
            if "max_length" in step.get("config", {}):
                step["config"]["max_length"] = n_tokens

    return settings("policy_preprocessor.json", edit)


def tokenizer_of_bytes(folder: Path) -> None:
    """Another model's: it has a token a byte, and fewer in all."""
    names = ("fake_image", "image", "global_image", "end_of_utterance")
    save_byte_tokenizer(folder / "vlm", **{f"{name}_token": f"<{name}>" for name in names})


def tokenizer_of_another_order(folder: Path) -> None:
    """Another model's of the same size: every piece of a word has the number of another one."""
    path = folder / "vlm" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = tokenizer["model"]["vocab"]
    pieces = [piece for piece in vocabulary if piece not in special]
    numbers = np.random.default_rng(0).permutation([vocabulary[piece] for piece in pieces]).tolist()
    vocabulary.update(zip(pieces, numbers, strict=True))
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


def larger_tokenizer(folder: Path) -> None:
    """Another model's with more words: the pieces of this one come after a thousand others."""
    path = folder / "vlm" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"] for token in tokenizer["added_tokens"]}
    vocabulary = tokenizer["model"]["vocab"]
    others = {f"other{number}": len(special) + number for number in range(1000)}
    moved = {
        piece: number if piece in special else number + len(others)
        for piece, number in vocabulary.items()
    }
    tokenizer["model"]["vocab"] = moved | others
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


WORDS, VOCABULARY = ("instruction",), ("vocabulary",)
PLANTS_OF_SMOLVLA = (
    Plant("another instruction than the episode's", WORDS, seen=words(opposite)),
    Plant("no instruction", WORDS, ("not as in training",), seen=words(lambda text: "")),
    Plant(
        "an instruction of other words",
        WORDS,
        ("not as in training",),
        seen=words(lambda text: text.replace("Pick up", "Grasp").replace("place it", "put it")),
    ),
    Plant("the instruction cut after 6 tokens", WORDS, ("cut", "same"), files=cut_after(6)),
    Plant("the instruction cut after 3 tokens", WORDS, ("cut", "same"), files=cut_after(3)),
    Plant("a byte tokenizer", VOCABULARY, files=tokenizer_of_bytes),
    Plant("a tokenizer of more words", (*VOCABULARY, "refused"), files=larger_tokenizer),
    Plant("a tokenizer of as many words", (*WORDS, *VOCABULARY), files=tokenizer_of_another_order),
    Plant("one denoising step", ("denoising",), files=in_steps(num_steps=1)),
)

PLANTS_OF_DIFFUSION = (
    Plant("one denoising step", ("denoising",), files=in_steps(num_inference_steps=1)),
    Plant("two denoising steps", ("denoising",), files=in_steps(num_inference_steps=2)),
    Plant(
        "the denoiser told to predict the sample",
        ("agreement",),
        files=settings("config.json", lambda c: c.update(prediction_type="sample")),
    ),
    Plant(
        "another noise schedule",
        ("agreement",),
        files=settings("config.json", lambda c: c.update(beta_schedule="linear")),
    ),
)

# Bugs of any policy with cameras, a state and joint targets.
COMMON = (
    "images rotated by 180°",
    "red and blue exchanged",
    "overhead camera black",
    "cameras exchanged",
    "two joints exchanged in the state",
    "state in radians",
    "two joints exchanged in the plans",
    "gripper turned in the plans",
    "differences sent as targets",
    "state statistics in radians",
    "action std halved",
    "NaN in the weights",
)


def noisy(share: float) -> Damage:
    """Add noise to each matrix of weights: that share of its standard deviation."""
    rng = np.random.default_rng(0)

    def edit(name: str, value: np.ndarray) -> np.ndarray:
        is_matrix = value.dtype.kind == "f" and value.ndim >= 2
        return (
            (value + share * value.std() * rng.normal(size=value.shape)).astype(value.dtype)
            if is_matrix
            else value
        )

    return weights(edit)


def towards_early(share: float) -> Damage:
    """Mix in the weights of `act-early`, a run of the same recipe that was stopped early."""
    early = load_file(find_checkpoint("act-early") / "model.safetensors")

    def edit(name: str, value: np.ndarray) -> np.ndarray:
        return (
            ((1 - share) * value + share * early[name]).astype(value.dtype)
            if value.dtype.kind == "f"
            else value
        )

    return weights(edit)


GRADED = (
    Plant("act", ()),
    *(
        Plant(f"{share:.0%} of noise in the weights", (), files=noisy(share))
        for share in (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    ),
    *(
        Plant(f"{share:.0%} of act-early's weights", (), files=towards_early(share))
        for share in (0.25, 0.5, 0.75)
    ),
    Plant("act-early", (), flags=(("checkpoint", "act-early"),)),
)

ENVS = {
    "act": "so101/pick_place",
    "smolvla": "so101/pick_place_words",
    "diffusion": "so101/pick_place",
}

HEALTHY = (
    ("act", make_config(SubjectConfig, policy="act")),
    ("act-early", make_config(SubjectConfig, policy="act", checkpoint="act-early")),
    ("act, 5 steps a plan", make_config(SubjectConfig, policy="act", n_action_steps=5)),
    ("act, 10 steps a plan", make_config(SubjectConfig, policy="act", n_action_steps=10)),
    ("scripted", make_config(SubjectConfig, policy="scripted")),
    ("smolvla", make_config(SubjectConfig, policy="smolvla", env=ENVS["smolvla"])),
    (
        "smolvla, 20 steps a plan",
        make_config(SubjectConfig, policy="smolvla", env=ENVS["smolvla"], n_action_steps=20),
    ),
    ("diffusion", make_config(SubjectConfig, policy="diffusion", env=ENVS["diffusion"])),
    (
        "diffusion, 8 steps a plan",
        make_config(SubjectConfig, policy="diffusion", env=ENVS["diffusion"], n_action_steps=8),
    ),
)


def plants_of(policy: str) -> tuple[Plant, ...]:
    """Return the bugs to plant in that policy."""
    if policy == "act":
        return PLANTS
    own = {"smolvla": PLANTS_OF_SMOLVLA, "diffusion": PLANTS_OF_DIFFUSION}[policy]
    return own + tuple(plant for plant in PLANTS if plant.name in COMMON)


def planted(plant: Plant, folder: Path, policy: str = "act") -> tuple[SubjectConfig, Setup]:
    """Plant the bug in a copy of the checkpoint, in the environment or in the policy."""
    config = replace(
        make_config(SubjectConfig, policy=policy, env=ENVS[policy]), **dict(plant.flags)
    )
    if plant.files is not None:
        copy = shutil.copytree(find_checkpoint(policy), folder / policy)
        plant.files(copy)
        config = replace_flags(config, checkpoint=str(copy))
    setup = set_up(config)
    if plant.seen is not None:
        spoil, observe = plant.seen, setup.env.observe
        setup.env.observe = lambda: spoil(observe())
    if plant.plans is not None:
        setup = replace(setup, policy=_OtherPlans(setup.policy, plant.plans))
    return config, setup


class _OtherPlans:
    """A policy whose plans are changed on their way out."""

    def __init__(self, policy, change: Change) -> None:
        self._policy, self._change = policy, change
        self.spec = policy.spec
        self.reset, self.sample, self.audit = policy.reset, policy.sample, policy.audit
        self.network_inputs, self.out_of_range_inputs = (
            policy.network_inputs,
            policy.out_of_range_inputs,
        )

    def predict(self, memories, rngs) -> ActionChunk:
        states = np.stack([memory.present.state for memory in memories])
        return ActionChunk(
            self._change(self._policy.predict(memories, rngs).actions, states).astype(np.float32)
        )


def judge(plant: Plant, findings: list[Finding], refusal: str) -> tuple[str, str]:
    """Return the verdict, and what the doctor said first."""
    if refusal:
        return ("named" if "refused" in plant.checks else "misnamed"), refusal
    ill = [f for f in findings if f.is_ill]
    naming = [f for f in ill if f.check != DISAGREES]  # to disagree is to name nothing
    right = [
        f
        for f in naming
        if f.check in plant.checks and (not plant.words or any(w in f.finding for w in plant.words))
    ]
    if right:
        return "named", f"{right[0].check}: {right[0].finding}"
    if not ill:
        return "missed", next(
            (f"{f.check}: {f.evidence}" for f in findings if f.check == DISAGREES), ""
        )
    said = f"{ill[0].check}: {ill[0].finding}"
    return ("disagrees" if all(f.check == DISAGREES for f in ill) else "misnamed"), said


def measure(config: SubjectConfig, setup: Setup) -> str:
    """Return how far the plans are from the expert's, in standard deviations, as the doctor measures it."""
    context = CheckContext(config, setup)
    if context.reference is None:
        return "-"
    return f"{compute_disagreement(context.reference_chunks[:, : context.n_compared], context.reference):.2f}"


def roll_out(setup: Setup, n_episodes: int) -> str:
    """Return how many of the first episodes succeed."""
    env, n_action_steps = setup.env, setup.n_action_steps
    records = [
        run_episode(
            env,
            setup.policy,
            k,
            EpisodeRecorder(),
            RolloutSettings(n_action_steps, env.spec.max_steps),
        )
        for k in range(n_episodes)
    ]
    return f"{sum(record.success for record in records)} of {n_episodes}"


def show_bugs(policy: str, only: str, with_rollouts: bool) -> None:
    verdicts: Counter[str] = Counter()
    print(
        "| planted | differs by | success | verdict | what the doctor says first |\n|---|---|---|---|---|"
    )
    for plant in (p for p in plants_of(policy) if only in p.name):
        differs, success, findings, refusal = "-", "-", [], ""
        with tempfile.TemporaryDirectory() as folder:
            try:
                config, setup = planted(plant, Path(folder), policy)
                findings = examine(config, setup)
                differs = measure(config, setup)
                success = roll_out(setup, N_ROLLOUTS) if with_rollouts else "-"
                setup.env.close()
            except WhiskerError as error:
                refusal = f"refused: {error}".replace(str(folder), "...")
        verdict, said = judge(plant, findings, refusal)
        verdicts[verdict] += 1
        shortened = said.replace("|", "/") if len(said) <= SHOWN else f"{said[:SHOWN]}..."
        print(f"| {plant.name} | {differs} | {success} | {verdict} | {shortened} |", flush=True)
    print(
        f"\n{sum(verdicts.values())} bugs: "
        + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())
    )


def show_healthy(policy: str) -> None:
    print("\n| healthy | false alarms |\n|---|---|")
    for name, config in HEALTHY:
        if config.policy.name not in (policy, *(["scripted"] * (policy == "act"))):
            continue
        setup = set_up(config)
        ill = [f for f in examine(config, setup) if f.is_ill]
        setup.env.close()
        print(f"| {name} | {'; '.join(map(str, ill)) or 'none'} |", flush=True)


def show_graded() -> None:
    print(f"\n| checkpoint | differs by | success of {N_GRADED} |\n|---|---|---|")
    for plant in GRADED:
        with tempfile.TemporaryDirectory() as folder:
            config, setup = planted(plant, Path(folder))
            print(
                f"| {plant.name} | {measure(config, setup)} | {roll_out(setup, N_GRADED)} |",
                flush=True,
            )
            setup.env.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rollouts", action="store_true", help="roll each out too, and checkpoints that get worse"
    )
    parser.add_argument(
        "--policy", choices=tuple(ENVS), default="act", help="in which of the shipped ones"
    )
    parser.add_argument(
        "--only", default="", help="plant those whose name has this in it, and nothing else"
    )
    arguments = parser.parse_args()
    show_bugs(arguments.policy, arguments.only, arguments.rollouts)
    if not arguments.only:
        show_healthy(arguments.policy)
        if arguments.rollouts and arguments.policy == "act":
            show_graded()


if __name__ == "__main__":
    main()
