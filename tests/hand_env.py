"""A hand that flies: an environment that takes what policies of Bridge plan, without an arm."""

import mujoco
import numpy as np

from sim.env import Progress
from sim.families import EnvFamily
from sim.goals.goal import GoalKind, Threshold
from sim.simple_env import SimpleEnv, SimpleTask
from sim.spec import ActionSpec, EnvListing

AXES = ("x", "y", "z")
TURNS = ("roll", "pitch", "yaw")
# The state has the names that the state of Bridge has.
JOINTS = (*AXES, *TURNS, "gripper")
DIRECTIONS = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}
SLIDES = "".join(f'<joint name="{a}" type="slide" axis="{d}"/>' for a, d in DIRECTIONS.items())
HINGES = "".join(
    f'<joint name="{turn}" axis="{axis}"/>'
    for turn, axis in zip(TURNS, DIRECTIONS.values(), strict=True)
)
MOTORS = "".join(f'<velocity joint="{joint}" kv="20"/>' for joint in JOINTS[:6])
HAND = f"""<mujoco><option timestep="0.02" gravity="0 0 0" integrator="implicitfast"/><worldbody>
<light pos="0 0 2"/><camera name="front" pos="0 0 1.5" fovy="45"/>\
<geom type="plane" size="1 1 .1" contype="0"/>
<body name="ball" mocap="true"><geom type="sphere" size=".05" contype="0" conaffinity="0"/></body>
<body name="hand" pos="0 0 .3">{SLIDES}{HINGES}<geom type="box" size=".03 .02 .05"/>
<site name="tip" pos="0 0 -.05"/>
<body pos="0 .03 -.05"><joint name="gripper" type="slide" axis="0 1 0" range="-1 1"/>
<geom type="box" size=".01 .005 .02" contype="0" conaffinity="0"/></body></body>
</worldbody><actuator>{MOTORS}<position joint="gripper" kp="5" kv="5"/></actuator></mujoco>"""
TOUCHES_M = 0.05
ACTION = ActionSpec(
    names=JOINTS,
    units=("m", "m", "m", "rad", "rad", "rad", "-1 closed, 1 open"),
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    mode="delta",
    rotation="axis_angle",
    rotation_frame="base",
    gripper_index=6,
    gripper_closed=-1.0,
    gripper_open=1.0,
    gripper_closes_below=0.5,
)
TOUCH = GoalKind(
    "touch",
    measures={"ball_distance_m": "distance from the tip to the ball"},
    nears="ball_distance_m",
    thresholds={
        "stalled": "coming nearer by less [m] is no progress",
        "stalled_steps": "steps without progress",
    },
)
CHOSEN = {"stalled": Threshold(0.005, "chosen"), "stalled_steps": Threshold(10, "chosen")}


class Hand(SimpleEnv):
    def __init__(self, request):
        task = SimpleTask(
            instruction="touch the ball",
            action=ACTION,
            goals=(TOUCH.goal("touch the ball", CHOSEN),),
            joints=JOINTS,
            tool_site="tip",
            n_substeps=10,
            max_steps=12,
            image_size_px=(480, 640),
        )
        super().__init__(request, mujoco.MjModel.from_xml_string(HAND), task)

    def begin(self, rng):
        self.data.mocap_pos[0] = *rng.uniform(-0.3, 0.3, 2), 0.1

    def progress(self):
        ball = self.data.mocap_pos[0].copy()
        distance_m = float(np.linalg.norm(self.ee_pos_world() - ball))
        measures = {"ball_distance_m": distance_m}
        return (Progress(distance_m < TOUCHES_M, measures=measures, object_pos_world=ball),)


class HandFamily(EnvFamily):
    title = "hands"
    robot_type = "hand"
    packages = ("mujoco", "numpy")

    def listings(self):
        return [EnvListing("touch", "touch the ball", 12)]

    def make(self, request):
        return Hand(request)


family = HandFamily()
