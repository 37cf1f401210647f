"""An environment outside of the project: a planar arm with two joints touches a ball."""

import mujoco
import numpy as np

from sim.env import Progress
from sim.families import EnvFamily
from sim.goals.goal import GoalKind, Threshold
from sim.simple_env import SimpleEnv, SimpleTask
from sim.spec import ActionSpec, EnvListing

ARM = """<mujoco><option timestep="0.005"/>
<default><joint axis="0 0 1" damping=".1"/><geom type="capsule" size=".01"/>\
<position kp="2"/></default><worldbody>
<light pos="0 0 2"/><camera name="top" pos="0 0 1" fovy="45"/><geom type="plane" size="1 1 .1"/>
<body name="ball" mocap="true"><geom type="sphere" size=".02" contype="0" conaffinity="0"/></body>
<body pos="0 0 .05"><joint name="shoulder"/><geom fromto="0 0 0 .1 0 0"/>
<body pos=".1 0 0"><joint name="elbow"/><geom fromto="0 0 0 .1 0 0"/>\
<site name="tip" pos=".1 0 0"/></body></body>
</worldbody><actuator><position joint="shoulder"/><position joint="elbow"/></actuator></mujoco>"""
JOINTS = ("shoulder", "elbow")
LINK_M = 0.1
INSTRUCTION = "Touch the ball."
MAX_STEPS = 40
TOUCHES_M = 0.03
ACTION = ActionSpec(
    JOINTS, ("rad", "rad"), (-2.5, -2.5), (2.5, 2.5), "absolute", "none", 1, 0.0, 1.0
)
REACH = GoalKind(
    "reach",
    measures={"ball_distance_m": "distance from the tip to the ball"},
    nears="ball_distance_m",
    thresholds={
        "stalled": "coming nearer by less [m] is no progress",
        "stalled_steps": "steps without progress",
    },
)
CHOSEN = {
    "stalled": Threshold(0.005, "a tenth of the way"),
    "stalled_steps": Threshold(10, "half a second"),
}


class Reach(SimpleEnv):
    def __init__(self, request):
        task = SimpleTask(
            instruction=INSTRUCTION,
            action=ACTION,
            goals=(REACH.goal("touch ball", CHOSEN),),
            joints=JOINTS,
            tool_site="tip",
            n_substeps=10,
            max_steps=MAX_STEPS,
        )
        super().__init__(
            request,
            mujoco.MjModel.from_xml_string(ARM),
            task,
        )

    def begin(self, rng):
        angle = rng.uniform(0.5, 2.0)
        self.data.mocap_pos[0] = 0.15 * np.cos(angle), 0.15 * np.sin(angle), 0.05

    def progress(self):
        ball = self.data.mocap_pos[0].copy()
        distance_m = float(np.linalg.norm(self.ee_pos_world() - ball))
        return (
            Progress(
                distance_m < TOUCHES_M,
                measures={"ball_distance_m": distance_m},
                object_pos_world=ball,
            ),
        )

    def make_expert(self, failure_mode=None):
        return ReachExpert(self)


class ReachExpert:
    """Sends the joint angles at which the tip of two links of equal length is on the ball."""

    def __init__(self, env):
        self._env = env

    def reset(self):
        pass

    def action(self):
        x, y, _ = self._env.progress()[0].object_pos_world
        elbow = 2 * np.arccos(np.hypot(x, y) / 2 / LINK_M)
        return np.array([np.arctan2(y, x) - elbow / 2, elbow])


class ToyFamily(EnvFamily):
    title = "toys"
    robot_type = "two_joints"
    packages = ("mujoco", "numpy")

    def listings(self):
        return [EnvListing("reach", INSTRUCTION, MAX_STEPS)]

    def make(self, request):
        return Reach(request)


toy = ToyFamily()
