"""Checks of what an environment offers beyond the core: expert, snapshots and drawing.

They return and raise as the checks in `sim.contract_checks` do.
"""

import numpy as np

from sim.capabilities import Drawable, HasExpert, Snapshots, provides
from sim.contract_trial import (
    BrokenError,
    InconclusiveError,
    Trial,
    bits_of,
    expect_same,
    read,
    step_through,
)
from sim.errors import WhiskerError

_NO_SNAPSHOTS = "it has no snapshots"


def check_success(trial: Trial) -> str:
    """Let the scripted expert solve the episode; all goals must be met when `success` is true."""
    env = trial.env
    if not provides(env, HasExpert):
        raise InconclusiveError("no success was seen: there is no scripted expert")
    env.reset(trial.index)
    expert = env.make_expert()
    expert.reset()
    for n_steps in range(1, env.spec.max_steps + 1):
        result = env.step(expert.action())
        if result.success:
            states = zip(env.spec.goals, result.progress, strict=True)
            unmet = [repr(goal.name) for goal, progress in states if not progress.met]
            if unmet:
                raise BrokenError(f"it reports success although {', '.join(unmet)} is not met")
            return (
                f"the scripted expert succeeds in episode {trial.index} after {n_steps} steps, "
                "and every goal is met"
            )
    raise InconclusiveError(
        f"no success was seen: the scripted expert does not solve episode {trial.index}"
    )


def check_snapshot(trial: Trial) -> str:
    """Restore a snapshot at once and from another episode; both must continue bit for bit."""
    env = trial.env
    if not provides(env, Snapshots):
        raise InconclusiveError(_NO_SNAPSHOTS)
    before, after = np.split(trial.actions, 2)
    env.reset(trial.index)
    step_through(env, before)
    snapshot = env.snapshot()
    observation = bits_of(env.observe())
    expected = [read(env), *step_through(env, after)]
    for when in ("after an immediate restore", "after a restore from another episode"):
        if "another" in when:
            trial.enter_other_episode()
        env.restore(snapshot)
        if bits_of(env.snapshot()) != bits_of(snapshot):
            raise BrokenError(f"{when}, the snapshot differs")
        if bits_of(env.observe()) != observation:
            raise BrokenError(f"{when}, the observation differs")
        expect_same(expected, [read(env), *step_through(env, after)], when)
    return "continues bit for bit after a restore, immediate or from another episode"


def check_simulate_ee_path(trial: Trial) -> str:
    """Compare the path of `simulate_ee_path` with that of `step`, bit for bit."""
    env = trial.env
    if not provides(env, Snapshots):
        raise InconclusiveError(_NO_SNAPSHOTS)
    env.reset(trial.index)
    snapshot = env.snapshot()
    path = [env.ee_pos_world()]
    for action in trial.actions:
        env.step(action)
        path.append(env.ee_pos_world())
    env.restore(snapshot)
    if bits_of(env.simulate_ee_path(trial.actions)) != bits_of(np.array(path)):
        raise BrokenError("simulate_ee_path() does not follow the path of step()")
    return "simulate_ee_path() follows the path of step(), bit for bit"


def check_drawable(trial: Trial) -> str:
    """Check the shapes of poses and projections, and that an unknown camera is refused."""
    env = trial.env
    if not provides(env, Drawable):
        raise InconclusiveError("it is not drawable")
    env.reset(trial.index)
    n_bodies = len(env.geometry().body_names)
    poses = env.body_poses()
    if (poses.dtype.name, poses.shape) != ("float32", (n_bodies, 7)):
        raise BrokenError(
            f"body_poses() is {poses.dtype.name} {poses.shape}, but geometry() names "
            f"{n_bodies} bodies"
        )
    for camera in env.spec.cameras:
        matrix = env.projection(camera.name)
        if matrix.shape != (3, 4) or not np.isfinite(matrix).all():
            raise BrokenError(f"projection({camera.name!r}) is not a finite 3x4 matrix")
    try:
        env.projection("no such camera")
    except WhiskerError:
        return f"has a pose for each of {n_bodies} bodies and a projection for each camera"
    raise BrokenError("projection() accepts a camera that is not observed")
