"""Checks of the core that every environment has (`sim.env.Env`).

A check returns a sentence without a full stop that says what holds. It raises `BrokenError` if the
contract is broken, and `InconclusiveError` if it cannot tell.
"""

from collections.abc import Callable

import numpy as np

from sim.capabilities import (
    CAPABILITIES,
    Snapshots,
    capability_methods,
    capability_methods_of,
    provides,
)
from sim.contract_capability_checks import (
    check_drawable,
    check_simulate_ee_path,
    check_snapshot,
    check_success,
)
from sim.contract_trial import (
    N_STEPS,
    READ,
    Bounds,
    BrokenError,
    InconclusiveError,
    Readings,
    Trial,
    bits_of,
    expect_same,
    finite_bounds,
    play,
    read,
    step_through,
)
from sim.errors import WhiskerError
from sim.goals.check import check_progress
from sim.render_counter import count_renders


def _check_spec(trial: Trial) -> str:
    spec = trial.env.spec
    action = spec.action
    lengths = {"state_units": (len(spec.state_units), len(spec.state_names))}
    for field in ("units", "low", "high"):
        lengths[f"action.{field}"] = (len(getattr(action, field)), action.dim)
    for field, (n_entries, n_names) in lengths.items():
        if n_entries != n_names:
            raise BrokenError(f"{field} has {n_entries} entries for {n_names} names")
    for index in action.gripper_indices:
        if not 0 <= index < action.dim:
            raise BrokenError(
                f"gripper_index {index} is outside the {action.dim} action dimensions"
            )
    if not (np.array(action.low) < np.array(action.high)).all():
        raise BrokenError("the lower bound of an action is not below its upper bound")
    if not spec.goals:
        raise BrokenError("it declares no goal")
    state = _count(len(spec.state_names), "state")
    return f"declares {state}, {_count(action.dim, 'action')}, {_count(len(spec.goals), 'goal')}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _check_capabilities(trial: Trial) -> str:
    present = set(capability_methods_of(trial.env))
    complete = []
    for capability, name in CAPABILITIES.items():
        methods = capability_methods(capability)
        missing = methods - present
        if missing and methods & present:
            raise BrokenError(
                f"the capability '{name}' is incomplete: it lacks {', '.join(sorted(missing))}"
            )
        if not missing:
            complete.append(name)
    return f"has {', '.join(complete)}" if complete else "has no capability beyond the core"


def _check_reset(trial: Trial) -> str:
    env = trial.env
    trial.enter_other_episode()
    expect_same(trial.reference, play(env, trial.index, trial.actions), "after another episode")
    env.reset(trial.index)
    first_observation = bits_of(env.observe())
    env.reset(trial.other_index)
    env.reset(trial.index)
    env.reset(trial.index)
    if bits_of(env.observe()) != first_observation:
        raise BrokenError("after other resets, the observation of the same episode differs")
    expect_same(
        trial.reference, [read(env), *step_through(env, trial.actions)], "after several resets"
    )
    return (
        f"episode {trial.index} starts and continues identically, in a new environment and after "
        "any other resets"
    )


def _check_observation(trial: Trial) -> str:
    env = trial.start()
    observation = env.observe()
    spec = env.spec
    images = {name: (image.dtype.name, image.shape) for name, image in observation.images.items()}
    declared = {
        camera.name: ("uint8", (camera.height_px, camera.width_px, 3)) for camera in spec.cameras
    }
    if images != declared:
        raise BrokenError(f"its spec declares images {declared}, but observe() returns {images}")
    state = observation.state
    if (state.dtype.name, state.shape) != ("float32", (len(spec.state_names),)):
        raise BrokenError(
            f"its state is {state.dtype.name} {state.shape}, but its spec names "
            f"{len(spec.state_names)} values in float32"
        )
    if bits_of(state) != bits_of(env.state()):
        raise BrokenError("observe() and state() return different states at the same step")
    instructions = spec.instructions or (spec.instruction,)
    if observation.instruction not in instructions:
        raise BrokenError(
            f"the instruction {observation.instruction!r} is not among those of its spec: "
            f"{instructions}"
        )
    return (
        f"observe() returns the cameras ({len(images)}), the state ({len(state)} values) and an "
        "instruction that the spec declares"
    )


def _check_looking(trial: Trial) -> str:
    env = trial.start()
    readings = [read(env)]
    for action in trial.actions:
        env.observe()
        readings += step_through(env, action[None])
    expect_same(trial.reference, readings, "when observe() is called before every step")
    return "observe() changes nothing"


