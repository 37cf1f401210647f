"""Solves LIBERO tasks by a script that reads the true state of the simulation.

The script carries out the task's goals one after the other. Grasps are found on the scene's
geometry (`sim.robosuite.grasping`): both fingers need room, and a part of the object between them.
The same search finds the rim of a bowl and the middle of a can.
"""

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench.expert_scene import ExpertScene, PositionXY
from sim.libero_bench.hand_motion import (
    CLOSED,
    OPEN,
    UP,
    HandMotion,
    Motion,
    StallCounter,
    pointing_down,
)
from sim.robosuite.grasping import PALM_U_M, TIP_W_M, Grasp
from sim.robosuite.height_map import GeomMask, Matrix, Position, collision_geoms

if TYPE_CHECKING:
    from sim.libero_bench.env import LiberoEnv

PLACE_FAILURE_MODES = ("never_close", "open_half_way", "release_beside", "stop_over_goal")
JOINT_FAILURE_MODES = ("stop_half_way",)

HOVER_M = 0.06
LIFT_M = 0.10
RETREAT_M = 0.12
BESIDE_M = 0.10
LOWER_M = 0.03
# The target of a joint's motion is this far ahead of the part.
LEAD_RAD = 0.4
LEAD_M = 0.04
# A handle is approached from the front, and this steeply from above.
HANDLE_TILT_RAD = np.deg2rad(18)
N_ATTEMPTS = 3
# Drawers are opened before an object is put into them and closed after.
_ORDER = {"open": 0, "close": 2, "turnoff": 2}


def check_failure_mode(failure_mode: str | None, goals: list[list[str]]) -> None:
    """Raise unless the failure mode exists and applies to a goal of the task.

    Raises:
        UnknownNameError: the message has the closest names.
        WhiskerError: the task has only goals of the other kind.
    """
    if failure_mode is None:
        return
    known = PLACE_FAILURE_MODES + JOINT_FAILURE_MODES
    if failure_mode not in known:
        raise UnknownNameError("failure mode of the expert", failure_mode, known)
    is_place = failure_mode in PLACE_FAILURE_MODES
    kind = "pick and place" if is_place else "articulated"
    others = JOINT_FAILURE_MODES if is_place else PLACE_FAILURE_MODES
    if not any((len(goal) == 3) == is_place for goal in goals):
        raise WhiskerError(
            f"failure mode {failure_mode!r} of the expert",
            expected=f"a task with a goal that is {kind}",
            got=" and ".join(" ".join(goal) for goal in goals),
            hint=f"Failure modes that this task can have: {', '.join(others)}.",
        )


