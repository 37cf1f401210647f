"""Wraps a Bridge task of SimplerEnv as `sim.env.Env`."""

import logging
import os
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from sim.arrays import (
    Action,
    BodyPoses,
    Chunk,
    EePath,
    ImageSizes,
    ProjectionMatrix,
    SnapshotVector,
    StateVector,
    Vector3,
)
from sim.env import Expert, Progress, StepResult
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.scene_geometry import SceneGeometry
from sim.simpler_bench import conventions
from sim.simpler_bench.env_spec import make_spec
from sim.simpler_bench.installation import check_assets, check_packages, start_renderer
from sim.simpler_bench.progress import ObjectProgress
from sim.simpler_bench.robot_state import read_state
from sim.simpler_bench.tasks import SimplerTask
from sim.spec import CameraSpec

# A snapshot has room for this many actions: the longest published episodes, those of X-VLA.
_MOST_STEPS = 1200
_LOW = np.array(conventions.ACTION.low, np.float32)
_HIGH = np.array(conventions.ACTION.high, np.float32)


class SimplerEnv:
    """Simulates one task: a WidowX on a table, controlled at 5 Hz, seen by one camera.

    State (7): position of the gripper in the robot's base [m], its roll, pitch and yaw [rad], and
    how far it is open (0 to 1). In the variant `_state8` a 0 stands before the gripper.

    PhysX's state cannot be copied: its contact caches are not part of what SAPIEN returns. A
    snapshot therefore is the way to the state, which is the episode and all actions so far.
    `restore` executes them again, 13 ms each.
    """

    def __init__(
        self,
        task: SimplerTask,
        image_sizes: ImageSizes | None = None,
        *,
        has_padded_state: bool = False,
    ) -> None:
        """Build the scene and begin episode 0.

        Raises:
            WhiskerError: a package, an asset or the driver is missing, or there is no such camera.
        """
        self.spec = make_spec(task, image_sizes, has_padded_state)
        self._task = task
        self._has_padded_state = has_padded_state
        self._scene = _load_scene(task)
        self._is_closed = False
        self.reset(0)

    def reset(self, episode_index: int) -> None:
        """Begin an episode. The scene is built anew, because a soft reset leaves traces.

        Raises:
            WhiskerError: there is no such episode.
        """
        if not 0 <= episode_index < conventions.N_EPISODES:
            raise WhiskerError(
                f"episode {episode_index} of {self.spec.name!r}",
                expected=f"0 to {conventions.N_EPISODES - 1}: SimplerEnv has "
                f"{conventions.N_EPISODES} initial states",
            )
        self._scene.reset(options={"episode_id": episode_index, "reconfigure": True})
        self._episode_index = episode_index
        self._actions: list[Action] = []
        self._tracker = ObjectProgress(self._scene, self._task)
        self._measure()

    def observe(self) -> Observation:
        images = {camera.name: self._render(camera) for camera in self.spec.cameras}
        return Observation(images, self.state(), self.spec.instruction)

    def step(self, action: Action) -> StepResult:
        allowed = self._execute(action)
        self._measure()
        return StepResult(
            self.progress(),
            success=self._progress.met,
            clipped=bool((allowed != action).any()),
        )

    def state(self) -> StateVector:
        return read_state(self._scene.agent.robot, self._has_padded_state)

    def progress(self) -> tuple[Progress, ...]:
        return (self._progress,)

    def ee_pos_world(self) -> Vector3:
        link = self._scene.agent.robot.links_map["ee_gripper_link"]
        return link.pose.p[0].numpy().astype(np.float64)

    def snapshot(self) -> SnapshotVector:
        """Return the episode index, the number of actions, and the actions, with room for more.

        Raises:
            WhiskerError: the episode is longer than a snapshot can say.
        """
        n_actions = len(self._actions)
        if n_actions > _MOST_STEPS:
            raise WhiskerError(
                f"snapshot of {self.spec.name!r}",
                expected=f"at most {_MOST_STEPS} steps",
                got=f"{n_actions}",
                hint=f"Run shorter episodes: --max-steps {_MOST_STEPS}.",
            )
        snapshot = np.zeros(2 + _MOST_STEPS * conventions.ACTION.dim)
        snapshot[:2] = self._episode_index, n_actions
        if n_actions:
            actions = np.concatenate(self._actions)
            snapshot[2 : 2 + len(actions)] = actions
        return snapshot

    def restore(self, snapshot: SnapshotVector) -> None:
        """Go the way to a snapshot again, from here if it leads on from here."""
        n_actions = int(snapshot[1])
        dim = conventions.ACTION.dim
        actions = snapshot[2 : 2 + n_actions * dim].reshape(n_actions, dim).astype(np.float32)
        n_done = len(self._actions)
        leads_on = (
            int(snapshot[0]) == self._episode_index
            and n_done <= n_actions
            and np.array_equal(np.reshape(self._actions, (n_done, dim)), actions[:n_done])
        )
        if not leads_on:
            self.reset(int(snapshot[0]))
            n_done = 0
        for action in actions[n_done:]:
            self._execute(action)
        self._measure()

    def simulate_ee_path(self, chunk: Chunk) -> EePath:
        path = [self.ee_pos_world()]
        for action in chunk:
            self._execute(action)
            path.append(self.ee_pos_world())
        return np.array(path)

    def geometry(self) -> SceneGeometry:
        from sim.simpler_bench.drawing import extract_geometry

        return extract_geometry(self._scene)

    def body_poses(self) -> BodyPoses:
        from sim.simpler_bench.drawing import read_body_poses

        return read_body_poses(self._scene)

    def projection(self, camera: str) -> ProjectionMatrix:
        from sim.simpler_bench.drawing import compute_projection

        size = self.spec.camera(camera)
        return compute_projection(self._scene, size.height_px, size.width_px)

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        from sim.simpler_bench.expert import SimplerExpert

        return SimplerExpert(self._scene, failure_mode)

    def close(self) -> None:
        if not self._is_closed:
            self._scene.close()
        self._is_closed = True

    def _render(self, camera: CameraSpec) -> UInt8[np.ndarray, "height width 3"]:
        """Return the image, which is rendered in the size of the photograph behind it."""
        image = self._scene.render_camera()
        size_px = (camera.height_px, camera.width_px)
        if size_px == conventions.IMAGE_SIZE_PX:
            return image
        shrinks = camera.height_px < len(image)
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(image, size_px[::-1], interpolation=how)

    def _execute(self, action: Action) -> Action:
        """Hold an action for one control step, and return it as it was after clipping."""
        allowed = np.clip(action, _LOW, _HIGH)
        self._scene.execute(allowed)
        self._actions.append(allowed)
        return allowed

    def _measure(self) -> None:
        self._progress = self._tracker.measure(self.ee_pos_world())


def _load_scene(task: SimplerTask) -> Any:
    """Load SAPIEN with the software renderer, and build the scene of a task."""
    check_packages()
    check_assets(task)
    start_renderer()
    os.environ["MS_SKIP_ASSET_DOWNLOAD_PROMPT"] = "1"
    logging.getLogger("mani_skill").setLevel(logging.ERROR)
    from sim.simpler_bench.bridge_scene import make_scene

    return make_scene(task)
