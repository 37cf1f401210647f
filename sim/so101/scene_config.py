"""The parameters of the pick-and-place scene, and its presets: pure data, without MuJoCo."""

from dataclasses import dataclass, replace
from math import pi
from typing import Literal

# The robot's base in the world of every scene that is built from a `SceneConfig`.
BASE_XY_M = (0.0, 0.0)
# Sees the scene as a person would. No policy looks through it.
VIEWER_CAMERA = "viewer_cam"


@dataclass(frozen=True)
class SceneConfig:
    """Everything that defines the scene besides the robot. Two scenes with equal configs give equal images and states.

    The grip is physical. A block of 12 g hangs on friction alone: coefficient 1.2 (rubber pads),
    torsional 0.02 m; `condim=4` because a pinch grip must resist twisting about the line between
    the jaws. The elliptic cone with `impratio=10` keeps slip in a grasp at 2.6 mm on average where
    the pyramidal one gives 9.4 mm. Contacts are stiff (`contact_solref`: 8 ms, critically damped,
    two and a half physics steps; below two it would not be stable), so that the jaws do not sink
    into the block. Jaw force is limited to 1.5 N·m, about half of what the servo stalls at. The
    arm's other links do not collide: only gripper and jaw carry colliders (five boxes).

    Attributes:
        name: what the episodes' initial states are a function of.
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

# Close to the scene that a published SO-101 pick-and-place set was recorded in: a toy brick, a
# square bowl of 12 cm, an overhead camera of 52° at 0.6 m, a wrist camera of 71°, 640 x 480 images.
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
    """A scene of two blocks, one to the left and one to the right, and of one or two receptacles.

    Sides are drawn with each episode, of the blocks as of the receptacles: `block_y_m` and
    `receptacle_y_m` are distances to the side.

    Attributes:
        instruction: what the episodes' instructions have in common.
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


# The words decide: each episode names one of the blocks and one of the receptacles.
WORDS_SCENE = TwoBlockScene(
    name="pick_place_words",
    instruction="Pick up the {red|blue} block and place it {in the bowl|on the plate}.",
    block_x_m=(0.17, 0.26),
    block_y_m=(0.036, 0.06),
    bowl_inner_m=0.05,
)

# One scene with two equally good futures: either block counts, and the bowl is in the middle, below
# the gripper.
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