def _check_rendering(trial: Trial) -> str:
    env = trial.env
    if not env.spec.cameras:
        raise InconclusiveError("it observes no camera")
    with count_renders() as in_observe:
        env.reset(trial.other_index)
        env.observe()
    with count_renders() as elsewhere:
        play(env, trial.index, trial.actions)
        if provides(env, Snapshots):
            env.restore(env.snapshot())
            env.simulate_ee_path(trial.actions)
    if elsewhere.n_calls:
        raise BrokenError(
            f"it renders outside of observe(): {elsewhere.n_calls} calls in one reset and "
            f"{N_STEPS} steps"
        )
    if not in_observe.n_calls:
        raise InconclusiveError(
            "its rendering cannot be counted here: it happens in another process or through other "
            "functions"
        )
    return "renders only in observe()"


def _check_returned_arrays(trial: Trial) -> str:
    env = trial.start()
    returned = {"observe": env.observe(), "step": env.step(trial.actions[0])}
    for name in READ:
        returned[name] = getattr(env, name)()
    if provides(env, Snapshots):
        returned["snapshot"] = env.snapshot()
    before = {name: bits_of(value) for name, value in returned.items()}
    step_through(env, trial.actions[1:])
    env.observe()
    changed = [name for name, value in returned.items() if bits_of(value) != before[name]]
    if changed:
        raise BrokenError(
            f"the return value of {' and '.join(changed)} changed in a later step: return a copy"
        )
    return "no returned value changes later"


def _check_clipping(trial: Trial) -> str:
    env = trial.start()
    if any(env.step(action).clipped for action in trial.actions):
        raise BrokenError("`clipped` is true for an action inside the bounds")
    spec = env.spec.action
    is_bounded = np.isfinite(spec.low) & np.isfinite(spec.high)
    if spec.gripper_is_binary:
        # Its command counts by its side of the middle, so that nothing is clipped.
        is_bounded[list(spec.gripper_indices)] = False
    if not is_bounded.any():
        raise InconclusiveError("its actions have no bounds")
    bounded = np.flatnonzero(is_bounded).tolist()
    unclipped = [spec.names[index] for index in bounded if not _reports_clipping(trial, index)]
    if unclipped:
        raise InconclusiveError(
            f"actions beyond the bounds of {', '.join(unclipped)} are executed as they are: "
            "nothing is clipped"
        )
    return "`clipped` is true for actions beyond the bounds, and false inside"


def _reports_clipping(trial: Trial, index: int) -> bool:
    """Return whether `clipped` is true for actions beyond both bounds of one dimension.

    Raises:
        BrokenError: an action is clipped, and `clipped` is false.
    """
    env = trial.env
    low, high = finite_bounds(env)
    reports = True
    for bound, beyond in ((high, 1.0), (low, -1.0)):
        action = (low + high) / 2
        action[index] = bound[index] + beyond * (high[index] - low[index])
        env.reset(trial.index)
        if env.step(action.astype(np.float32)).clipped:
            continue
        at_bound = action.copy()
        at_bound[index] = bound[index]
        if _effect_of(trial, action) == _effect_of(trial, at_bound):
            name = env.spec.action.names[index]
            raise BrokenError(f"`clipped` is false for an action beyond the bounds of {name!r}")
        reports = False
    return reports


def _effect_of(trial: Trial, action: Bounds) -> list[Readings]:
    """Return the readings while one action is repeated, without the results of `step`."""
    effect = play(trial.env, trial.index, np.array([action] * N_STEPS, np.float32))
    for readings in effect:
        readings.pop("step", None)
    return effect


def _check_progress(trial: Trial) -> str:
    env = trial.start()
    _check_entries(trial)
    for action in trial.actions:
        result = env.step(action)
        _check_entries(trial)
        if bits_of(result.progress) != bits_of(env.progress()):
            raise BrokenError("step() and progress() report different progress at the same step")
    return (
        f"progress() and step() have an entry for each goal ({len(env.spec.goals)}), with the "
        "stages and measures of its kind"
    )


def _check_entries(trial: Trial) -> None:
    try:
        check_progress(trial.env.spec, trial.env.progress())
    except WhiskerError as error:
        raise BrokenError(str(error).rstrip(".")) from error


CHECKS: dict[str, Callable[[Trial], str]] = {
    "specification": _check_spec,
    "capabilities": _check_capabilities,
    "reset": _check_reset,
    "observation": _check_observation,
    "looking": _check_looking,
    "rendering": _check_rendering,
    "returned arrays": _check_returned_arrays,
    "clipping": _check_clipping,
    "progress": _check_progress,
    "success": check_success,
    "snapshot": check_snapshot,
    "simulate_ee_path": check_simulate_ee_path,
    "drawable": check_drawable,
}
