"""A scripted expert for pick and place: waypoints, minimum-jerk paths, inverse kinematics."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from jaxtyping import Float

from sim.errors import UnknownNameError
from sim.so101.kinematics import TopDownKinematics
from sim.so101.pick_place import PickPlace

FailureMode = Literal[
    "never_close",
    "open_half_way",
    "release_beside",
    "stop_over_bowl",
    "wrong_block",
    "wrong_receptacle",
]

OPEN_RAD = 0.75
CLOSED_RAD = -0.17
# Half of the gap at which the tool centre point is in the middle between the jaws.
TCP_TO_STATIC_JAW_M = 0.0125
# While descending the block lies this far off the static jaw, so that neither jaw comes down on it.
APPROACH_GAP_M = 0.013
HOVER_M = 0.060
CARRY_M = 0.085
# Height of the tool centre point at which it lets go: 25 mm above the rim.
RELEASE_M = {"bowl": 0.060, "plate": 0.035}
PRECISE = 0.1
LOOSE = 0.02


def check_failure_mode(failure_mode: str | None, env: PickPlace) -> FailureMode | None:
    """Return the same, known to be a failure mode that the expert of this environment can have.

    Raises:
        UnknownNameError: with the closest names.
    """
    impossible = {
        "wrong_block": len(env.blocks) == 1,
        "wrong_receptacle": len(env.receptacles) == 1,
    }
    possible = [name for name in get_args(FailureMode) if not impossible.get(name, False)]
    if failure_mode is not None and failure_mode not in possible:
        raise UnknownNameError("failure mode of the expert", failure_mode, possible)
    return cast(FailureMode | None, failure_mode)


@dataclass(frozen=True)
class Waypoint:
    """Where the tool centre point is at the end of a straight minimum-jerk segment.

    Attributes:
        pos_world: m.
        yaw_rad: direction in which the jaws open.
        gripper_rad: commanded angle of the moving jaw, approached linearly.
        duration_s: of the segment that ends here.
        orientation_weight: how much pointing down matters against the position
            (`TopDownKinematics`).
    """

    pos_world: Float[np.ndarray, "3"]
    yaw_rad: float
    gripper_rad: float
    duration_s: float
    orientation_weight: float


class PickPlaceExpert:
    """Reads the true block pose once, at its first action, and follows the plan made from it.

    Times out of the plan are answered with its last target. A `failure_mode` spoils one thing, which gives
    a known failure of each kind.
    """

    def __init__(
        self,
        env: PickPlace,
        failure_mode: FailureMode | None = None,
    ) -> None:
        self._env = env
        self._failure_mode = failure_mode
        self._kinematics = TopDownKinematics(env.model)
        self.reset()

    def reset(self) -> None:
        self._plan: list[Waypoint] | None = None
        self._time_s = 0.0

    def action(self) -> Float[np.ndarray, " action_dim"]:
        """What sends the next joint target to the servos, in the environment's own actions."""
        if self._plan is None:
            self._plan = self._make_plan()
            self._q_rad = self._env.units.to_rad(self._env.joint_state().astype(np.float64))[:5]
        self._time_s += self._env.spec.control_dt_s
        pos, yaw, gripper, weight = self._target_at(self._time_s)
        self._q_rad = self._kinematics.solve(self._q_rad, pos, yaw, weight)
        return self._env.action_for(np.append(self._q_rad, gripper))

    @property
    def _block(self) -> str:
        blocks = self._env.blocks
        return blocks[1] if self._failure_mode == "wrong_block" else blocks[0]

    @property
    def _receptacle(self) -> str:
        receptacles = self._env.receptacles
        return receptacles[1] if self._failure_mode == "wrong_receptacle" else receptacles[0]

    @property
    def is_precise(self) -> bool:
        """Whether a millimetre matters now: around the grasp."""
        return self._target_at(self._time_s)[3] == PRECISE

    def pose_above_block(self, offset_m: Float[np.ndarray, "3"]) -> Float[np.ndarray, "6"]:
        """Joint angles with open jaws at an offset from the block, rad; another place to start from."""
        env = self._env
        block = env.data.body(self._block).xpos.copy()
        home = np.array(env.config.home_rad)
        yaw, _ = self._grasp_yaw(block)
        arm = self._kinematics.solve(
            home[:5],
            block + offset_m,
            yaw,
            LOOSE,
            n_iterations=60,
        )
        return np.append(arm, OPEN_RAD)

    def _target_at(self, time_s: float) -> tuple[np.ndarray, float, float, float]:
        start = self._start
        for waypoint in self._plan or []:
            if time_s <= waypoint.duration_s:
                t = time_s / waypoint.duration_s
                s = t**3 * (10 - 15 * t + 6 * t**2)
                pos = (1 - s) * start.pos_world + s * waypoint.pos_world
                yaw = (1 - s) * start.yaw_rad + s * waypoint.yaw_rad
                gripper = (1 - t) * start.gripper_rad + t * waypoint.gripper_rad
                return pos, yaw, gripper, waypoint.orientation_weight
            time_s -= waypoint.duration_s
            start = waypoint
        return start.pos_world, start.yaw_rad, start.gripper_rad, start.orientation_weight

    def _make_plan(self) -> list[Waypoint]:
        env = self._env
        block = env.data.body(self._block).xpos.copy()
        bowl = env.data.body(self._receptacle).xpos.copy()
        tcp_rotation = env.data.site("tcp").xmat.reshape(3, 3)
        yaw_now = float(np.arctan2(tcp_rotation[1, 0], tcp_rotation[0, 0]))
        gripper_now = float(env.units.to_rad(env.joint_state().astype(np.float64))[5])
        self._start = Waypoint(env.ee_pos_world(), yaw_now, gripper_now, 0.0, LOOSE)

        yaw, width = self._grasp_yaw(block)
        yaw = yaw_now + (yaw - yaw_now + np.pi) % (2 * np.pi) - np.pi
        opening = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        grasp = (
            np.array([block[0], block[1], max(block[2], 0.0115)])
            - (width / 2 - TCP_TO_STATIC_JAW_M) * opening
        )
        approach = grasp - APPROACH_GAP_M * opening
        closed = OPEN_RAD if self._failure_mode == "never_close" else CLOSED_RAD
        goal = (
            bowl + np.array([0.0, -0.10, 0.0]) if self._failure_mode == "release_beside" else bowl
        )
        over = np.array([goal[0], goal[1], CARRY_M])
        carry_yaw = yaw + 0.5 * float(np.arctan2(goal[1], goal[0]) - np.arctan2(block[1], block[0]))

        hover = approach + np.array([0.0, 0.0, HOVER_M])
        lift = np.array([grasp[0], grasp[1], CARRY_M])
        plan = [
            Waypoint(
                hover,
                yaw,
                OPEN_RAD,
                self._duration(self._start.pos_world, hover),
                LOOSE,
            ),
            Waypoint(approach, yaw, OPEN_RAD, 0.7, PRECISE),
            Waypoint(grasp, yaw, closed, 0.4, PRECISE),
            Waypoint(grasp, yaw, closed, 0.2, PRECISE),
            Waypoint(lift, yaw, closed, 0.6, LOOSE),
        ]
        if self._failure_mode == "open_half_way":
            # Nearer to the lift than to the bowl: a fall far from the goal.
            half_way = lift + 0.35 * (over - lift)
            plan.append(
                Waypoint(
                    half_way,
                    carry_yaw,
                    closed,
                    self._duration(lift, half_way),
                    LOOSE,
                )
            )
            plan.append(Waypoint(half_way, carry_yaw, OPEN_RAD, 0.3, LOOSE))
            return plan
        plan.append(
            Waypoint(
                over,
                carry_yaw,
                closed,
                self._duration(lift, over),
                LOOSE,
            )
        )
        if self._failure_mode == "stop_over_bowl":
            return plan
        release = np.array([over[0], over[1], RELEASE_M[self._receptacle]])
        return [
            *plan,
            Waypoint(release, carry_yaw, closed, 0.3, LOOSE),
            Waypoint(release, carry_yaw, OPEN_RAD, 0.35, LOOSE),
            Waypoint(over, carry_yaw, OPEN_RAD, 0.4, LOOSE),
        ]

    def _grasp_yaw(self, block: Float[np.ndarray, "3"]) -> tuple[float, float]:
        """Direction in which the jaws should open, and the width that they will close on."""
        rotation = self._env.data.body(self._block).xmat.reshape(3, 3)
        block_yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        shoulder = self._env.data.joint("shoulder_pan").xanchor
        azimuth = float(np.arctan2(block[1] - shoulder[1], block[0] - shoulder[0]))
        length, width, _ = self._env.config.block_size_m
        if np.isclose(length, width):
            # A cube looks the same after 90°: a command that jumped there could not be learned. The
            # sine is continuous, and near ±45° the closing jaws turn the cube.
            return azimuth + 0.36 * np.sin(4 * (block_yaw - azimuth)), width
        across = block_yaw + np.pi / 2
        return azimuth + (across - azimuth + np.pi / 2) % np.pi - np.pi / 2, width

    @staticmethod
    def _duration(
        start: np.ndarray,
        end: np.ndarray,
        speed_m_s: float = 0.20,
    ) -> float:
        """Segment time at a mean speed, at least 0.5 s."""
        return max(0.5, float(np.linalg.norm(end - start)) / speed_m_s)
