"""A planar arm of two joints that touches a ball: an environment of one's own, outside of the project."""

import numpy as np

from sim.env import Progress, StageFlags, StepResult, episode_rng
from sim.families import EnvFamily
from sim.observation import Observation
from sim.spec import ActionSpec, CameraSpec, EnvListing, EnvSpec

ARM = """<mujoco><option timestep="0.005"/><visual><global offwidth="1280" offheight="960"/></visual>
<default><joint axis="0 0 1" damping=".1"/><geom type="capsule" size=".01"/><position kp="2"/></default><worldbody>
<light pos="0 0 2"/><camera name="top" pos="0 0 1" fovy="45"/><geom type="plane" size="1 1 .1"/>
<body name="ball" mocap="true"><geom type="sphere" size=".02" contype="0" conaffinity="0"/></body>
<body pos="0 0 .05"><joint name="shoulder"/><geom fromto="0 0 0 .1 0 0"/>
<body pos=".1 0 0"><joint name="elbow"/><geom fromto="0 0 0 .1 0 0"/><site name="tip" pos=".1 0 0"/></body></body>
</worldbody><actuator><position joint="shoulder"/><position joint="elbow"/></actuator></mujoco>"""
JOINTS, LINK_M, INSTRUCTION, MAX_STEPS, TOUCHES_M = ("shoulder", "elbow"), 0.1, "Touch the ball.", 40, 0.03


class Reach:
    def __init__(self, request):
        import mujoco

        from sim.rendering import CameraRenderer

        self._mujoco, self._model = mujoco, mujoco.MjModel.from_xml_string(ARM)
        self._data, self._everything = mujoco.MjData(self._model), mujoco.mjtState.mjSTATE_INTEGRATION
        sizes = {"top": (64, 64)} if request.image_sizes is None else request.image_sizes
        cameras = tuple(CameraSpec(name, *size, fovy_deg=45.0) for name, size in sizes.items())
        action = ActionSpec(JOINTS, ("rad",) * 2, (-2.5,) * 2, (2.5,) * 2, "absolute", "none", 1, 0.0, 1.0)
        self.spec = EnvSpec(
            request.spec_name, request.name, INSTRUCTION, cameras, JOINTS, ("rad",) * 2, action,
            control_dt_s=0.05, physics_dt_s=0.005, max_steps=MAX_STEPS, camera_names=("top",), goals=("touch ball",),
        )  # fmt: skip
        self._renderer = CameraRenderer(self._model, cameras, supersampling=1, shadows=False)
        self.reset(0)

    def reset(self, episode_index):
        self._mujoco.mj_resetData(self._model, self._data)
        angle = episode_rng(self.spec.task, episode_index).uniform(0.5, 2.0)
        self._data.mocap_pos[0] = 0.15 * np.cos(angle), 0.15 * np.sin(angle), 0.05
        self._mujoco.mj_fwdPosition(self._model, self._data)
        self._start_m = self._distance_m()

    def observe(self):
        return Observation(self._renderer.render(self._data), self.state(), INSTRUCTION)

    def step(self, action):
        self._data.ctrl[:] = np.clip(action, self.spec.action.low, self.spec.action.high)
        self._mujoco.mj_step(self._model, self._data, 10)
        self._mujoco.mj_fwdPosition(self._model, self._data)
        return StepResult(
            self.progress(), self._distance_m() < TOUCHES_M, clipped=bool((self._data.ctrl != action).any())
        )

    def state(self):
        return self._data.qpos.astype(np.float32)

    def progress(self):
        distance_m, met = self._distance_m(), self._distance_m() < TOUCHES_M
        flags = StageFlags(False, False, False, False, False, placed=met)
        done = 1 - max(0.0, distance_m - TOUCHES_M) / max(self._start_m - TOUCHES_M, 1e-6)
        return (Progress(flags, 0.0, float("nan"), self._data.mocap_pos[0].copy(), met, joint_progress=done),)

    def ee_pos_world(self):
        return self._data.site("tip").xpos.copy()

    def snapshot(self):
        state = np.empty(self._mujoco.mj_stateSize(self._model, self._everything))
        self._mujoco.mj_getState(self._model, self._data, state, self._everything)
        return np.append(state, self._start_m)

    def restore(self, snapshot):
        self._mujoco.mj_setState(self._model, self._data, np.ascontiguousarray(snapshot[:-1]), self._everything)
        self._mujoco.mj_fwdPosition(self._model, self._data)
        self._start_m = float(snapshot[-1])

    def trace(self, chunk):
        return np.array([self.ee_pos_world(), *(self.step(action) and self.ee_pos_world() for action in chunk)])

    def geometry(self):
        from sim.model_geometry import extract_geometry

        return extract_geometry(self._model, (0,))

    def body_poses(self):
        from sim.model_geometry import compute_body_poses

        return compute_body_poses(self._data)

    def projection(self, camera):
        from sim.rendering import compute_projection

        return compute_projection(self._model, self._data, self.spec.camera(camera))

    def gl_renderer(self):
        return self._renderer.gl_renderer

    def loose_objects(self):
        return ()

    def make_expert(self, fault=None):
        return ReachExpert(self)

    def close(self):
        self._renderer.close()

    def _distance_m(self):
        return float(np.linalg.norm(self.ee_pos_world() - self._data.mocap_pos[0]))


class ReachExpert:
    """Sends the joints to where the tip of two links of equal length is on the ball."""

    def __init__(self, env):
        self._env = env

    def reset(self):
        pass

    def action(self):
        x, y, _ = self._env.progress()[0].object_pos_world
        elbow = 2 * np.arccos(np.hypot(x, y) / 2 / LINK_M)
        return np.array([np.arctan2(y, x) - elbow / 2, elbow])


class ToyFamily(EnvFamily):
    title, robot_type, packages = "toys", "two_joints", ("mujoco", "numpy")

    def listings(self):
        return [EnvListing("reach", INSTRUCTION, MAX_STEPS)]

    def make(self, request):
        return Reach(request)


toy = ToyFamily()
