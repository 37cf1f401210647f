"""A scripted expert for LIBERO: it reads the true state and carries out the task's goals one after the other.

What can be grasped, and where, is read off the world's geometry (`sim.robosuite.grasping`): where
both fingers find room and something of the object is between them. That gives the rim of a bowl and
the middle of a can alike.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import mujoco
import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sim.errors import UnknownNameError, WhiskerError
from sim.robosuite.grasping import (
    CELL_M,
    COARSE_CELL_M,
    PALM_U_M,
    TIP_W_M,
    GeomMask,
    Grasp,
    HeightMap,
    Matrix,
    Position,
    collision_geoms,
    find_grasp,
    grid_points,
)

if TYPE_CHECKING:
    from sim.libero_bench.env import LiberoEnv

PlaceFault = Literal["never_close", "open_half_way", "release_beside", "stop_over_goal"]
JointFault = Literal["stop_half_way"]

Motion = Iterator[None]

OPEN, CLOSED = -1.0, 1.0
UP = np.array([0.0, 0.0, 1.0])
# Of an action, and the share of the way that it asks for.
POSITION_UNIT_M, ROTATION_UNIT_RAD, GAIN = 0.05, 0.5, 1.5

HOVER_M, LIFT_M, RETREAT_M, OVER_OBSTACLES_M, BESIDE_M = 0.06, 0.10, 0.12, 0.03, 0.10
# A handle is approached from in front, and this steeply from above.
HANDLE_TILT_RAD = np.deg2rad(18)
LOWER_M, LEAD_RAD, LEAD_M = 0.03, 0.4, 0.04
N_GRIPPER_STEPS, N_ATTEMPTS = 10, 3
# Drawers are opened before something is put into them and closed after.
_ORDER = {"open": 0, "close": 2, "turnoff": 2}


def pointing_down(yaw_rad: float) -> Matrix:
    """Columns u, v, w of a hand that points down and opens along the yaw."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, -1.0]])


def check_failure_mode(failure_mode: str | None, goals: list[list[str]]) -> None:
    """Raise unless there is such a failure mode and something in the task that it spoils.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: the task has only goals of the other kind.
    """
    of_place, of_joint = get_args(PlaceFault), get_args(JointFault)
    if failure_mode is None:
        return
    if failure_mode not in of_place + of_joint:
        raise UnknownNameError("failure mode of the expert", failure_mode, of_place + of_joint)
    if (failure_mode in of_place) not in {len(goal) == 3 for goal in goals}:
        kind, others = (
            ("pick and place", of_joint) if failure_mode in of_place else ("articulated", of_place)
        )
        raise WhiskerError(
            f"failure mode {failure_mode!r} of the expert",
            expected=f"a task with a goal that is {kind}",
            got=" and ".join(" ".join(goal) for goal in goals),
            hint=f"Failure modes that this task can have: {', '.join(others)}.",
        )


