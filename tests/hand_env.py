"""A hand that flies: it takes what policies of Bridge or Fractal plan, without an arm."""

from dataclasses import replace

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

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


class GoogleHand(Hand):
    """The same hand with the conventions of Fractal: a quaternion, and a gripper that 1 closes."""

    def __init__(self, request):
        super().__init__(request)
        action = replace(
            self.spec.action,
            units=(*self.spec.action.units[:6], "1 closed, -1 open"),
            gripper_closed=1.0,
            gripper_open=-1.0,
        )
        names = (*AXES, "qx", "qy", "qz", "qw", "closing")
        units = (*("m",) * 3, *("1",) * 5)
        self.spec = replace(self.spec, action=action, state_names=names, state_units=units)

    def state(self):
        joints = super().state()
        quat_xyzw = Rotation.from_euler("XYZ", joints[3:6]).as_quat()
        closing = (1 + joints[6]) / 2
        return np.concatenate([joints[:3], quat_xyzw, [closing]], dtype=np.float32)


HANDS = {"touch": Hand, "touch_google": GoogleHand}


class HandFamily(EnvFamily):
    title = "hands"
    robot_type = "hand"
    packages = ("mujoco", "numpy")

    def listings(self):
        return [EnvListing(name, "touch the ball", 12) for name in HANDS]

    def make(self, request):
        return HANDS[request.name](request)


family = HandFamily()
