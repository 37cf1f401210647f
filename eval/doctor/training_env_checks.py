"""Compares the environment with what the checkpoint records of its training environment."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.doctor.bugs import advise_on_order
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fail, fine, warn
from sim.spec import ActionSpec


def check_training_env(context: CheckContext) -> Findings:
    """Compare the checkpoint's record of its training environment with this environment."""
    trained = context.training_env
    if trained is None:
        return
    hint = (
        "Evaluate in the environment of the training, or say how it differs with an adapter flag."
    )
    for check, was, now in _comparisons(context, trained):
        if list(was) != list(now):
            yield fail(
                check,
                "not as in training",
                _describe_difference(was, now),
                hint,
            )
    yield from _check_instructions(context, trained)
    yield fine("training environment", "compared with this one", str(trained["name"]))


def _comparisons(
    context: CheckContext,
    trained: Mapping[str, Any],
) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """Yield what is compared: the check's name, and the values in training and here."""
    env = context.env
    adapters = context.adapters
    was = trained["action"]
    now = vars(env.action)
    yield (
        "state order and units",
        _with_units(trained["state_names"], trained["state_units"]),
        _with_units(env.state_names, env.state_units),
    )
    yield (
        "action order and units",
        _with_units(was["names"], was["units"]),
        _with_units(env.action.names, env.action.units),
    )
    yield "delta or absolute", [was["mode"]], [adapters.policy_actions or env.action.mode]
    yield "rotation", [_rotation(was, env.action)], [_rotation(now, env.action)]
    yield "control rate", [_rate(trained["control_dt_s"])], [_rate(env.control_dt_s)]
    if adapters.gripper_range is None:
        yield "gripper", [_gripper_ends(was)], [_gripper_ends(now)]


def _check_instructions(context: CheckContext, trained: Mapping[str, Any]) -> Findings:
    """Warn of instructions that the training did not have."""
    env = context.env
    known = trained.get("instructions") or [trained["instruction"]]
    known_words = {_normalise_instruction(text) for text in known}
    # These are the instructions that the environment declares, and the one in its observation.
    declared = env.instructions or (env.instruction,)
    told = dict.fromkeys((*declared, context.first_memory.present.instruction))
    unseen = [text for text in told if _normalise_instruction(text) not in known_words]
    if context.policy.reads_instruction and unseen:
        yield warn(
            "instruction",
            "not as in training",
            f"trained: {', '.join(map(repr, known))}; here: {', '.join(map(repr, unseen))}",
            "The policy reads its instruction, and was trained on other words.",
        )


def check_names(context: CheckContext) -> Findings:
    """Check that the dataset of the training, if it has joint names, has them in this order."""
    if context.training_env is not None:
        return
    training = context.training
    for part, trained, here in (
        ("state", training.state_names, context.env.state_names),
        ("actions", training.action_names, context.action.names),
    ):
        was = [_normalise_name(name) for name in trained]
        now = [_normalise_name(name) for name in here]
        if was != now and sorted(was) == sorted(now):
            yield fail(
                "joint order",
                f"the training had the numbers of the {part} in another order",
                _describe_difference(trained, here),
                advise_on_order(here),
            )


def _normalise_instruction(text: str) -> str:
    """Return an instruction without capitals, underscores, extra spaces and final punctuation."""
    return " ".join(text.casefold().replace("_", " ").split()).rstrip(" .!")


def _normalise_name(name: str) -> str:
    """Return a joint's name without what differs between lerobot's releases.

    "shoulder_pan.pos" was called "main_shoulder_pan".
    """
    return name.casefold().removeprefix("main_").removesuffix(".pos")


def _with_units(names: Sequence[str], units: Sequence[str]) -> list[str]:
    return [f"{name} [{unit}]" for name, unit in zip(names, units, strict=True)]


def _rotation(action: Mapping[str, Any], here: ActionSpec) -> str:
    """Return the format and the frame of rotations.

    Older records have no frame: there was only today's.
    """
    return f"{action['rotation']}, frame {action.get('rotation_frame', here.rotation_frame)}"


def _rate(control_dt_s: float) -> str:
    return f"{1 / control_dt_s:.1f} Hz"


def _gripper_ends(action: Mapping[str, Any]) -> str:
    return f"{action['gripper_closed']:g} closed, {action['gripper_open']:g} open"


def _describe_difference(was: Sequence[str], now: Sequence[str]) -> str:
    """Return the first place in which two lists differ, and the number of other places."""
    pairs = itertools.zip_longest(was, now, fillvalue="nothing")
    different = [(one, other) for one, other in pairs if one != other]
    trained, here = different[0]
    others = f", and {len(different) - 1} more" if len(different) > 1 else ""
    return f"trained: {trained}; here: {here}{others}"
