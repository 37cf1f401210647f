"""Defines robosuite's goals to which an object is carried: a bin, another object and a peg."""

import mujoco
import numpy as np

from sim.arrays import Vector3
from sim.goals.insert import INSERT
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.goals.stack import STACK
from sim.robosuite.carry_goal import CarryGoal
from sim.robosuite_tasks.goal_thresholds import HELD_M, LIFTED_M, PICK_THRESHOLDS

# Thickness of the floor of a bin above its origin (robosuite, models/assets/arenas/bins_arena.xml).
BIN_FLOOR_M = 0.02
# robosuite's NutAssembly.on_peg: half the width within which a nut is on its peg, and the height
# above the table below which it is.
_ON_PEG_M = 0.03
_PEG_DEPTH_M = 0.05


class _TaskGoal(CarryGoal):
    """Tracks the object of a task, which begins slightly above or inside what it then lies on."""

    def __init__(
        self,
        env,
        model: mujoco.MjModel,
        body: int,
        support_m: float,
    ) -> None:
        super().__init__(
            env,
            model,
            body,
            held_m=HELD_M,
            lifted_m=LIFTED_M,
            support_m=float(support_m),
        )


class BinGoal(_TaskGoal):
    """Tracks the object of a PickPlace task, which has a quarter of the second bin for its goal."""

    def __init__(self, env, model: mujoco.MjModel) -> None:
        name = env.obj_to_use
        super().__init__(env, model, env.obj_body_id[name], env.bin1_pos[2] + BIN_FLOOR_M)
        self.declared = PICK_AND_PLACE.goal(f"in {name.lower()} bin", PICK_THRESHOLDS)
        self._goal_pos = env.target_bin_placements[env.object_id]
        self._half_m = np.array(env.bin_size[:2]) / 4

    def _goal_xy(self, data: mujoco.MjData) -> np.ndarray:
        return self._goal_pos[:2]

    def _is_over(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> bool:
        """Apply robosuite's `not_in_bin` without its upper bound."""
        offset = position - self._goal_pos
        return bool((np.abs(offset[:2]) < self._half_m).all() and offset[2] > 0)


class StackGoal(_TaskGoal):
    """Tracks the red cube of Stack, whose goal is the green one."""

    def __init__(self, env, model: mujoco.MjModel) -> None:
        super().__init__(env, model, env.cubeA_body_id, env.table_offset[2])
        self.declared = STACK.goal("on cubeA cubeB", PICK_THRESHOLDS)
        self._base = env.cubeB_body_id
        self._base_half_m = float(env.cubeB.size[0])
        self.start = np.zeros(3)

    def begin(self, data: mujoco.MjData) -> None:
        super().begin(data)
        self.start = np.concatenate([self.start, data.xpos[self._base, :2]])

    def _goal_xy(self, data: mujoco.MjData) -> np.ndarray:
        return data.xpos[self._base, :2]

    def _is_over(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> bool:
        rotation = data.xmat[self._base].reshape(3, 3)
        offset = rotation.T @ (position - data.xpos[self._base])
        is_above = position[2] > data.xpos[self._base, 2] + self._base_half_m
        return bool((np.abs(offset[:2]) < self._base_half_m).all() and is_above)

    def _measure_more(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> dict[str, float]:
        shift = data.xpos[self._base, :2] - self.start[1:]
        return {"base_shift_m": float(np.hypot(*shift))}


class PegGoal(_TaskGoal):
    """Tracks the nut of a NutAssembly task, whose goal is the bottom of its peg."""

    def __init__(self, env, model: mujoco.MjModel) -> None:
        name = env.obj_to_use
        super().__init__(env, model, env.obj_body_id[name], env.table_offset[2])
        self._peg = (env.peg1_body_id, env.peg2_body_id)[env.nut_id]
        self._table_m = float(env.table_offset[2])
        self.declared = INSERT.goal(f"on {name.lower()} peg", PICK_THRESHOLDS)

    def _goal_xy(self, data: mujoco.MjData) -> np.ndarray:
        return data.xpos[self._peg, :2]

    def _is_over(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> bool:
        """Apply robosuite's `on_peg` without its upper bound."""
        return bool((np.abs(position[:2] - self._goal_xy(data)) < _ON_PEG_M).all())

    def _measure_more(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> dict[str, float]:
        return {"depth_left_m": float(position[2]) - self._table_m - _PEG_DEPTH_M}
