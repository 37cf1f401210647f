"""Checks of both sides: what the checkpoint was trained on, and what the environment shows and takes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from eval.doctor.calibration import convert_span, find_other_calibration
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from eval.doctor.gripper_range import check_gripper_range
from policies.adapters import find_gripper_in_state
from policies.normalisation import FeatureStats
from sim.spec import ActionSpec

# Training statistics against what is seen here, in their own standard deviations.
_OUTSIDE = 6.0
_PLAUSIBLE = 2.5
# A range is another unit's when it is this much narrower or wider.
_NARROW, _WIDE = 0.2, 3.0


def check_training_env(context: CheckContext) -> Iterator[Finding]:
    """A checkpoint that says where it was trained is compared word by word."""
    trained, env = context.training_env, context.env
    if trained is None:
        return
    adapters = context.adapters
    pairs: list[tuple[str, Sequence[str], Sequence[str]]] = [
        (
            "state order and units",
            _named(trained["state_names"], trained["state_units"]),
            _named(env.state_names, env.state_units),
        ),
        (
            "action order and units",
            _named(trained["action"]["names"], trained["action"]["units"]),
            _named(env.action.names, env.action.units),
        ),
        (
            "delta or absolute",
            [trained["action"]["mode"]],
            [adapters.policy_actions or env.action.mode],
        ),
        (
            "rotation",
            [_rotation(trained["action"], env.action)],
            [_rotation(vars(env.action), env.action)],
        ),
        (
            "control rate",
            [f"{1 / trained['control_dt_s']:.1f} Hz"],
            [f"{1 / env.control_dt_s:.1f} Hz"],
        ),
    ]
    if adapters.gripper_range is None:
        was, now = (
            f"{action['gripper_closed']:g} closed, {action['gripper_open']:g} open"
            for action in (trained["action"], vars(env.action))
        )
        pairs.append(("gripper", [was], [now]))
    for check, before, here in pairs:
        if list(before) != list(here):
            hint = "Evaluate in the environment of the training, or say how it differs with an adapter flag."
            yield Finding(check, Level.ERROR, "not as in training", _difference(before, here), hint)
    known = trained.get("instructions") or [trained["instruction"]]
    # The environment's own list, and what it hands over.
    told = dict.fromkeys(
        (*(env.instructions or (env.instruction,)), context.first_memory.present.instruction)
    )
    unseen = [words for words in told if _plain_words(words) not in set(map(_plain_words, known))]
    if context.setup.policy.spec.reads_instruction and unseen:
        hint = "A policy that reads its instruction was trained on other words."
        evidence = f"trained: {', '.join(map(repr, known))}; here: {', '.join(map(repr, unseen))}"
        yield Finding("instruction", Level.WARNING, "not as in training", evidence, hint)
    yield Finding("training environment", Level.OK, "compared with this one", str(trained["name"]))


def check_names(context: CheckContext) -> Iterator[Finding]:
    """Compare the order of the training's numbers with this environment's by their names, where the dataset has any."""
    training, env = context.setup.training, context.env
    if training is None or context.training_env is not None:
        return
    for part, trained, here in (
        ("state", training.state_names, env.state_names),
        ("actions", training.action_names, env.action.names),
    ):
        was, now = list(map(_plain_name, trained)), list(map(_plain_name, here))
        if was != now and sorted(was) == sorted(now):
            hint = f"The environment's order is {', '.join(here)}: bring the checkpoint's data into it."
            finding = f"the training had the numbers of the {part} in another order"
            yield Finding("joint order", Level.ERROR, finding, _difference(trained, here), hint)


def check_state(context: CheckContext) -> Iterator[Finding]:
    """Does the state at the start, and along the expert's way, lie where the training's did?"""
    other_calibration = find_other_calibration(context)
    if other_calibration is not None:
        yield other_calibration
        return
    stats = None if context.normalisation is None else context.normalisation.state
    if stats is None or stats.typical is None or context.setup.policy.spec.state_dim is None:
        yield Finding("state", Level.UNKNOWN, "nothing known of the training's states")
        return
    states = _adapted_states(context)
    middle, width = (part[: states.shape[1]] for part in stats.typical)
    names = context.env.state_names
    deviation = np.abs(states[0] - middle) / np.maximum(width, 1e-9)
    worst = int(deviation.argmax())
    evidence = (
        f"at reset up to {deviation[worst]:.1f} std from the training's mean ({names[worst]})"
    )
    order = _find_order(states, middle, width)
    if order is not None:
        was = ", ".join(names[i] for i in order)
        hint = f"The training had them in the order: {was}."
        yield Finding(
            "state",
            Level.ERROR,
            "the numbers fit the training better in another order",
            evidence,
            hint,
        )
    elif deviation[worst] > _OUTSIDE:
        unit = _guess_unit(states[0], middle, width)
        hint = "Evaluate in an environment with the training's units (so101/pick_place_range: joints in -100..100)."
        if worst == find_gripper_in_state(names, context.action):
            hint = "The gripper's range is another: say which with --gripper-range."
        yield Finding(
            "state", Level.ERROR, f"far from any state of the training{unit}", evidence, hint
        )
    else:
        yield Finding("state", Level.OK, "begins among the states of the training", evidence)


def check_action_range(context: CheckContext) -> Iterator[Finding]:
    """Compare the training's actions with what the actuators take."""
    normalisation = context.normalisation
    stats = (
        None if normalisation is None else (normalisation.trained_action or normalisation.action)
    )
    if normalisation is None or stats is None or stats.span is None:
        yield Finding("action range", Level.UNKNOWN, "nothing known of the training's actions")
        return
    adapters, spec, relative = context.adapters, context.action, normalisation.relative
    low, high = (part[: spec.dim] for part in stats.span)
    if adapters.policy_actions != "delta":
        low, high = convert_span(context, low, high)
    body = np.arange(spec.dim) != spec.gripper_index
    env_low, env_high = np.array(spec.low), np.array(spec.high)
    share = ((high - low) / (env_high - env_low))[body]
    yield from check_gripper_range(context, stats, low, high)
    evidence = f"trained on {_span(low[body], high[body])}, the actuators take {_span(env_low[body], env_high[body])}"
    other_mode = _find_other_mode(context, stats, evidence)
    if other_mode is not None:
        yield other_mode
    elif relative.output is not None:
        finding = "trained on differences from the state, which say nothing of the actuators' range"
        yield Finding("action range", Level.OK, finding, evidence)
    elif share.max() < 0.1:
        hint = "Radians, or still normalised? Evaluate in an environment of the training's units."
        yield Finding(
            "action range",
            Level.ERROR,
            "the training's actions span almost none of the actuators' range",
            evidence,
            hint,
        )
    elif ((high < env_low) | (low > env_high))[body].any() or share.max() > _WIDE:
        hint = "Evaluate in an environment of the training's units."
        yield Finding(
            "action range",
            Level.ERROR,
            "the training's actions are outside the actuators' range",
            evidence,
            hint,
        )
    else:
        yield Finding("action range", Level.OK, "trained within the actuators' range", evidence)
    rest = stats.span[1][spec.dim :] - stats.span[0][spec.dim :]
    if adapters.allow_padding and len(rest) and np.any(rest > 1e-6):
        hint = "They are no padding: this checkpoint is for another robot."
        yield Finding(
            "padding",
            Level.ERROR,
            "actions that are cut off moved in training",
            f"{int((rest > 1e-6).sum())} of {len(rest)}",
            hint,
        )


