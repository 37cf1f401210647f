"""The parameters of the pick-and-place scenes and their presets: pure data, without MuJoCo."""

from dataclasses import dataclass, replace
from math import pi
from typing import Literal

# Position of the robot's base in the world, in every scene that is built from a `SceneConfig`.
BASE_XY_M = (0.0, 0.0)
# A camera for people. No policy uses it.
VIEWER_CAMERA = "viewer_cam"


@dataclass(frozen=True)
class SceneConfig:
    """Defines the scene except the robot. Equal configs give equal images and states.

    The grip is physical. Friction alone holds a block of 12 g: coefficient 1.2 (rubber pads),
    torsional 0.02 m. `condim=4` is needed because a pinch grip must resist twisting about the line
    between the jaws. With the elliptic cone and `impratio=10`, slip in a grasp is 2.6 mm on
    average, with the pyramidal cone 9.4 mm. Contacts are stiff, so that the jaws do not sink into
    the block (`contact_solref`: 8 ms, critically damped, two and a half physics steps; below two
    steps it would be unstable). Jaw force is limited to 1.5 N·m, about half of the servo's stall
    torque. The arm's other links do not collide; only gripper and jaw have colliders (five boxes).

    Attributes:
        name: determines the initial states, together with the episode index.
        block_size_m: full edge lengths.
        block_x_m, block_y_m, block_yaw_rad: range of the initial pose.
        bowl_shape: a round bowl with a flaring wall, or a square tray with upright walls.
        bowl_pos_m: middle of its floor on the table.
        bowl_inner_m: rim radius, or half the inner edge.
        overhead_pos_m: the overhead camera, which looks straight down with +x up in the image.
        supersampling: images are rendered this many times larger, then averaged.
        mesh_cell_m: grid on which visual meshes are clustered; 0 keeps the original meshes.
        shadows: of the lamp, in every image.
        msaa_samples: multisampling of the renderer.
    """

    name: str = "pick_place"
    instruction: str = "Pick up the red block and place it in the bowl."
    block_size_m: tuple[float, float, float] = (0.025, 0.025, 0.025)
    block_mass_kg: float = 0.012
    block_x_m: tuple[float, float] = (0.16, 0.28)
    block_y_m: tuple[float, float] = (-0.12, -0.04)
    block_yaw_rad: tuple[float, float] = (-pi / 4, pi / 4)
    bowl_shape: Literal["round", "square"] = "round"
    bowl_pos_m: tuple[float, float] = (0.20, 0.15)
    bowl_inner_m: float = 0.055
    bowl_height_m: float = 0.035
    friction: tuple[float, float, float] = (1.2, 0.02, 0.0005)
    contact_solref: tuple[float, float] = (0.008, 1.0)
    contact_solimp: tuple[float, float, float, float, float] = (0.95, 0.99, 0.001, 0.5, 2.0)
    impratio: float = 10.0
    gripper_max_torque_nm: float = 1.5
    overhead_pos_m: tuple[float, float, float] = (0.20, 0.01, 0.62)
    overhead_fovy_deg: float = 42.0
    wrist_fovy_deg: float = 75.0
    image_height_px: int = 64
    image_width_px: int = 64
    depth_range_m: tuple[float, float] = (0.0, 1.0)
    supersampling: int = 2
    mesh_cell_m: float = 0.003
    shadows: bool = False
    msaa_samples: int = 0
    physics_dt_s: float = 1 / 300
    control_dt_s: float = 1 / 30
    max_steps: int = 300
    home_rad: tuple[float, ...] = (0.0, -0.80, 0.45, 1.55, 0.0, 0.3)


DEFAULT_SCENE = SceneConfig()

# Close to the scene of a published SO-101 pick-and-place data set: a toy brick, a square bowl of
# 12 cm, an overhead camera of 52° at 0.6 m, a wrist camera of 71°, 640 x 480 images.
BRICK_SCENE = replace(
    DEFAULT_SCENE,
    name="pick_place_brick",
    instruction="Pick up the brick and place it in the bowl.",
    block_size_m=(0.064, 0.032, 0.019),
    block_mass_kg=0.020,
    bowl_shape="square",
    bowl_inner_m=0.06,
    overhead_pos_m=(0.20, 0.01, 0.60),
    overhead_fovy_deg=52.0,
    wrist_fovy_deg=71.0,
    image_height_px=480,
    image_width_px=640,
)


@dataclass(frozen=True)
class TwoBlockScene(SceneConfig):
    """A scene with one block on each side, and with one or two receptacles.

    Each episode draws the sides of the blocks and of the receptacles. `block_y_m` and
    `receptacle_y_m` are distances to the side.

    Attributes:
        instruction: pattern of all the episodes' instructions.
        blocks: bodies of the blocks.
        receptacles: bodies of the receptacles: "bowl", or "bowl" and "plate".
        receptacle_x_m, receptacle_y_m: range of the middle of their floors.
        plate_inner_m: radius of the plate's flat part.
        plate_height_m: of its rim.
    """

    blocks: tuple[str, str] = ("red_block", "blue_block")
    receptacles: tuple[str, ...] = ("bowl", "plate")
    receptacle_x_m: tuple[float, float] = (0.13, 0.17)
    receptacle_y_m: tuple[float, float] = (0.145, 0.16)
    plate_inner_m: float = 0.05
    plate_height_m: float = 0.010


# The instruction of each episode names one of the blocks and one of the receptacles.
WORDS_SCENE = TwoBlockScene(
    name="pick_place_words",
    instruction="Pick up the {red|blue} block and place it {in the bowl|on the plate}.",
    block_x_m=(0.17, 0.26),
    block_y_m=(0.036, 0.06),
    bowl_inner_m=0.05,
)

# Either block counts, and the bowl is in the middle, below the gripper. The scene therefore has two
# equally good futures.
EITHER_SCENE = TwoBlockScene(
    name="pick_place_either",
    instruction="Pick up a red block and place it in the bowl.",
    blocks=("red_block_1", "red_block_2"),
    receptacles=("bowl",),
    block_x_m=(0.18, 0.25),
    block_y_m=(0.09, 0.12),
    receptacle_x_m=(0.19, 0.22),
    receptacle_y_m=(-0.01, 0.01),
    bowl_inner_m=0.05,
)
