"""Finds the free bodies of a MuJoCo model, and measures how still they lie."""

import copy
from collections.abc import Mapping

import mujoco
import numpy as np
from jaxtyping import Float64, Int32

from sim.env import WATCH_S, LooseObject


class FreeJoints:
    """The free joints of a model: their bodies, positions and velocities."""

    def __init__(self, model: mujoco.MjModel) -> None:
        joints = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        self.bodies: Int32[np.ndarray, " object"] = model.jnt_bodyid[joints]
        # The position of a free joint comes before its rotation.
        self._positions = model.jnt_qposadr[joints][:, None] + np.arange(3)
        self._velocities = model.jnt_dofadr[joints][:, None] + np.arange(3)

    def positions(self, data: mujoco.MjData) -> Float64[np.ndarray, "object 3"]:
        """Return the positions of the bodies in the world, m."""
        return data.qpos[self._positions]

    def speeds(self, data: mujoco.MjData) -> Float64[np.ndarray, " object"]:
        """Return the speeds of the bodies' origins, m/s."""
        return np.linalg.norm(data.qvel[self._velocities], axis=1)


def observe_loose_objects(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    names: Mapping[int, str] | None = None,
) -> tuple[LooseObject, ...]:
    """Watch every body with a free joint for `WATCH_S`. Runs in a copy, so that `data` stays.

    Args:
        names: body id → name, if the environment has its own names. None: the model's names.
    """
    joints = FreeJoints(model)
    future = copy.copy(data)
    for _ in range(round(WATCH_S / model.opt.timestep)):
        mujoco.mj_step(model, future)
    positions = joints.positions(data)
    drifts = np.linalg.norm(joints.positions(future) - positions, axis=1)
    bodies = joints.bodies.tolist()
    body_names = [(names or {}).get(body, model.body(body).name) for body in bodies]
    return tuple(
        map(
            LooseObject,
            body_names,
            positions,
            joints.speeds(data).tolist(),
            drifts.tolist(),
        )
    )
