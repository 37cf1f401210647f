"""Makes ManiSkill's Bridge scenes do what the published SimplerEnv does.

ManiSkill 3 differs in how objects come to rest, in the initial states of the eggplant, and in how
it reads rotations. The numbers here are those of ManiSkill2_real2sim, which SimplerEnv runs.
"""

from typing import Any

import numpy as np
import sapien
import torch
from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval import put_on_in_scene
from mani_skill.utils.structs.types import (
    DefaultMaterialsConfig,
    SceneConfig,
    SimConfig,
)
from sapien.physx import PhysxMaterial
from scipy.spatial.transform import Rotation

from sim.arrays import Action
from sim.simpler_bench.conventions import CAMERA, CONTROL_FREQ_HZ, PHYSICS_FREQ_HZ
from sim.simpler_bench.tasks import SimplerTask

# Objects are let fall from this height above the table, and come to rest in three parts.
_TABLE_M = 0.87
_FALL_M = 0.5
_UPRIGHT_S = 0.5
_FREE_S = 0.5
_LONGER_S = 1.5
_STILL_M_S = 1e-3
_STILL_RAD_S = 1e-2
_DAMPING = 0.1
# Without persistent contact manifolds, objects come to rest where they do in SimplerEnv. With
# ManiSkill's default the eggplant rolls away by 5 cm.
_CONTACTS = SceneConfig(
    contact_offset=0.005,
    enable_pcm=False,
    solver_position_iterations=25,
)
# SimplerEnv's friction of the table and of the arm. ManiSkill has 0.3.
_SURFACES = DefaultMaterialsConfig(static_friction=1.0, dynamic_friction=1.0, restitution=0.0)
# The fingers hold better, also against turning. ManiSkill's are as smooth as its table.
_FINGERS = ("left_finger_link", "right_finger_link")
_FINGER_FRICTION = 2.0
_FINGER_PATCH_M = 0.01
_EGGPLANT_YAW_RAD = (0.0, np.pi / 4, -np.pi / 4)


def make_scene(task: SimplerTask) -> Any:
    """Return ManiSkill's environment of a task, changed into the published one."""
    base = getattr(put_on_in_scene, task.class_name)
    scene = type(task.class_name, (_PublishedScene, base), {})
    return scene(
        obs_mode="rgb+segmentation", num_envs=1, render_backend="cpu", sim_backend="physx_cpu"
    )


class _PublishedScene:
    """Overrides what differs. It stands before one of ManiSkill's classes among the bases."""

    # The first reset of ManiSkill would render otherwise.
    def get_obs(self: Any, *arguments: Any, **named: Any) -> dict:
        return {}

    def render_camera(self: Any) -> np.ndarray:
        """Return the image of the camera, `(height, width, 3)` uint8."""
        return self._get_obs_sensor_data()[CAMERA]["rgb"][0].numpy().copy()

    def execute(self: Any, action: Action) -> None:
        """Hold an action for one control step."""
        # SimplerEnv reads the rotation as a rotation vector, and ManiSkill 3 as Euler angles.
        rotation = Rotation.from_rotvec(action[3:6].astype(np.float64))
        euler = np.array(action, np.float32)
        euler[3:6] = rotation.as_euler("XYZ")
        self._step_action(torch.from_numpy(euler))

    @property
    def _default_sim_config(self) -> SimConfig:
        return SimConfig(
            sim_freq=PHYSICS_FREQ_HZ,
            control_freq=CONTROL_FREQ_HZ,
            spacing=20,
            scene_config=_CONTACTS,
            default_materials_config=_SURFACES,
        )

    def _load_scene(self: Any, options: dict) -> None:
        if "eggplant" in self.obj_names:
            self.quat_configs = _make_eggplant_quaternions()
        super()._load_scene(options)  # type: ignore[misc]
        for actor in self.objs.values():
            body = actor._bodies[0]
            body.linear_damping = _DAMPING
            body.angular_damping = _DAMPING
        self._roughen_fingers()

    def _roughen_fingers(self: Any) -> None:
        rough = PhysxMaterial(_FINGER_FRICTION, _FINGER_FRICTION, 0.0)
        for name in _FINGERS:
            for shape in self.agent.robot.links_map[name]._objs[0].collision_shapes:
                shape.physical_material = rough
                shape.patch_radius = _FINGER_PATCH_M
                shape.min_patch_radius = _FINGER_PATCH_M

    def _settle(self: Any, t: float = _FREE_S) -> None:
        """Let the objects fall as SimplerEnv does, in place of ManiSkill's shorter settling.

        ManiSkill calls it after it has placed the objects, and again if they still move.
        """
        if t != _FREE_S:
            return
        robot = self.agent.robot
        robot_pose = robot.pose
        # The arm must not be in the way.
        robot.set_pose(sapien.Pose([-10, 0, 0]))
        bodies = [actor._bodies[0] for actor in self.objs.values()]
        for body in bodies:
            pose = body.entity.pose
            pose.p = [*pose.p[:2], _TABLE_M + _FALL_M]
            body.entity.pose = pose
            body.set_locked_motion_axes([False, False, False, True, True, False])
        self._simulate(_UPRIGHT_S)
        for body in bodies:
            body.set_locked_motion_axes([False] * 6)
            body.entity.pose = body.entity.pose
            body.linear_velocity = np.zeros(3)
            body.angular_velocity = np.zeros(3)
        self._simulate(_FREE_S)
        speed = sum(np.linalg.norm(body.linear_velocity) for body in bodies)
        turning = sum(np.linalg.norm(body.angular_velocity) for body in bodies)
        if speed > _STILL_M_S or turning > _STILL_RAD_S:
            self._simulate(_LONGER_S)
        robot.set_pose(robot_pose)

    def _simulate(self: Any, duration_s: float) -> None:
        for _ in range(int(PHYSICS_FREQ_HZ * duration_s)):
            self.scene.step()


def _make_eggplant_quaternions() -> torch.Tensor:
    """Return `(3, 2, 4)` quaternions wxyz of the eggplant and of its target."""
    return torch.tensor(
        [
            [[np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2)], [1, 0, 0, 0]]
            for yaw_rad in _EGGPLANT_YAW_RAD
        ]
    )
