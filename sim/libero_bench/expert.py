"""Solves LIBERO tasks by a script that reads the true state of the simulation.

The script carries out the task's goals one after the other. Grasps are found on the scene's
geometry (`sim.robosuite.grasping`): both fingers need room, and a part of the object between them.
The same search finds the rim of a bowl and the middle of a can.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench.expert_scene import LiberoScene
from sim.robosuite.hand_motion import OPEN, RETREAT_M, HandMotion, Motion
from sim.robosuite.handle_motion import grasp_handle
from sim.robosuite.height_map import collision_geoms
from sim.robosuite.joint_motion import lead_part
from sim.robosuite.picking import N_ATTEMPTS, PLACE_FAILURE_MODES, Picking

if TYPE_CHECKING:
    from sim.libero_bench.env import LiberoEnv

JOINT_FAILURE_MODES = ("stop_half_way",)

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
        self._scene = LiberoScene(env)
        self._motion = HandMotion(self._scene)
        self._picking = Picking(self._scene, self._motion, failure_mode)
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
        if scene.is_drawer(place) and not scene.problem._eval_predicate(["open", place]):
            yield from self._move_joint("open", place)
        body = scene.body_of(target)
        is_target = scene.geoms_of(body)
        yield from self._picking.pick_and_place(
            body, is_target, lambda beside_m: scene.find_spot(place, is_target, beside_m)
        )

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
        stops_half_way = self._failure_mode == "stop_half_way"
        yield from lead_part(scene, self._motion, joint, start, end, stops_at_end=stops_half_way)
        if stops_half_way:
            yield from self._motion.stay()
        yield from self._motion.use_gripper(OPEN)
        away = scene.hand_position() - RETREAT_M * self._motion.rotation[:, 2]
        yield from self._motion.go(away, 0.02)

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
            geoms = np.flatnonzero(is_part & collision_geoms(scene.model))
            in_front = scene.data.geom_xpos[geoms] @ outwards
            handle = scene.data.geom_xpos[geoms[np.argmax(in_front)]].copy()
            yield from grasp_handle(scene, self._motion, handle, outwards)
            return
        grasp = scene.find_grasp(is_part, scene.data.xanchor[joint.id])
        if grasp is not None:
            yield from self._picking.grasp(grasp)
