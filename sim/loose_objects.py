"""Objects that nothing holds to the world, and how still they lie."""

import copy
from collections.abc import Mapping

import mujoco
import numpy as np
from jaxtyping import Float64, Int32

from sim.env import WATCH_S, LooseObject


class FreeJoints:
    """The free joints of a model: which body each of them moves, and where its pose and velocity are."""

    def __init__(self, model: mujoco.MjModel) -> None:
        joints = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        self.bodies: Int32[np.ndarray, " object"] = model.jnt_bodyid[joints]
        # A free joint has its position first, then its rotation.
        self._positions = model.jnt_qposadr[joints][:, None] + np.arange(3)
        self._velocities = model.jnt_dofadr[joints][:, None] + np.arange(3)

    def positions(self, data: mujoco.MjData) -> Float64[np.ndarray, "object 3"]:
        """Return where the bodies are, m in the world."""
        return data.qpos[self._positions]

    def speeds(self, data: mujoco.MjData) -> Float64[np.ndarray, " object"]:
        """Return how fast the bodies' origins move, m/s."""
        return np.linalg.norm(data.qvel[self._velocities], axis=1)


def observe_loose_objects(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    names: Mapping[int, str] | None = None,
) -> tuple[LooseObject, ...]:
    """Watch every body with a free joint for `WATCH_S`, in a copy: `data` stays as it is.

    Args:
        names: body id to name, where the environment has names of its own. None: those of the
            model.
    """
    joints = FreeJoints(model)
    future = copy.copy(data)
    for _ in range(round(WATCH_S / model.opt.timestep)):
        mujoco.mj_step(model, future)
    now = joints.positions(data)
    drifts = np.linalg.norm(joints.positions(future) - now, axis=1)
    return tuple(
        LooseObject(
            (names or {}).get(int(body), model.body(int(body)).name),
            position,
            float(speed),
            float(drift),
        )
        for body, position, speed, drift in zip(
            joints.bodies,
            now,
            joints.speeds(data),
            drifts,
            strict=True,
        )
    )
