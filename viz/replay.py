"""A recorded episode seen again in a second copy of its world: poses, whiskers and what the policy saw."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from eval.recorder import EpisodeArrays
from eval.run_folder import env_of_task
from sim.env import Env
from sim.errors import WhiskerWarning
from sim.registry import camera_names, make_env
from viz.whiskers import Whiskers

_DEFAULT_SIZE_PX = (128, 128)


@dataclass(frozen=True)
class CameraView:
    """One camera at a decision.

    Attributes:
        image: RGB, upright, as `Env.observe` gives it.
        projection: `Env.projection` of that image.
    """

    image: UInt8[np.ndarray, "height width 3"]
    projection: Float64[np.ndarray, "3 4"]


@dataclass(frozen=True)
class DecisionView:
    """One prediction of K plans of horizon H.

    Attributes:
        step: control steps executed before it.
        n_executed: how many actions of plan 0 were run.
        chunk: plan 0, in the environment's units.
        path_world: whiskers of the K plans, m; nan after physics that diverged.
        draft_path_world: whiskers of what plan 0 was made from, as in `Whiskers`.
    """

    step: int
    n_executed: int
    chunk: Float32[np.ndarray, "H action_dim"]
    path_world: Float64[np.ndarray, "K H1 3"]
    draft_path_world: Float64[np.ndarray, "D H1 3"] | None
    cameras: Mapping[str, CameraView]


@contextmanager
def opened_replay_env(description: dict, task: str) -> Iterator[Env]:
    """A second copy of the world that a run's episodes of a task happened in, with the policy's own cameras.

    For a policy that does not look: with the environment's first two cameras.

    Args:
        description: `run.json`.
    """
    _warn_of_other_physics(description)
    env_name, control = env_of_task(description, task)
    sizes = {camera: tuple(size) for camera, size in description["policy"]["image_sizes"].items()}
    env = make_env(env_name, sizes or dict.fromkeys(camera_names(env_name)[:2], _DEFAULT_SIZE_PX), control)
    try:
        yield env
    finally:
        env.close()


def _warn_of_other_physics(description: dict) -> None:
    then, now = description.get("versions", {}).get("mujoco"), version("mujoco")
    if then not in (None, now):
        warnings.warn(
            f"the run was made under MuJoCo {then} and is replayed under {now}. Its states are shown as they were "
            "recorded; the paths of its plans are simulated anew and may differ from what the policy would have done.",
            WhiskerWarning,
            stacklevel=3,
        )


def compute_body_poses(
    env: Env, step_snapshots: Float64[np.ndarray, "moment snapshot_dim"]
) -> Float32[np.ndarray, "moment body 7"]:
    """`Env.body_poses` at each of several moments."""
    poses = []
    for snapshot in step_snapshots:
        env.restore(snapshot)
        poses.append(env.body_poses())
    return np.stack(poses)


def look(env: Env, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> dict[str, CameraView]:
    """What every camera of `env` shows at a moment."""
    env.restore(snapshot)
    images = env.observe().images
    return {camera: CameraView(image, env.projection(camera)) for camera, image in images.items()}


def view_decisions(env: Env, arrays: EpisodeArrays, whiskers: Whiskers) -> Iterator[DecisionView]:
    """Every prediction of an episode.

    Args:
        env: from `opened_replay_env`; its state is lost.
    """
    drafts = whiskers.draft_path_world
    for index, step in enumerate(arrays.prediction_step):
        yield DecisionView(
            step=int(step),
            n_executed=int(arrays.n_executed[index]),
            chunk=arrays.chunk[index],
            path_world=whiskers.path_world[index],
            draft_path_world=None if drafts is None else drafts[index],
            cameras=look(env, arrays.snapshot[index]),
        )
