"""A scripted expert for pick and place: waypoints, minimum-jerk paths, inverse kinematics."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sim.arrays import Action
from sim.errors import UnknownNameError
from sim.so101.kinematics import TopDownKinematics
from sim.so101.pick_place import PickPlace

FAILURE_MODES = (
    "never_close",
    "open_half_way",
    "release_beside",
    "stop_over_bowl",
    "wrong_block",
    "wrong_receptacle",
)

OPEN_RAD = 0.75
CLOSED_RAD = -0.17
# Half of the gap at which the tool centre point is in the middle between the jaws.
TCP_TO_STATIC_JAW_M = 0.0125
# Gap between block and static jaw during the descent, so that neither jaw lands on the block.
APPROACH_GAP_M = 0.013
# A grasp is not lower than this, so that the fingertips, 9.5 mm below it, clear the table.
LOWEST_GRASP_M = 0.0115
HOVER_M = 0.060
CARRY_M = 0.085
# Height of the tool centre point at the release, 25 mm above the rim.
RELEASE_M = {"bowl": 0.060, "plate": 0.035}
SPEED_M_S = 0.20
# Orientation weights.
PRECISE = 0.1
LOOSE = 0.02


def check_failure_mode(failure_mode: str | None, env: PickPlace) -> None:
    """Raise unless the expert of this environment can have the failure mode.

    Raises:
        UnknownNameError: it cannot; the message has the closest names.
    """
    possible = set(FAILURE_MODES)
    if len(env.blocks) == 1:
        possible.remove("wrong_block")
    if len(env.receptacles) == 1:
        possible.remove("wrong_receptacle")
    if failure_mode is not None and failure_mode not in possible:
        raise UnknownNameError("failure mode of the expert", failure_mode, possible)


@dataclass(frozen=True)
class Waypoint:
    """The end of a straight minimum-jerk segment of the tool centre point.

    Attributes:
        pos_world: m.
        yaw_rad: direction in which the jaws open.
        gripper_rad: commanded angle of the moving jaw, interpolated linearly.
        duration_s: of the segment that ends here.
        orientation_weight: weight of pointing down, relative to the position
            (`TopDownKinematics`).
    """

    pos_world: Float[np.ndarray, "3"]
    yaw_rad: float
    gripper_rad: float
    duration_s: float
    orientation_weight: float


class PickPlaceExpert:
    """Reads the true block pose once, at its first action, and follows a plan made from it.

    After the end of the plan it holds the last target. A `failure_mode` spoils one step, which
    gives a known failure of each kind.
    """

    def __init__(
        self,
        env: PickPlace,
        failure_mode: str | None = None,
    ) -> None:
        self._env = env
        self._failure_mode = failure_mode
        self._kinematics = TopDownKinematics(env.model)
        self.reset()

    def reset(self) -> None:
        self._plan: list[Waypoint] | None = None
        self._time_s = 0.0

    def action(self) -> Action:
        """Return the action that sends the next joint target to the servos."""
        if self._plan is None:
            self._plan = self._make_plan()
            self._q_rad = self._measured_rad()[:5]
        self._time_s += self._env.spec.control_dt_s
        target = self._target_at(self._time_s)
        self._q_rad = self._kinematics.solve(
            self._q_rad,
            target.pos_world,
            target.yaw_rad,
            target.orientation_weight,
        )
        return self._env.action_for(np.append(self._q_rad, target.gripper_rad))

    def _measured_rad(self) -> Float[np.ndarray, "6"]:
        return self._env.units.to_rad(self._env.joint_state().astype(np.float64))

    @property
    def _block(self) -> str:
        return self._env.blocks[self._failure_mode == "wrong_block"]

    @property
    def _receptacle(self) -> str:
        return self._env.receptacles[self._failure_mode == "wrong_receptacle"]

    @property
    def is_precise(self) -> bool:
        """Return whether a millimetre matters now, which is around the grasp."""
        return self._target_at(self._time_s).orientation_weight == PRECISE

    def pose_above_block(self, offset_m: Float[np.ndarray, "3"]) -> Float[np.ndarray, "6"]:
        """Return joint angles [rad] with open jaws at an offset from the block, to start from."""
        block = self._env.data.body(self._block).xpos.copy()
        home = np.array(self._env.config.home_rad)
        yaw, _ = self._grasp_yaw(block)
        return np.append(
            self._kinematics.solve(
                home[:5],
                block + offset_m,
                yaw,
                LOOSE,
                n_iterations=60,
            ),
            OPEN_RAD,
        )

    def _target_at(self, time_s: float) -> Waypoint:
        """Return the interpolated target at a time of the plan."""
        start = self._start
        for waypoint in self._plan or []:
            if time_s <= waypoint.duration_s:
                t = time_s / waypoint.duration_s
                s = t**3 * (10 - 15 * t + 6 * t**2)
                return replace(
                    waypoint,
                    pos_world=(1 - s) * start.pos_world + s * waypoint.pos_world,
                    yaw_rad=(1 - s) * start.yaw_rad + s * waypoint.yaw_rad,
                    gripper_rad=(1 - t) * start.gripper_rad + t * waypoint.gripper_rad,
                )
            time_s -= waypoint.duration_s
            start = waypoint
        return start

    def _make_plan(self) -> list[Waypoint]:
        data = self._env.data
        block = data.body(self._block).xpos.copy()
        goal = data.body(self._receptacle).xpos.copy()
        if self._failure_mode == "release_beside":
            goal += [0.0, -0.10, 0.0]
        yaw_now = _yaw_of(data.site("tcp"))
        self._start = Waypoint(
            self._env.ee_pos_world(), yaw_now, float(self._measured_rad()[5]), 0.0, LOOSE
        )

        yaw, width = self._grasp_yaw(block)
        yaw = yaw_now + (yaw - yaw_now + np.pi) % (2 * np.pi) - np.pi
        opening = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        block_at_grasp = np.append(block[:2], max(block[2], LOWEST_GRASP_M))
        grasp = block_at_grasp - (width / 2 - TCP_TO_STATIC_JAW_M) * opening
        approach = grasp - APPROACH_GAP_M * opening
        hover = approach + np.array([0.0, 0.0, HOVER_M])
        lift = np.append(grasp[:2], CARRY_M)
        turn = float(np.arctan2(goal[1], goal[0]) - np.arctan2(block[1], block[0]))
        closed = OPEN_RAD if self._failure_mode == "never_close" else CLOSED_RAD
        return [
            Waypoint(
                hover,
                yaw,
                OPEN_RAD,
                _duration_s(self._start.pos_world, hover),
                LOOSE,
            ),
            Waypoint(
                approach,
                yaw,
                OPEN_RAD,
                0.7,
                PRECISE,
            ),
            Waypoint(
                grasp,
                yaw,
                closed,
                0.4,
                PRECISE,
            ),
            Waypoint(
                grasp,
                yaw,
                closed,
                0.2,
                PRECISE,
            ),
            Waypoint(
                lift,
                yaw,
                closed,
                0.6,
                LOOSE,
            ),
            *self._plan_transport(lift, goal, yaw + 0.5 * turn, closed),
        ]

    def _plan_transport(
        self,
        lift: np.ndarray,
        goal: np.ndarray,
        yaw: float,
        closed: float,
    ) -> list[Waypoint]:
        """Return the waypoints from the lifted block to the release."""
        over = np.append(goal[:2], CARRY_M)
        if self._failure_mode == "open_half_way":
            # This point is nearer to the lift than to the bowl, so that the block falls far from
            # the goal.
            half_way = lift + 0.35 * (over - lift)
            return [
                Waypoint(
                    half_way,
                    yaw,
                    closed,
                    _duration_s(lift, half_way),
                    LOOSE,
                ),
                Waypoint(
                    half_way,
                    yaw,
                    OPEN_RAD,
                    0.3,
                    LOOSE,
                ),
            ]
        carry = Waypoint(
            over,
            yaw,
            closed,
            _duration_s(lift, over),
            LOOSE,
        )
        if self._failure_mode == "stop_over_bowl":
            return [carry]
        release = np.append(over[:2], RELEASE_M[self._receptacle])
        return [
            carry,
            Waypoint(
                release,
                yaw,
                closed,
                0.3,
                LOOSE,
            ),
            Waypoint(
                release,
                yaw,
                OPEN_RAD,
                0.35,
                LOOSE,
            ),
            Waypoint(
                over,
                yaw,
                OPEN_RAD,
                0.4,
                LOOSE,
            ),
        ]

    def _grasp_yaw(self, block: Float[np.ndarray, "3"]) -> tuple[float, float]:
        """Return the direction in which the jaws open, and the width on which they close."""
        block_yaw = _yaw_of(self._env.data.body(self._block))
        shoulder = self._env.data.joint("shoulder_pan").xanchor
        azimuth = float(np.arctan2(block[1] - shoulder[1], block[0] - shoulder[0]))
        length, width, _ = self._env.config.block_size_m
        if np.isclose(length, width):
            # A cube looks the same after 90°, and a command that jumped there could not be learned.
            # The sine is continuous. Near ±45° the closing jaws turn the cube.
            return azimuth + 0.36 * np.sin(4 * (block_yaw - azimuth)), width
        return azimuth + ((block_yaw + np.pi / 2) - azimuth + np.pi / 2) % np.pi - np.pi / 2, width


def _yaw_of(placed) -> float:
    """Return the turn [rad] of a site's or a body's x axis about the world's z."""
    rotation = placed.xmat.reshape(3, 3)
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _duration_s(start: np.ndarray, end: np.ndarray) -> float:
    """Return the time of a segment at the mean speed `SPEED_M_S`, at least 0.5 s."""
    return max(0.5, float(np.linalg.norm(end - start)) / SPEED_M_S)
