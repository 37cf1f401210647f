"""Solves robosuite's tasks by scripts that read the true state of the simulation."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sim.env import Expert
from sim.errors import UnknownNameError, WhiskerError
from sim.goals.two_handed_lift import TWO_HANDED_LIFT
from sim.robosuite.expert_scene import ExpertScene, PositionXY
from sim.robosuite.hand_motion import UP, HandMotion, Motion
from sim.robosuite.handle_motion import grasp_handle
from sim.robosuite.joint_motion import lead_part
from sim.robosuite.picking import PLACE_FAILURE_MODES, Picking
from sim.robosuite_tasks.two_arm_expert import POT_FAILURE_MODES, TwoArmLiftExpert

if TYPE_CHECKING:
    from sim.robosuite_tasks.env import RobosuiteTaskEnv

LIFT_FAILURE_MODES = ("never_close", "never_lift")
DOOR_FAILURE_MODES = ("never_turn", "stop_half_way")
WIPE_FAILURE_MODES = ("never_press", "stop_half_way", "lift_half_way")

_EVERY_FAILURE_MODE = (
    PLACE_FAILURE_MODES + LIFT_FAILURE_MODES + DOOR_FAILURE_MODES + WIPE_FAILURE_MODES
)

# The handle is turned and the door is opened this far.
_TURN_RAD = 1.45
_OPEN_RAD = 0.38
_HALF_OPEN_RAD = 0.15
# A tool that does not press stays this far above the markers.
_HOVER_M = 0.06
# The target is this much inside the table, so that the tool presses.
_PRESS_M = 0.01
# A quarter of the bin is this much wider to a side than `Picking` puts an object beside its goal.
_BESIDE_BIN = 1.1


class RobosuiteExpert:
    """Solves one task: it lifts, stacks, puts into bins and on pegs, opens the door or wipes.

    A `failure_mode` spoils one action. The episode then fails in a known way:

        never_close      never_picked_up
        never_lift       never_picked_up, in Lift
        open_half_way    dropped_during_transport
        release_beside   missed_goal (in a bin: dropped, if it comes down beyond `near_goal_m`)
        stop_over_goal   timeout, since the object is still held
        never_turn       timeout, since the door is still latched
        stop_half_way    timeout, since the door is not open far enough, or markers are left
        never_press      timeout, since the tool stays above the table
        lift_half_way    timeout, since the tool leaves the table while markers are left
    """

    def __init__(
        self,
        env: "RobosuiteTaskEnv",
        failure_mode: str | None = None,
    ) -> None:
        self._env = env
        self._failure_mode = failure_mode
        kind = env.spec.goals[0].kind
        modes: dict[str, tuple[str, ...]] = {
            "lift": LIFT_FAILURE_MODES,
            "door": DOOR_FAILURE_MODES,
            "wipe": WIPE_FAILURE_MODES,
        }
        check_failure_mode(failure_mode, env.spec.name, modes.get(kind, PLACE_FAILURE_MODES))
        scripts = {"lift": self._lift, "stack": self._stack, "insert": self._insert}
        scripts |= {"door": self._open_door, "pick_and_place": self._put_into_bin}
        scripts |= {"wipe": self._wipe}
        self._solve = scripts[kind]
        self.reset()

    def reset(self) -> None:
        self._scene = ExpertScene(self._env)
        self._motion = HandMotion(self._scene)
        self._picking = Picking(self._scene, self._motion, self._failure_mode)
        self._script = self._run()

    def action(self) -> Float64[np.ndarray, " action_dim"]:
        next(self._script)
        return self._motion.action()

    def _run(self) -> Motion:
        yield from self._solve()
        yield from self._motion.stay()

    def _lift(self) -> Motion:
        cube = self._env.task_env.cube_body_id
        is_cube = self._scene.geoms_of(cube)
        if self._failure_mode != "never_lift":
            yield from self._picking.pick(cube, is_cube)
            return
        grasp = self._scene.find_grasp(is_cube, self._scene.data.xipos[cube])
        if grasp is not None:
            yield from self._picking.grasp(grasp)

    def _stack(self) -> Motion:
        env = self._env.task_env
        data = self._scene.data

        def find_spot(beside_m: float | None) -> PositionXY:
            base = data.xpos[env.cubeB_body_id, :2]
            if beside_m is None:
                return base
            away = base - data.xpos[env.cubeA_body_id, :2]
            return base + beside_m * away / np.linalg.norm(away)

        cube = env.cubeA_body_id
        yield from self._picking.pick_and_place(cube, self._scene.geoms_of(cube), find_spot)

    def _put_into_bin(self) -> Motion:
        env = self._env.task_env
        body = env.obj_body_id[env.obj_to_use]
        middle = env.target_bin_placements[env.object_id, :2]
        # Beside the goal is towards the middle of the bin, and not on its wall.
        inwards = np.array([np.sign(env.bin2_pos[0] - middle[0]), 0.0])

        def find_spot(beside_m: float | None) -> PositionXY:
            return middle + _BESIDE_BIN * (beside_m or 0.0) * inwards

        yield from self._picking.pick_and_place(body, self._scene.geoms_of(body), find_spot)

    def _insert(self) -> Motion:
        """Grasp the nut by its handle, align it with the peg, and put it down."""
        env = self._env.task_env
        scene = self._scene
        data = scene.data
        body = env.obj_body_id[env.obj_to_use]
        peg = (env.peg1_body_id, env.peg2_body_id)[env.nut_id]
        is_nut = scene.geoms_of(body)
        handle = data.site_xpos[env.object_site_ids[env.nut_id]]
        nearest = np.linalg.norm(data.geom_xpos - handle, axis=1)
        is_handle = is_nut & (nearest < 0.005)
        yield from self._picking.pick(body, is_handle)
        if not self._picking.has_picked:
            return
        forward = data.xmat[body].reshape(3, 3)[:, 0]
        yaw = np.arctan2(forward[1], forward[0])
        # The hole and the peg are square, so a quarter turn makes no difference.
        turn = np.round(yaw / (np.pi / 2)) * np.pi / 2 - yaw
        self._motion.rotation = Rotation.from_rotvec(turn * UP).as_matrix() @ self._motion.rotation
        yield from self._motion.go(scene.hand_position(), 0.01)

        def find_spot(beside_m: float | None) -> PositionXY:
            return data.xpos[peg, :2] - [beside_m or 0.0, 0.0]

        yield from self._picking.place(body, is_nut, find_spot)

    def _open_door(self) -> Motion:
        """Grasp the handle, turn it down, and pull the door open."""
        env = self._env.task_env
        scene = self._scene
        data = scene.data
        latch = scene.model.joint(env.door.joints[1])
        hinge = scene.model.joint(env.door.joints[0])
        handle = data.site_xpos[env.door_handle_site_id].copy()
        axis = data.xaxis[latch.id]
        arm = handle - data.xanchor[latch.id]
        outwards = np.sign(axis @ (handle - data.xpos[env.object_body_ids["door"]])) * axis
        yield from grasp_handle(scene, self._motion, handle, outwards)
        if self._failure_mode != "never_turn":
            downwards = -np.sign(np.cross(axis, arm)[2])
            yield from lead_part(scene, self._motion, latch, 0.0, downwards * _TURN_RAD)
        stops = self._failure_mode == "stop_half_way"
        end = _HALF_OPEN_RAD if stops else _OPEN_RAD
        yield from lead_part(scene, self._motion, hinge, 0.0, end, stops_at_end=stops)

    def _wipe(self) -> Motion:
        """Go down on the nearest marker, and always on to the nearest one that is left."""
        env = self._env
        scene = self._scene
        bodies = env.model.geom_bodyid[env.marker_geoms]
        hovers_from = {"never_press": len(bodies), "lift_half_way": len(bodies) // 2}
        hovers_from_n = hovers_from.get(self._failure_mode or "", 0)
        stops_at = len(bodies) // 2 if self._failure_mode == "stop_half_way" else 0
        while True:
            left = bodies[env.model.geom_rgba[env.marker_geoms, 3] > 0]
            if len(left) <= stops_at:
                return
            markers = scene.data.xpos[left]
            hand = scene.hand_position()
            nearest = markers[np.linalg.norm(markers - hand, axis=1).argmin()]
            hovers = len(left) <= hovers_from_n
            self._motion.target = nearest + (_HOVER_M if hovers else -_PRESS_M) * UP
            yield


def make_expert(env: "RobosuiteTaskEnv", failure_mode: str | None) -> Expert:
    """Return the expert of a task.

    Raises:
        WhiskerError: the task has no such failure mode.
    """
    if env.spec.goals[0].kind != TWO_HANDED_LIFT.name:
        return RobosuiteExpert(env, failure_mode)
    check_failure_mode(failure_mode, env.spec.name, POT_FAILURE_MODES)
    return TwoArmLiftExpert(env, failure_mode)


def check_failure_mode(
    failure_mode: str | None,
    env_name: str,
    known: tuple[str, ...],
) -> None:
    """Raise unless the failure mode exists and applies to the task.

    Raises:
        UnknownNameError: there is no such failure mode; the message has the closest names.
        WhiskerError: other tasks have it.
    """
    every = dict.fromkeys(_EVERY_FAILURE_MODE)
    if failure_mode is None or failure_mode in known:
        return
    if failure_mode not in every:
        raise UnknownNameError("failure mode of the expert", failure_mode, every)
    raise WhiskerError(
        f"failure mode {failure_mode!r} of the expert",
        expected=f"one that {env_name!r} can have: {', '.join(known)}",
    )