def _find_other_mode(context: CheckContext, stats: FeatureStats, evidence: str) -> Finding | None:
    """Return what is wrong if differences are taken for targets, or targets for differences.

    The processors' steps say which of the two leaves them. Statistics decide where they do not say.
    """
    assert context.normalisation is not None
    adapters, spec, relative = (
        context.adapters,
        context.action,
        context.normalisation.relative,
    )
    expects_delta = (adapters.policy_actions or spec.mode) == "delta"
    seems_delta = _looks_delta(context, stats)
    if relative.added and not relative.trained and seems_delta is False:
        finding = "the postprocessor adds the state to actions that look like targets"
        hint = (
            'Set "enabled" of the absolute_actions_processor in policy_postprocessor.json to false.'
        )
    elif relative.output == "absolute" and expects_delta:
        finding = "the postprocessor adds the state: its actions are targets, and are taken for differences"
        hint = "Evaluate in the environment's absolute form (LIBERO: --control absolute)."
    elif relative.output == "delta" and not expects_delta:
        finding = (
            "the actions are differences to which no step adds the state, and are taken for targets"
        )
        hint = "Save the postprocessor with its absolute_actions_processor enabled, as the preprocessor's counterpart is"
        # What the adapter leaves as it is.
        excluded = [index for index in range(spec.dim) if not relative.is_difference(index)]
        hint += ", or say --policy-actions delta." if excluded == [spec.gripper_index] else "."
    elif relative.output is None and seems_delta is True and _looks_like_radians(context, stats):
        finding = "the training's actions look like radians, where degrees are taken"
        hint = "Train on data in this environment's units, or give the processors its statistics in degrees."
        return Finding("action units", Level.ERROR, finding, evidence, hint)
    elif relative.output is None and seems_delta is True and not expects_delta:
        finding = "the actions look like differences, and are taken for targets"
        hint = (
            "If they are differences from the state of the prediction, say --policy-actions delta."
        )
    elif relative.output is None and seems_delta is False and expects_delta:
        finding = "the actions look like targets, and are taken for differences"
        hint = "Leave --policy-actions delta out, or evaluate in the absolute environment."
    else:
        return None
    return Finding("delta or absolute", Level.ERROR, finding, evidence, hint)


