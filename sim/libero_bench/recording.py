"""Records successful episodes of the scripted expert in LIBERO's layout."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from sim.arrays import ImageSizes
from sim.families import DemoRequest
from sim.jobs import run_jobs
from sim.libero_bench.conventions import (
    LEROBOT_CAMERAS,
    N_SETTLE_STEPS,
    SETTLE_ACTION,
    axis_angle_of,
)
from sim.libero_bench.demonstration_writing import write_demonstrations
from sim.libero_bench.env import LiberoEnv
from sim.libero_bench.fixture_poses import place_fixtures, read_fixture_poses
from sim.libero_bench.tasks import LiberoTask

_OBS_KEY_OF_CAMERA = {"image": "agentview_rgb", "image2": "eye_in_hand_rgb"}


def record_demonstrations(
    task: LiberoTask,
    request: DemoRequest,
    episode_indices: Iterable[int],
    image_size_px: tuple[int, int] | None = None,
) -> int:
    """Roll out the expert until enough successes are recorded; failures are left out.

    Args:
        episode_indices: indices of the benchmark's init states, tried in this order.
        image_size_px: height and width of the images; None: no images. Images take most of the
            file and of the time.

    Returns:
        the number of demonstrations kept; fewer than asked for if the indices ran out.

    Raises:
        WhiskerError: no episode succeeded, or the expert cannot do this task.
    """
    sizes = dict.fromkeys(LEROBOT_CAMERAS, image_size_px) if image_size_px else {}
    make_work = partial(_Simulation, task, sizes)
    with (
        write_demonstrations(request.output, task.suite, task.bddl_path, task.instruction) as file,
        closing(run_jobs(make_work, episode_indices, request.n_workers)) as episodes,
    ):
        for _, episode in episodes:
            if episode is not None:
                file.add(**episode._asdict())
            request.on_episode(file.n_demonstrations, episode is not None)
            if file.n_demonstrations == request.n_demonstrations:
                break
        return file.n_demonstrations


class _Demonstration(NamedTuple):
    """Holds what `DemonstrationFile.add` takes."""

    actions: np.ndarray
    states: np.ndarray
    model_xml: str
    obs: Mapping[str, np.ndarray]


class _Simulation:
    """`sim.worker_process.Work`: simulates episodes of the expert in an environment of its own."""

    def __init__(self, task: LiberoTask, sizes: ImageSizes) -> None:
        self._env = LiberoEnv(task, sizes)

    def run(self, episode_index: int) -> _Demonstration | None:
        """Simulate one episode; None if it did not succeed.

        The recording begins at the init state itself and includes the settle steps, so that the
        file holds everything that a replay starts from.
        """
        env = self._env
        env.reset_unsettled(episode_index)
        # The file will hold the fixtures' poses with six digits, so they are rounded in the scene
        # too.
        model_xml = env.model_xml()
        place_fixtures(env.model, read_fixture_poses(model_xml))
        actions = []
        states = []
        obs = []
        for action in _choose_actions(env):
            states.append(env.flat_state())
            actions.append(action)
            success = env.step(action).success
            obs.append(_observe(env))
            if success:
                return _Demonstration(
                    np.stack(actions),
                    np.stack(states),
                    model_xml,
                    {key: np.stack([row[key] for row in obs]) for key in obs[0]},
                )
        return None

    def close(self) -> None:
        self._env.close()


def _choose_actions(env: LiberoEnv) -> Iterator[Float32[np.ndarray, "7"]]:
    """Yield the actions as they are executed: in float32, clipped to the controller's range."""
    yield from [SETTLE_ACTION] * N_SETTLE_STEPS
    expert = env.make_expert()
    for _ in range(env.spec.max_steps):
        yield np.clip(expert.action(), -1, 1).astype(np.float32)


def _observe(env: LiberoEnv) -> dict[str, np.ndarray]:
    """Return the layout's observations at this moment; images as OpenGL makes them."""
    sample = env.sample
    obs = {
        "ee_states": np.concatenate([sample.ee_pos, axis_angle_of(sample.ee_quat_xyzw)]),
        "gripper_states": sample.gripper_qpos,
        "joint_states": env.joint_positions(),
    }
    if env.spec.cameras:
        for camera, image in env.observe().images.items():
            obs[_OBS_KEY_OF_CAMERA[camera]] = image[::-1, ::-1]
    return obs