class LiberoExpert:
    """Solves the goals of a task, and tries again when it drops an object.

    It picks from above. It places on plates, stoves, tables, racks and tops, and into baskets,
    trays, caddies and drawers (which it opens if they are closed). It turns knobs, and opens and
    closes drawers by their handle. It cannot handle microwaves, places under roofs, the lowest
    drawers, and plates that lie flat: such episodes fail.

    A `failure_mode` spoils one action. The episode then fails in a known way, if the distance to
    the goal is long enough:

        never_close      never_picked_up
        open_half_way    dropped_during_transport
        release_beside   missed_goal (at a basket: dropped, since the object rolls off the rim)
        stop_over_goal   timeout, at the first goal
        stop_half_way    timeout, halfway to the joint's goal
    """

    def __init__(
        self,
        env: "LiberoEnv",
        failure_mode: str | None = None,
    ) -> None:
        self._scene = ExpertScene(env)
        self._motion = HandMotion(self._scene)
        self._failure_mode = failure_mode
        self._goals: list[list[str]] = self._scene.problem.parsed_problem["goal_state"]
        check_failure_mode(failure_mode, self._goals)
        self.reset()

    def reset(self) -> None:
        self._script = self._solve()
        self._motion.reset()

    def action(self) -> Float64[np.ndarray, "7"]:
        next(self._script)
        return self._motion.action()

    def _solve(self) -> Motion:
        """Do every goal, then repeat those that do not hold."""
        in_order = sorted(
            range(len(self._goals)), key=lambda index: _ORDER.get(self._goals[index][0], 1)
        )
        for _ in range(1 if self._failure_mode else N_ATTEMPTS):
            for index in in_order:
                if self._scene.env.progress()[index].met:
                    continue
                verb, target, *place = self._goals[index]
                if place:
                    yield from self._pick_and_place(target, *place)
                else:
                    yield from self._move_joint(verb, target)
        yield from self._motion.stay()

    def _pick_and_place(
        self,
        target: str,
        place: str,
    ) -> Motion:
        scene = self._scene
        motion = self._motion
        if scene.is_drawer(place) and not scene.problem._eval_predicate(["open", place]):
            yield from self._move_joint("open", place)
        body = scene.body_of(target)
        is_target = scene.geoms_of(body)
        yield from self._pick(body, is_target)
        if motion.gripper == OPEN and self._failure_mode != "never_close":
            return
        beside_m = BESIDE_M if self._failure_mode == "release_beside" else None
        spot = scene.find_spot(place, is_target, beside_m)
        if self._failure_mode == "open_half_way":
            # Nearer to the lift than to the goal, so that the object falls far from the goal.
            spot = 0.65 * scene.data.xpos[body, :2] + 0.35 * spot
        # Carry the object to above the spot, over every obstacle on the way.
        hand_z = scene.hand_position()[2]
        lowest, _ = scene.bounds_of(is_target)
        yield from motion.cross(
            self._hand_above(spot, body, hand_z), hand_z - lowest[2], scene.is_robot | is_target
        )
        if self._failure_mode == "open_half_way":
            yield from motion.use_gripper(OPEN)
            yield from motion.stay()
        if self._failure_mode == "stop_over_goal":
            z = scene.hand_position()[2]
            while True:
                motion.target = self._hand_above(spot, body, z)
                yield
        # Lower the object until it touches something, or the hand sinks no further.
        stall = StallCounter(0.001)
        while stall.n_steps < 5 and not scene.is_touched(is_target):
            z = scene.hand_position()[2]
            stall.update(z)
            motion.target = self._hand_above(spot, body, z - LOWER_M)
            yield
        yield from motion.use_gripper(OPEN)
        yield from motion.go(scene.hand_position() + RETREAT_M * UP, 0.02)

    def _pick(
        self,
        body: int,
        is_target: GeomMask,
    ) -> Motion:
        """Grasp and lift an object. The gripper is left open if this failed."""
        data = self._scene.data
        for _ in range(N_ATTEMPTS):
            grasp = self._scene.find_grasp(is_target, data.xipos[body])
            if grasp is None:
                return
            yield from self._grasp(grasp)
            height_m = data.xpos[body, 2]
            yield from self._motion.go(grasp.pos_world + LIFT_M * UP, 0.02)
            if data.xpos[body, 2] - height_m > LIFT_M / 2 or self._failure_mode == "never_close":
                return
            yield from self._motion.use_gripper(OPEN)

    def _grasp(self, grasp: Grasp) -> Motion:
        motion = self._motion
        motion.rotation = pointing_down(grasp.yaw_rad)
        motion.gripper = OPEN
        yield from motion.travel(grasp.pos_world + HOVER_M * UP, TIP_W_M)
        yield from motion.go(grasp.pos_world, 0.004)
        yield from motion.use_gripper(OPEN if self._failure_mode == "never_close" else CLOSED)

    def _hand_above(
        self,
        spot: PositionXY,
        body: int,
        z: float,
    ) -> Position:
        """Return the hand's position when the held body is above the spot."""
        hand_xy = self._scene.hand_position()[:2]
        return np.append(spot + hand_xy - self._scene.data.xpos[body, :2], z)

    def _move_joint(
        self,
        verb: str,
        target: str,
    ) -> Motion:
        """Grasp the part, then lead it along its joint's path until the goal is passed.

        The goal is passed by a tenth of the range that counts as open, closed, on or off.
        """
        scene = self._scene
        data = scene.data
        joint = scene.model.joint(scene.problem.get_object(target).joints[0])
        qpos = int(joint.qposadr[0])
        start = float(data.qpos[qpos])
        near, far = sorted(scene.joint_range(verb, target), key=lambda end: abs(end - start))
        end = near + 0.1 * (far - near)
        if self._failure_mode == "stop_half_way":
            end = 0.5 * (start + near)
        yield from self._grasp_part(target, joint)
        if self._motion.gripper == OPEN:
            # There was no grasp.
            return
        yield from self._lead_part(joint, start, end)
        if self._failure_mode == "stop_half_way":
            yield from self._motion.stay()
        yield from self._motion.use_gripper(OPEN)
        away = scene.hand_position() - RETREAT_M * self._motion.rotation[:, 2]
        yield from self._motion.go(away, 0.02)

    def _lead_part(
        self,
        joint,
        start: float,
        end: float,
    ) -> Motion:
        """Keep the hand's target ahead of the part until the joint has moved from start to end.

        Args:
            joint: MuJoCo's named access to the joint.
        """
        data = self._scene.data
        motion = self._motion
        part = int(self._scene.model.jnt_bodyid[joint.id])
        qpos = int(joint.qposadr[0])
        is_slide = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
        to_part = data.xmat[part].reshape(3, 3).T
        grip = to_part @ (self._scene.hand_position() - data.xpos[part])
        turn = to_part @ motion.rotation
        stall = StallCounter(1e-3)
        while stall.n_steps < 15:
            left = abs(end - start) - abs(data.qpos[qpos] - start)
            if left <= 0:
                return
            stall.update(left)
            lead = LEAD_M if is_slide else LEAD_RAD
            if self._failure_mode == "stop_half_way":
                # Otherwise the part would follow the hand further, into its goal.
                lead = min(lead, left)
            way = lead * np.sign(end - start) * data.xaxis[joint.id]
            from_part = data.xmat[part].reshape(3, 3)
            position = data.xpos[part] + from_part @ grip
            motion.rotation = from_part @ turn
            if is_slide:
                motion.target = position + way
            else:
                anchor = data.xanchor[joint.id]
                around = Rotation.from_rotvec(way).as_matrix()
                motion.target = anchor + around @ (position - anchor)
                motion.rotation = around @ motion.rotation
            yield

    def _grasp_part(
        self,
        target: str,
        joint,
    ) -> Motion:
        """Grasp a knob from above, or a drawer by its handle."""
        scene = self._scene
        is_part = scene.model.geom_bodyid == int(scene.model.jnt_bodyid[joint.id])
        if scene.is_drawer(target):
            open_m = np.mean(scene.joint_range("open", target))
            outwards = (
                np.sign(open_m - np.mean(scene.joint_range("close", target)))
                * scene.data.xaxis[joint.id]
            )
            # The handle is the geom that stands out furthest in front.
            motion = self._motion
            geoms = np.flatnonzero(is_part & collision_geoms(scene.model))
            in_front = scene.data.geom_xpos[geoms] @ outwards
            handle = scene.data.geom_xpos[geoms[np.argmax(in_front)]].copy()
            motion.rotation = reaching_for_handle(outwards, scene.hand_rotation())
            motion.gripper = OPEN
            yield from motion.travel(handle - RETREAT_M * motion.rotation[:, 2], PALM_U_M)
            yield from motion.go(handle, 0.005)
            yield from motion.use_gripper(CLOSED)
            return
        grasp = scene.find_grasp(is_part, scene.data.xanchor[joint.id])
        if grasp is not None:
            yield from self._grasp(grasp)


def reaching_for_handle(outwards: Position, hand: Matrix) -> Matrix:
    """Return the columns u, v, w of a hand that reaches for a handle.

    It reaches against `outwards`, and opens up and down. Of the two such rotations, this is the one
    nearer to the present rotation `hand`.
    """
    w = -np.cos(HANDLE_TILT_RAD) * outwards - np.sin(HANDLE_TILT_RAD) * UP
    upwards = UP - (UP @ w) * w
    u = upwards / np.linalg.norm(upwards)
    candidates = [np.stack([side, np.cross(w, side), w], axis=1) for side in (-u, u)]
    return max(candidates, key=lambda rotation: float(np.trace(rotation @ hand.T)))
