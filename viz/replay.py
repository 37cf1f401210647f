"""Replays recorded episodes in a second copy of their world: body poses, images and whiskers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from eval.branches import BranchRow
from eval.episode_arrays import ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Drawable, Snapshots, provides, require
from sim.env import Env
from sim.registry import camera_names, resolve
from viz.observation_override import ObservationOverride
from viz.progress import Report, report_nothing
from viz.whiskers import Whiskers, open_whisker_env

# The pose of the world frame, which is the only body of a scene that cannot be drawn.
_WORLD_POSE = np.array([[0, 0, 0, 1, 0, 0, 0]], np.float32)


@dataclass(frozen=True)
class CameraView:
    """Holds one camera's image at a decision.

    Attributes:
        image: RGB, upright, as `Env.observe` returns it.
        projection: `Drawable.projection` of that image; None if the environment has none.
    """

    image: UInt8[np.ndarray, "height width 3"]
    projection: Float64[np.ndarray, "3 4"] | None


@dataclass(frozen=True)
class DecisionView:
    """Holds one prediction of K plans with horizon H.

    Attributes:
        step: number of control steps executed before the prediction.
        n_executed: number of executed actions of plan 0.
        chunk: plan 0, in the environment's units.
        path_world: whiskers of the K plans, m; nan after the physics diverged.
        intermediate_path_world: whiskers of the D intermediate plans, as in `Whiskers`.
        cameras: the cameras' views, by name.
    """

    step: int
    n_executed: int
    chunk: Float32[np.ndarray, "H action_dim"]
    path_world: Float64[np.ndarray, "K H1 3"]
    intermediate_path_world: Float64[np.ndarray, "D H1 3"] | None
    cameras: Mapping[str, CameraView]


def open_replay_env(run: Run, task: str) -> Snapshots:
    """Build a second copy of a task's world with the policy's cameras. The caller closes it.

    For a policy without cameras it has the environment's first two cameras.
    """
    sizes = run.description.policy.image_sizes
    if not sizes:
        env = run.description.env
        # Older runs do not record the camera names.
        names = env.camera_names or camera_names(env.name)
        sizes = dict.fromkeys(names[:2], resolve(env.name).family.preview_size_px)
    return open_whisker_env(run, task, sizes)


def read_body_poses(env: Env) -> Float32[np.ndarray, "body 7"]:
    """Return the current body poses of an environment.

    If it cannot be drawn, the result is the pose of the world frame alone.
    """
    return env.body_poses() if provides(env, Drawable) else _WORLD_POSE


def compute_body_poses(
    env: Snapshots,
    step_snapshots: Float64[np.ndarray, "moment snapshot_dim"],
    report: Report = report_nothing,
) -> Float32[np.ndarray, "moment body 7"]:
    """Return `read_body_poses` at each of several moments."""
    poses = []
    for index, snapshot in enumerate(step_snapshots):
        report("reading moment", index + 1, len(step_snapshots))
        env.restore(snapshot)
        poses.append(read_body_poses(env))
    return np.stack(poses)


def render_views(
    env: Snapshots, snapshot: Float64[np.ndarray, " snapshot_dim"]
) -> dict[str, CameraView]:
    """Return the view of every camera of `env` in a recorded state."""
    env.restore(snapshot)
    return view_cameras(env, env.observe().images)


def view_cameras(
    env: Env,
    images: Mapping[str, UInt8[np.ndarray, "_height _width 3"]],
) -> dict[str, CameraView]:
    """Return images of an environment's current state, with their projections."""
    views = {}
    for camera, image in images.items():
        projection = env.projection(camera) if provides(env, Drawable) else None
        views[camera] = CameraView(image, projection)
    return views


def override_as_recorded(
    env: Snapshots,
    row: EpisodeRow,
    prediction: int,
) -> Snapshots:
    """Return the environment as the policy observed it at a prediction that it made itself.

    A branch may have blacked out cameras from its first prediction on.
    """
    if not isinstance(row, BranchRow) or prediction < row.branch.at_prediction:
        return env
    override = ObservationOverride(env, blinded=row.branch.overrides.blinded)
    return require(override, Snapshots, "whiskers")


def row_of(array: np.ndarray | None, index: int) -> np.ndarray | None:
    """Return a row of an array that may not have been recorded."""
    return None if array is None else array[index]


def view_decisions(
    env: Snapshots,
    row: EpisodeRow,
    arrays: ReplayableArrays,
    whiskers: Whiskers,
    report: Report,
) -> Iterator[DecisionView]:
    """Yield every prediction of an episode. A branch yields only those that it did not inherit.

    Args:
        env: an environment from `open_replay_env`; its state is lost.
        row: the row of the episode.
        arrays: the arrays of the episode.
        whiskers: the whiskers of the episode.
        report: receives the progress.
    """
    n_cameras = len(env.spec.cameras)
    first = row.branch.at_prediction if isinstance(row, BranchRow) else 0
    n_own = len(arrays.prediction_step) - first
    for nth in range(n_own):
        report("rendering image", nth * n_cameras + 1, n_own * n_cameras)
        index = first + nth
        observed_env = override_as_recorded(env, row, index)
        yield DecisionView(
            step=int(arrays.prediction_step[index]),
            n_executed=int(arrays.n_executed[index]),
            chunk=arrays.chunk[index],
            path_world=whiskers.path_world[index],
            intermediate_path_world=row_of(whiskers.intermediate_path_world, index),
            cameras=render_views(observed_env, arrays.snapshot[index]),
        )
