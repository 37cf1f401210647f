"""An `Env` without physics, made at once: its actions move a point, and it fails on request."""

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

from sim.env import LooseObject, Progress, StepResult
from sim.errors import UnknownNameError, WhiskerError
from sim.goals.goal import GoalKind, Threshold
from sim.observation import Observation
from sim.scene_geometry import SceneGeometry, Shape
from sim.spec import ActionSpec, CameraSpec, EnvSpec


class OddError(WhiskerError):
    """An error class with a constructor of its own."""

    def __init__(self, *, odd: str) -> None:
        super().__init__(
            f"the {odd}",
            expected="even",
            got="odd",
            hint="Add one.",
        )


def raise_(error):
    raise error


FAULTS = {
    "": lambda: None,
    "abort": lambda: (os.write(2, b"native words\n"), ctypes.CDLL(None).abort()),
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(7),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(600),
    "hang with the lock": lambda: ctypes.PyDLL(None).sleep(600),
    "odd": lambda: raise_(OddError(odd="number")),
    "unknown": lambda: raise_(UnknownNameError("thing", "bok", ["book", "box"])),
    "value": lambda: raise_(ValueError("not\nthat")),
}


def episode_of(fault):
    """Return the episode whose steps fail in this way. Nothing fails from episode 100 on."""
    return list(FAULTS).index(fault)


def make_after_one_death(mark):
    """Make a point in the second process that tries to. The first one leaves a file, and dies."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Point()


REACH = GoalKind(
    name="reach",
    stages={"near": "less than 1 m is left"},
    measures={"distance_m": "what is left"},
    nears="distance_m",
    thresholds={
        "stalled": "coming nearer by less [m] is no progress",
        "stalled_steps": "control steps without any",
    },
)
THRESHOLDS = {
    "stalled": Threshold(0.01, "chosen"),
    "stalled_steps": Threshold(3, "0.3 s"),
}
# A pose: its position, and its rotation as wxyz.
AT_ORIGIN = np.eye(7, dtype=np.float32)[3]


class Point:
    """An environment whose images, state and snapshot are functions of a point's position."""

    spec = EnvSpec(
        name="point",
        task="point",
        instruction="go",
        cameras=(CameraSpec("left", 4, 6, 45.0), CameraSpec("right", 3, 5, 45.0)),
        state_names=("x", "y"),
        state_units=("m", "m"),
        action=ActionSpec(
            ("x", "y"), ("m", "m"), (-1.0, -1.0), (1.0, 1.0), "delta", "none", 1, 0.0, 1.0
        ),
        control_dt_s=0.1,
        physics_dt_s=0.1,
        max_steps=10,
        goals=(REACH.goal("be there", THRESHOLDS),),
    )

    def __init__(self, fault_of_making="", left_height_px=4, closed_path=None):
        print("words of Python")
        os.write(2, b"words of a library\n")
        FAULTS[fault_of_making]()
        self._left_height_px = left_height_px
        self._closed_path = closed_path
        self.reset(100)

    def reset(self, episode_index):
        self._pos = np.array([episode_index, 0.0])
        self._episode_index = episode_index

    def start_ranges(self):
        return {"y": (0.0, 1.0)}

    def reset_at(self, episode_index, start):
        self.reset(episode_index)
        self._pos[1] = start["y"]

    def step(self, action):
        self._pos = self._pos + action
        if self._episode_index < len(FAULTS):
            FAULTS[list(FAULTS)[self._episode_index]]()
        return StepResult(self.progress(), False, False, 0.25)

    def simulate_ee_path(self, chunk):
        path = [self.ee_pos_world()]
        for action in chunk:
            self.step(action)
            path.append(self.ee_pos_world())
        return np.array(path)

    def observe(self):
        left = np.full((self._left_height_px, 6, 3), int(self._pos[0]), np.uint8)
        right = np.arange(45, dtype=np.uint8).reshape(3, 5, 3) + np.uint8(self._pos[1])
        images = {"left": left, "right": right}
        return Observation(images, self.state(), self.spec.instruction)

    def state(self):
        return self._pos.astype(np.float32)

    def progress(self):
        distance_m = float(np.hypot(*self._pos))
        stages = {"near": distance_m < 1}
        return (
            Progress(
                False,
                stages,
                {"distance_m": distance_m},
                self.ee_pos_world(),
            ),
        )

    def snapshot(self):
        return np.append(self._pos, float(self._episode_index))

    def restore(self, snapshot):
        self._pos = snapshot[:2].copy()
        self._episode_index = int(snapshot[2])

    def ee_pos_world(self):
        return np.append(self._pos, 0.0)

    def projection(self, camera):
        """Print the name of the camera, and return a projection."""
        print(camera)
        return np.eye(3, 4)

    def geometry(self):
        size = np.full(3, 0.01, np.float32)
        shape = Shape(
            1,
            "sphere",
            size,
            AT_ORIGIN,
            np.ones(4, np.float32),
        )
        return SceneGeometry(("world", "point"), (shape,), ())

    def body_poses(self):
        poses = np.tile(AT_ORIGIN, (2, 1))
        poses[1, :2] = self._pos
        return poses

    def gl_renderer(self):
        return "painter"

    def loose_objects(self):
        return (LooseObject("point", self.ee_pos_world(), 0.0, 0.0),)

    def make_expert(self, failure_mode=None):
        if failure_mode is not None:
            raise UnknownNameError("failure mode", failure_mode, ["none"])
        return PointExpert(self)

    def close(self):
        if self._closed_path:
            Path(self._closed_path).touch()


class PointExpert:
    """Returns as its action the point's position and the number of actions since its reset."""

    def __init__(self, env):
        self._env = env
        self.reset()

    def reset(self):
        self._n_actions = 0

    def action(self):
        self._n_actions += 1
        return np.array([self._env.state()[0], self._n_actions])