class LiberoExpert:
    """Proportional control of the hand towards targets that follow the world as it is; tries again what it dropped.

    It picks from above and places on plates, stoves, tables, racks and tops, into baskets, trays,
    caddies and drawers (which it opens if they are closed), turns knobs, and opens and closes
    drawers by their handle. It has no way with microwaves, under roofs, with the lowest drawers and
    with plates that lie flat: such episodes fail.

    A `failure_mode` spoils one thing, which gives a known failure of each kind where the way is long
    enough for it:

        never_close      never_picked_up            stop_over_goal   timeout, at the first goal
        open_half_way    dropped_during_transport   stop_half_way    timeout, halfway to the joint's goal
        release_beside   missed_goal (of a basket: dropped, since it rolls off the rim)
    """

    def __init__(self, env: "LiberoEnv", failure_mode: str | None = None) -> None:
        self._env, self._failure_mode = env, failure_mode
        self._robosuite = env._env
        self._goals: list[list[str]] = self._robosuite.parsed_problem["goal_state"]
        check_failure_mode(failure_mode, self._goals)
        model = env.model
        self._base = int(model.body("robot0_base").id)
        self._is_robot = model.body_rootid[model.geom_bodyid] == model.body_rootid[self._base]
        self.reset()

    def reset(self) -> None:
        self._script = self._solve()
        self._gripper = OPEN
        self._rotation = pointing_down(np.pi / 2)  # as it is in every init state
        self._target = np.zeros(3)

    def action(self) -> Float64[np.ndarray, "7"]:
        """Towards the script's target.

        Absolute control gets the pose that the relative action stands for.
        """
        next(self._script)
        position, rotation = self._hand()
        step = GAIN * (self._target - position) / POSITION_UNIT_M
        step = step / max(1.0, np.abs(step).max())
        turn = np.clip(self._turn_left() / ROTATION_UNIT_RAD, -1.0, 1.0)
        if self._env.spec.action.mode == "absolute":
            step = position + POSITION_UNIT_M * step
            turn = (
                Rotation.from_rotvec(ROTATION_UNIT_RAD * turn) * Rotation.from_matrix(rotation)
            ).as_rotvec()
        return np.concatenate([step, turn, [self._gripper]])

    # The script: generators that set the target (and `_rotation`, `_gripper`) and yield once a
    # control step.

    def _solve(self) -> Motion:
        """Every goal, and then again those that do not hold."""
        in_order = sorted(
            range(len(self._goals)), key=lambda index: _ORDER.get(self._goals[index][0], 1)
        )
        for _ in range(1 if self._failure_mode else N_ATTEMPTS):
            for index in in_order:
                verb, thing, *place = self._goals[index]
                if self._env.progress()[index].met:
                    continue
                yield from self._put(thing, place[0]) if place else self._move_joint(verb, thing)
        yield from self._stay()

    def _put(self, thing: str, place: str) -> Motion:
        """Pick and place."""
        if self._is_drawer(place) and not self._robosuite._eval_predicate(["open", place]):
            yield from self._move_joint("open", place)
        body = int(self._robosuite.obj_body_id[thing])
        is_thing = self._geoms_of(body)
        yield from self._pick(body, is_thing)
        if self._gripper == OPEN and self._failure_mode != "never_close":
            return
        spot = self._spot(place, is_thing)
        if self._failure_mode == "open_half_way":
            # Nearer to the lift than to the goal: a fall far from it.
            spot = 0.65 * self._env.data.xpos[body, :2] + 0.35 * spot
        yield from self._carry(body, is_thing, spot)
        if self._failure_mode == "open_half_way":
            yield from self._use_gripper(OPEN)
            yield from self._stay()
        if self._failure_mode == "stop_over_goal":
            yield from self._keep_over(body, spot)
        yield from self._lower(body, is_thing, spot)
        yield from self._use_gripper(OPEN)
        yield from self._go(self._hand()[0] + RETREAT_M * UP, 0.02)

    def _pick(self, body: int, is_thing: GeomMask) -> Motion:
        """Grasp and lift; the gripper is left open where it did not work."""
        data = self._env.data
        for _ in range(N_ATTEMPTS):
            grasp = self._find_grasp(is_thing, data.xipos[body])
            if grasp is None:
                return
            yield from self._take(grasp)
            height = data.xpos[body, 2]
            yield from self._go(grasp.pos_world + LIFT_M * UP, 0.02)
            if data.xpos[body, 2] - height > LIFT_M / 2 or self._failure_mode == "never_close":
                return
            yield from self._use_gripper(OPEN)

    def _take(self, grasp: Grasp) -> Motion:
        self._rotation, self._gripper = pointing_down(grasp.yaw_rad), OPEN
        yield from self._travel(grasp.pos_world + HOVER_M * UP, TIP_W_M)
        yield from self._go(grasp.pos_world, 0.004)
        yield from self._use_gripper(OPEN if self._failure_mode == "never_close" else CLOSED)

    def _carry(self, body: int, is_thing: GeomMask, spot: Float64[np.ndarray, "2"]) -> Motion:
        """To above the spot, over what is in between."""
        hand = self._hand()[0]
        over = self._above(spot, body, hand[2])
        yield from self._cross(
            over, hand[2] - self._bounds(is_thing)[0][2], self._is_robot | is_thing
        )

    def _lower(self, body: int, is_thing: GeomMask, spot: Float64[np.ndarray, "2"]) -> Motion:
        """Straight down until it touches something, or the hand does."""
        lowest, since = np.inf, 0
        while since < 5 and not self._rests(is_thing):
            hand = self._hand()[0]
            lowest, since = (hand[2], 0) if hand[2] < lowest - 0.001 else (lowest, since + 1)
            self._target = self._above(spot, body, hand[2] - LOWER_M)
            yield

    def _keep_over(self, body: int, spot: Float64[np.ndarray, "2"]) -> Motion:
        z = self._hand()[0][2]
        while True:
            self._target = self._above(spot, body, z)
            yield

    def _move_joint(self, verb: str, thing: str) -> Motion:
        """Take hold of the part, then keep ahead of it on its joint's way until the goal is passed.

        That far: a tenth of the range that counts as open, closed, on or off.
        """
        model, data = self._env.model, self._env.data
        joint = model.joint(self._robosuite.get_object(thing).joints[0])
        part, qpos = int(model.jnt_bodyid[joint.id]), int(joint.qposadr[0])
        near, far = sorted(self._range(verb, thing), key=lambda q: abs(q - data.qpos[qpos]))
        start, end = float(data.qpos[qpos]), near + 0.1 * (far - near)
        if self._failure_mode == "stop_half_way":
            end = 0.5 * (start + near)
        yield from self._take_part(thing, part, joint.id)
        if self._gripper == OPEN:
            return  # there was nothing to take hold of
        rotation = data.xmat[part].reshape(3, 3).T
        grip, turn = rotation @ (self._hand()[0] - data.xpos[part]), rotation @ self._rotation
        best, since = np.inf, 0
        while since < 15 and (left := abs(end - start) - abs(data.qpos[qpos] - start)) > 0:
            best, since = (left, 0) if left < best - 1e-3 else (best, since + 1)
            rotation = data.xmat[part].reshape(3, 3)
            lead = LEAD_M if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE else LEAD_RAD
            if self._failure_mode == "stop_half_way":
                lead = min(lead, left)  # or the part follows the hand further, into its goal
            way = lead * np.sign(end - start) * data.xaxis[joint.id]
            here = data.xpos[part] + rotation @ grip
            self._target, self._rotation = _ahead(
                here, rotation @ turn, way, data.xanchor[joint.id], int(joint.type[0])
            )
            yield
        if self._failure_mode == "stop_half_way":
            yield from self._stay()
        yield from self._use_gripper(OPEN)
        yield from self._go(self._hand()[0] - RETREAT_M * self._rotation[:, 2], 0.02)

    def _take_part(self, thing: str, part: int, joint: int) -> Motion:
        """A knob from above; a drawer by the handle, which is what stands out furthest in front."""
        model, data = self._env.model, self._env.data
        if not self._is_drawer(thing):
            grasp = self._find_grasp(model.geom_bodyid == part, data.xanchor[joint])
            if grasp is not None:
                yield from self._take(grasp)
            return
        opening = np.mean(self._range("open", thing)) - np.mean(self._range("close", thing))
        outwards = np.sign(opening) * data.xaxis[joint]
        geoms = np.flatnonzero((model.geom_bodyid == part) & collision_geoms(model))
        handle = data.geom_xpos[geoms[np.argmax(data.geom_xpos[geoms] @ outwards)]].copy()
        self._rotation = reaching_for_handle(outwards, self._hand()[1])
        self._gripper = OPEN
        yield from self._travel(handle - RETREAT_M * self._rotation[:, 2], PALM_U_M)
        yield from self._go(handle, 0.005)
        yield from self._use_gripper(CLOSED)

    def _travel(self, target: Position, hang_m: float) -> Motion:
        """Up, across and down."""
        yield from self._cross(target, hang_m, self._is_robot)
        yield from self._go(target, 0.01)

    def _cross(self, target: Position, hang_m: float, ignored: GeomMask) -> Motion:
        """To the target or above it, over everything within the palm's reach of the way.

        Args:
            hang_m: how far hand and load reach below the grip site.
        """
        start = self._hand()[0]
        low, high = (
            np.minimum(start, target)[:2] - PALM_U_M,
            np.maximum(start, target)[:2] + PALM_U_M,
        )
        # LIBERO lets some things fall from high above as an episode begins: those are not flown
        # over.
        model, data = self._env.model, self._env.data
        is_overhead = data.geom_xpos[:, 2] - model.geom_rbound > max(start[2], target[2])
        heights = HeightMap(
            self._env.model, self._env.data, low, high, COARSE_CELL_M, ignored | is_overhead
        )
        way, offset = target[:2] - start[:2], heights.xy - start[:2]
        along = np.clip(offset @ way / max(way @ way, 1e-9), 0.0, 1.0)
        near = np.linalg.norm(offset - along[..., None] * way, axis=-1) < PALM_U_M
        z = max(target[2], heights.height_m[near].max() + hang_m + OVER_OBSTACLES_M)
        yield from self._go(np.array([*start[:2], max(z, start[2])]), 0.02, turning=False)
        yield from self._go(np.array([*target[:2], z]), 0.01)

    def _go(self, target: Position, tolerance_m: float, turning: bool = True) -> Motion:
        """Until it is there, or no longer comes nearer."""
        self._target = target
        nearest, since = np.inf, 0
        while since < 8:
            left_m = float(np.linalg.norm(target - self._hand()[0]))
            left_rad = float(np.linalg.norm(self._turn_left())) if turning else 0.0
            if left_m < tolerance_m and left_rad < 0.05:
                return
            left = left_m + 0.05 * left_rad
            nearest, since = (left, 0) if left < nearest - 0.001 else (nearest, since + 1)
            yield

    def _use_gripper(self, command: float) -> Motion:
        self._gripper = command
        self._target = self._hand()[0]
        for _ in range(N_GRIPPER_STEPS):
            yield

    def _stay(self) -> Motion:
        self._target = self._hand()[0]
        while True:
            yield

    # What the script reads.

    def _hand(self) -> tuple[Position, Matrix]:
        """Grip site: position [m, world] and rotation, whose columns are the hand's u, v and w."""
        return self._env.ee_pos_world(), self._env.data.site_xmat[self._env._ee_site].reshape(
            3, 3
        ).copy()

    def _turn_left(self) -> Position:
        """Rotation vector from the hand to `_rotation`, rad."""
        return Rotation.from_matrix(self._rotation @ self._hand()[1].T).as_rotvec()

    def _above(self, spot: Float64[np.ndarray, "2"], body: int, z: float) -> Position:
        """Where the hand is when the body that it holds is above the spot."""
        return np.append(spot + self._hand()[0][:2] - self._env.data.xpos[body, :2], z)

    def _find_grasp(self, is_thing: GeomMask, middle: Position) -> Grasp | None:
        middle_xy, reach_m = middle[:2].copy(), 0.12 + PALM_U_M
        heights = HeightMap(
            self._env.model,
            self._env.data,
            middle_xy - reach_m,
            middle_xy + reach_m,
            CELL_M,
            self._is_robot,
        )
        return find_grasp(
            heights, is_thing, middle_xy, self._env.data.xpos[self._base, :2], np.pi / 2
        )

    def _spot(self, place: str, is_thing: GeomMask) -> Float64[np.ndarray, "2"]:
        """Where the object's origin should come down, world: on an object its middle, in a region the lowest place."""
        data, model = self._env.data, self._env.model
        if place not in self._robosuite.object_sites_dict:
            spots: np.ndarray = data.xpos[None, int(self._robosuite.obj_body_id[place]), :2]
        else:
            site = model.site(place).id
            half = np.abs(
                data.site_xmat[site].reshape(3, 3) @ self._robosuite.object_sites_dict[place].size
            )[:2]
            spots = data.site_xpos[site, :2] + half * grid_points((-0.8, 0.8), 0.8, 9, 9)
        middle = spots.mean(axis=0)
        if self._failure_mode == "release_beside":
            angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
            spots = middle + BESIDE_M * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        low, high = self._bounds(is_thing)
        footprint = (high - low)[:2].max() / 2 * grid_points((-1.0, 1.0), 1.0, 7, 7)
        heights = HeightMap(
            self._env.model,
            self._env.data,
            middle - 0.3,
            middle + 0.3,
            COARSE_CELL_M,
            self._is_robot | is_thing,
        )
        under = heights.at(spots[:, None] + footprint)[0].max(axis=1)
        # A centimetre higher is as bad as as much further from the middle.
        return spots[np.argmin(under + np.linalg.norm(spots - middle, axis=1))]

    def _rests(self, is_thing: GeomMask) -> bool:
        """Whether it touches anything but the robot."""
        pairs = self._env.data.contact.geom
        other = np.concatenate([pairs[is_thing[pairs[:, 0]], 1], pairs[is_thing[pairs[:, 1]], 0]])
        return bool((~self._is_robot[other] & ~is_thing[other]).any())

    def _bounds(self, is_thing: GeomMask) -> tuple[Position, Position]:
        """Lowest and highest corner of the box around it, world."""
        model, data = self._env.model, self._env.data
        geoms = is_thing & collision_geoms(model)
        rotation, aabb = data.geom_xmat[geoms].reshape(-1, 3, 3), model.geom_aabb[geoms]
        middle = data.geom_xpos[geoms] + (rotation @ aabb[:, :3, None])[..., 0]
        half = (np.abs(rotation) @ aabb[:, 3:, None])[..., 0]
        return (middle - half).min(axis=0), (middle + half).max(axis=0)

    def _geoms_of(self, body: int) -> GeomMask:
        model = self._env.model
        return model.body_rootid[model.geom_bodyid] == model.body_rootid[body]

    def _is_drawer(self, thing: str) -> bool:
        """Whether it is a part that slides."""
        sites, model = self._robosuite.object_sites_dict, self._env.model
        joints = (
            [model.joint(joint) for joint in (sites[thing].joints or [])] if thing in sites else []
        )
        return any(joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE for joint in joints)

    def _range(self, verb: str, thing: str) -> list[float]:
        """Joint positions that LIBERO's asset calls so [rad or m]."""
        owner = self._robosuite.get_object(thing)
        fixture = self._robosuite.get_object(owner.parent_name) if self._is_drawer(thing) else owner
        return list(fixture.object_properties["articulation"][f"default_{verb}_ranges"])


def reaching_for_handle(outwards: Position, hand: Matrix) -> Matrix:
    """Columns u, v, w of a hand that reaches against `outwards` and opens up and down; of two, the one nearer by."""
    w = -np.cos(HANDLE_TILT_RAD) * outwards - np.sin(HANDLE_TILT_RAD) * UP
    u = (UP - (UP @ w) * w) / np.linalg.norm(UP - (UP @ w) * w)
    either = [np.stack([u * sign, np.cross(w, u * sign), w], axis=1) for sign in (-1, 1)]
    return max(either, key=lambda rotation: float(np.trace(rotation @ hand.T)))


def _ahead(
    pos: Position, rotation: Matrix, way: Position, anchor: Position, joint_type: int
) -> tuple[Position, Matrix]:
    """A pose carried along by a joint.

    Args:
        way: along the joint's axis, m or rad.
    """
    if joint_type == mujoco.mjtJoint.mjJNT_SLIDE:
        return pos + way, rotation
    turn = Rotation.from_rotvec(way).as_matrix()
    return anchor + turn @ (pos - anchor), turn @ rotation
