"""The checks of an environment's contract. Each returns what is so, as a sentence without a full stop.

They raise `BrokenError` with what is wrong, and `UntoldError` with the reason why they cannot tell.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from sim.capabilities import (
    CAPABILITIES,
    Drawable,
    HasExpert,
    Snapshots,
    capability_methods,
    capability_methods_of,
    provides,
)
from sim.contract_trial import (
    N_STEPS,
    BrokenError,
    Moment,
    Trial,
    UntoldError,
    bits_of,
    expect_same,
    finite_bounds,
    look_at,
    play,
    step_on,
)
from sim.errors import WhiskerError
from sim.goals.check import check_progress
from sim.render_counter import count_renders


def _check_spec(trial: Trial) -> str:
    spec = trial.env.spec
    action = spec.action
    for what, length, expected in (
        ("state_units", len(spec.state_units), len(spec.state_names)),
        *(
            (f"action.{name}", len(getattr(action, name)), action.dim)
            for name in ("units", "low", "high")
        ),
    ):
        if length != expected:
            raise BrokenError(f"{what} has {length} entries, its names {expected}")
    if not 0 <= action.gripper_index < action.dim:
        raise BrokenError(f"gripper_index {action.gripper_index} is none of {action.dim} actions")
    if not (np.array(action.low) < np.array(action.high)).all():
        raise BrokenError("a lower bound of the actions is not below the upper one")
    if not spec.goals:
        raise BrokenError("it names no goal")
    counts = (len(spec.state_names), "state"), (action.dim, "action"), (len(spec.goals), "goal")
    return "names " + ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts)


def _check_capabilities(trial: Trial) -> str:
    there = set(capability_methods_of(trial.env))
    has = []
    for capability, name in CAPABILITIES.items():
        methods = capability_methods(capability)
        if methods & there and methods - there:
            raise BrokenError(
                f"of the capability '{name}' it has no {', '.join(sorted(methods - there))}"
            )
        has += [name] if methods <= there else []
    return f"has {', '.join(has)}" if has else "has nothing beyond the core"


def _check_reset(trial: Trial) -> str:
    env = trial.env
    trial.begin_other()
    expect_same(
        trial.alone,
        play(env, trial.index, trial.actions),
        "after another episode",
    )
    env.reset(trial.index)
    seen = bits_of(env.observe())
    env.reset(trial.other)
    env.reset(trial.index)
    env.reset(trial.index)
    if bits_of(env.observe()) != seen:
        raise BrokenError("after another reset the same episode looks otherwise")
    expect_same(
        trial.alone,
        [look_at(env), *step_on(env, trial.actions)],
        "after several resets",
    )
    return f"episode {trial.index} begins and goes on alike, in a new environment and after any other resets"


def _check_observation(trial: Trial) -> str:
    env = trial.env
    env.reset(trial.index)
    observation = env.observe()
    spec = env.spec
    images = {name: (image.dtype.name, image.shape) for name, image in observation.images.items()}
    expected = {
        camera.name: ("uint8", (camera.height_px, camera.width_px, 3)) for camera in spec.cameras
    }
    if images != expected:
        raise BrokenError(f"its spec declares images {expected}, and it shows {images}")
    state = observation.state
    if (state.dtype.name, state.shape) != ("float32", (len(spec.state_names),)):
        got = f"{state.dtype.name} {state.shape}"
        raise BrokenError(
            f"its state is {got}, and its spec names {len(spec.state_names)} values in float32"
        )
    if bits_of(state) != bits_of(env.state()):
        raise BrokenError("observe() and state() tell different states of one moment")
    told = spec.instructions or (spec.instruction,)
    if observation.instruction not in told:
        raise BrokenError(
            f"the instruction {observation.instruction!r} is none of its spec's: {told}"
        )
    return f"shows its cameras ({len(images)}), its state ({len(state)} values) and an instruction as its spec declares"


def _check_looking(trial: Trial) -> str:
    env = trial.env
    env.reset(trial.index)
    moments = [look_at(env)]
    for action in trial.actions:
        env.observe()
        moments += step_on(env, action[None])
    expect_same(trial.alone, moments, "where observe() is called before every step")
    return "observe() changes nothing"


def _check_rendering(trial: Trial) -> str:
    env = trial.env
    if not env.spec.cameras:
        raise UntoldError("it observes no camera")
    with count_renders() as renders:
        env.reset(trial.other)
        env.observe()
        n_in_observe, renders.n_calls = renders.n_calls, 0
        play(env, trial.index, trial.actions)
        if provides(env, Snapshots):
            env.restore(env.snapshot())
            env.simulate_ee_path(trial.actions)
        n_elsewhere = renders.n_calls
    if n_elsewhere:
        raise BrokenError(
            f"it renders outside of observe(): {n_elsewhere} calls in one reset and {N_STEPS} steps"
        )
    if not n_in_observe:
        raise UntoldError(
            "what it draws cannot be counted here: it is drawn in another process, or with other calls"
        )
    return "renders in observe() alone"


def _check_handed_out(trial: Trial) -> str:
    env = trial.env
    env.reset(trial.index)
    seen = env.observe()
    result = env.step(trial.actions[0])
    held = {
        "observe": seen,
        "step": result,
        "state": env.state(),
        "progress": env.progress(),
    }
    held |= {"ee_pos_world": env.ee_pos_world()}
    held |= {"snapshot": env.snapshot()} if provides(env, Snapshots) else {}
    before = {name: bits_of(value) for name, value in held.items()}
    step_on(env, trial.actions[1:])
    env.observe()
    changed = [name for name, value in held.items() if bits_of(value) != before[name]]
    if changed:
        raise BrokenError(
            f"what {' and '.join(changed)} returned changed with a later step: return a copy"
        )
    return "what it has returned never changes"


def _check_clipping(trial: Trial) -> str:
    env = trial.env
    spec = trial.env.spec.action
    env.reset(trial.index)
    if any(env.step(action).clipped for action in trial.actions):
        raise BrokenError("`clipped` is true for an action inside the bounds")
    low, high = finite_bounds(env)
    # A command to a binary gripper counts by its side of the middle alone: there is nothing to cut.
    binary = spec.gripper_index if spec.gripper_is_binary else None
    bounded = [
        i
        for i in range(spec.dim)
        if i != binary and np.isfinite(spec.low[i]) and np.isfinite(spec.high[i])
    ]
    if not bounded:
        raise UntoldError("its actions have no bounds")
    executed = []
    for index in bounded:
        for bound, beyond in ((high, 1.0), (low, -1.0)):
            action = (low + high) / 2
            action[index] = bound[index] + beyond * (high[index] - low[index])
            env.reset(trial.index)
            if env.step(action.astype(np.float32)).clipped:
                continue
            if _is_cut(trial, action, index, bound[index]):
                raise BrokenError(
                    f"`clipped` is false for an action beyond the bounds of {spec.names[index]!r}"
                )
            executed.append(spec.names[index])
    if executed:
        names = ", ".join(dict.fromkeys(executed))
        raise UntoldError(
            f"actions beyond the bounds are executed as they are, of {names}: nothing is clipped"
        )
    return "`clipped` is true for actions beyond the bounds, and false inside"


def _is_cut(
    trial: Trial,
    action: Float64[np.ndarray, " action_dim"],
    index: int,
    bound: float,
) -> bool:
    """Return whether an action beyond a bound does what the one at the bound does."""
    at_bound = action.copy()
    at_bound[index] = bound
    moments = [
        play(
            trial.env,
            trial.index,
            np.array([each] * N_STEPS, np.float32),
        )
        for each in (action, at_bound)
    ]
    without_result = [[_without_result(moment) for moment in each] for each in moments]
    return without_result[0] == without_result[1]


def _without_result(moment: Moment) -> Moment:
    return {name: value for name, value in moment.items() if name != "step"}


def _check_progress(trial: Trial) -> str:
    env = trial.env
    env.reset(trial.index)
    for action in (None, *trial.actions):
        result = None if action is None else env.step(action)
        progress = env.progress()
        try:
            check_progress(env.spec, progress)
        except WhiskerError as error:
            raise BrokenError(str(error).rstrip(".")) from error
        if result is not None and bits_of(result.progress) != bits_of(progress):
            raise BrokenError("step() and progress() tell different progress of one moment")
    return f"progress() has an entry for each goal ({len(env.spec.goals)}) with what its kind has, as step() has"


def _check_success(trial: Trial) -> str:
    env = trial.env
    if not provides(env, HasExpert):
        raise UntoldError("no success was seen: there is no scripted expert")
    env.reset(trial.index)
    expert = env.make_expert()
    expert.reset()
    for n_steps in range(1, env.spec.max_steps + 1):
        result = env.step(expert.action())
        if result.success:
            unmet = [
                goal.name
                for goal, now in zip(env.spec.goals, result.progress, strict=True)
                if not now.met
            ]
            if unmet:
                raise BrokenError(
                    f"it calls a success what does not meet {', '.join(map(repr, unmet))}"
                )
            return f"the scripted expert succeeds in episode {trial.index} after {n_steps} steps, and every goal is met"
    raise UntoldError(f"no success was seen: the scripted expert does not do episode {trial.index}")


def _check_snapshot(trial: Trial) -> str:
    env = trial.env
    if not provides(env, Snapshots):
        raise UntoldError("it has no snapshots")
    before, after = np.split(trial.actions, 2)
    env.reset(trial.index)
    step_on(env, before)
    snapshot = env.snapshot()
    seen = bits_of(env.observe())
    expected = [look_at(env), *step_on(env, after)]
    for when, leave in (
        ("restored at once", lambda: None),
        ("restored from another episode", trial.begin_other),
    ):
        leave()
        env.restore(snapshot)
        if bits_of(env.snapshot()) != bits_of(snapshot):
            raise BrokenError(f"{when}, the snapshot is another one")
        if bits_of(env.observe()) != seen:
            raise BrokenError(f"{when}, the world looks otherwise")
        expect_same(
            expected,
            [look_at(env), *step_on(env, after)],
            when,
        )
    return "continues bit for bit, at once and from another episode"


def _check_simulate_ee_path(trial: Trial) -> str:
    env = trial.env
    if not provides(env, Snapshots):
        raise UntoldError("it has no snapshots")
    env.reset(trial.index)
    snapshot = env.snapshot()
    path = [env.ee_pos_world()]
    for action in trial.actions:
        env.step(action)
        path.append(env.ee_pos_world())
    env.restore(snapshot)
    if bits_of(env.simulate_ee_path(trial.actions)) != bits_of(np.array(path)):
        raise BrokenError("simulate_ee_path() does not follow the path of step()")
    return "simulate_ee_path() goes the way of step(), bit for bit"


def _check_drawable(trial: Trial) -> str:
    env = trial.env
    if not provides(env, Drawable):
        raise UntoldError("it cannot be drawn elsewhere")
    env.reset(trial.index)
    n_bodies = len(env.geometry().body_names)
    poses = env.body_poses()
    if (poses.dtype.name, poses.shape) != ("float32", (n_bodies, 7)):
        raise BrokenError(
            f"body_poses() is {poses.dtype.name} {poses.shape}, and geometry() names {n_bodies} bodies"
        )
    for camera in env.spec.cameras:
        matrix = env.projection(camera.name)
        if matrix.shape != (3, 4) or not np.isfinite(matrix).all():
            raise BrokenError(f"projection({camera.name!r}) is no finite 3x4 matrix")
    try:
        env.projection("no such camera")
    except WhiskerError:
        return f"has a pose for each of {n_bodies} bodies and a projection for each camera"
    raise BrokenError("projection() answers for a camera that is not observed")


CHECKS: dict[str, Callable[[Trial], str]] = {
    "specification": _check_spec,
    "capabilities": _check_capabilities,
    "reset": _check_reset,
    "observation": _check_observation,
    "looking": _check_looking,
    "rendering": _check_rendering,
    "returned arrays": _check_handed_out,
    "clipping": _check_clipping,
    "progress": _check_progress,
    "success": _check_success,
    "snapshot": _check_snapshot,
    "simulate_ee_path": _check_simulate_ee_path,
    "drawable": _check_drawable,
}