def _looks_delta(context: CheckContext, action: FeatureStats) -> bool | None:
    """Targets lie where the states lie; differences lie around zero and are small.

    None if that cannot be told.
    """
    assert context.normalisation is not None
    state, spec = context.normalisation.state, context.action
    if (
        state is None
        or state.typical is None
        or action.typical is None
        or context.env.state_names != spec.names
    ):
        return None
    body = [i for i in range(spec.dim) if i != spec.gripper_index]
    middle, width = (part[body] for part in state.typical)
    action_middle, action_width = (part[body] for part in action.typical)
    # Where the states are far from zero, one look at the mean tells.
    tell = np.abs(middle) > 2 * width
    if tell.any():
        near_state = np.abs(action_middle - middle)[tell]
        return bool(np.median(np.abs(action_middle)[tell] / np.maximum(near_state, 1e-9)) < 1)
    return bool(np.median(action_width / width) < _NARROW)


def _looks_like_radians(context: CheckContext, action: FeatureStats) -> bool:
    """Return whether the actions, turned into degrees, lie where the training's states lie."""
    assert context.normalisation is not None
    state, spec = context.normalisation.state, context.action
    angles = [i for i, unit in enumerate(spec.units) if unit == "deg" and i != spec.gripper_index]
    if not angles or state is None or state.typical is None or action.typical is None:
        return False
    middle, width = (part[angles] for part in state.typical)
    action_middle, action_width = (part[angles] for part in action.typical)
    is_near = np.abs(np.rad2deg(action_middle) - middle) < width
    return bool(is_near.all() and 0.5 < np.median(np.rad2deg(action_width) / width) < 2)


def _adapted_states(context: CheckContext) -> Float[np.ndarray, "moment dim"]:
    """In the policy's units: of the first look, then along the expert's way."""
    memories = [context.first_memory, *(context.reference.memories if context.reference else ())]
    states = np.stack([memory.present.state for memory in memories]).astype(np.float64)
    adapt = getattr(context.setup.policy, "adapt_observation", None)
    if adapt is None:
        return states
    adapted = np.stack([adapt(memory.present).state for memory in memories])
    return adapted[:, : states.shape[1]].astype(np.float64)


def _find_order(states: np.ndarray, middle: np.ndarray, width: np.ndarray) -> list[int] | None:
    """A permutation of the state that fits the training far better than the one there is."""
    if len(states) < 4:
        return None
    mean = states[1:].mean(axis=0)
    cost = np.abs(mean[None, :] - middle[:, None]) / np.maximum(width, 1e-9)[:, None]
    own = np.trace(cost)
    if own < 3 * len(mean) ** 0.5:
        return None
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    # Numbers that are alike stay where they are.
    rows, columns = linear_sum_assignment(cost - np.eye(len(mean)))
    left = cost[rows, columns]
    moved = not np.array_equal(rows, columns)
    return (
        columns.tolist() if moved and left.sum() < 0.35 * own and left.max() < _PLAUSIBLE else None
    )


def _guess_unit(state: np.ndarray, middle: np.ndarray, width: np.ndarray) -> str:
    for factor, text in (
        (np.pi / 180, ": were they radians?"),
        (180 / np.pi, ": were they degrees?"),
    ):
        if (np.abs(state * factor - middle) / np.maximum(width, 1e-9)).max() < _OUTSIDE:
            return text
    return ""


def _plain_words(instruction: str) -> str:
    """Return an instruction without capitals, underscores, further spaces and the full stop at its end."""
    return " ".join(instruction.casefold().replace("_", " ").split()).rstrip(" .!")


def _plain_name(name: str) -> str:
    """Return a joint's name as all of lerobot's releases would write it: "main_shoulder_pan" was "shoulder_pan.pos"."""
    return name.casefold().removeprefix("main_").removesuffix(".pos")


def _named(names: Sequence[str], units: Sequence[str]) -> list[str]:
    return [f"{name} [{unit}]" for name, unit in zip(names, units, strict=True)]


def _rotation(action: Mapping[str, Any], here: ActionSpec) -> str:
    """Return how rotations are written, and in which frame: before there were two of these, it was today's."""
    return f"{action['rotation']}, frame {action.get('rotation_frame', here.rotation_frame)}"


def _difference(was: Sequence[str], now: Sequence[str]) -> str:
    """The first place in which they differ, and how many there are."""
    places = [
        (one, other)
        for one, other in itertools.zip_longest(was, now, fillvalue="nothing")
        if one != other
    ]
    others = f", and {len(places) - 1} more" if len(places) > 1 else ""
    return f"trained: {places[0][0]}; here: {places[0][1]}{others}"


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return f"{low.min():.3g} to {high.max():.3g}"
