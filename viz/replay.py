"""A recorded episode seen again in a second copy of its world: poses, whiskers and what the policy saw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from eval.branches import BranchRow
from eval.episode_row import EpisodeRow
from eval.recorder import ReplayableArrays
from eval.run import Run
from sim.capabilities import Drawable, Snapshots, provides, require
from sim.env import Env
from sim.registry import camera_names
from viz.observation_override import ObservationOverride
from viz.progress import Report, report_nothing
from viz.whiskers import Whiskers, open_whisker_env

_DEFAULT_SIZE_PX = (128, 128)
# The world's own frame: all that there is of a scene that cannot be drawn.
_WORLD_POSE = np.array([[0, 0, 0, 1, 0, 0, 0]], np.float32)


@dataclass(frozen=True)
class CameraView:
    """One camera at a decision.

    Attributes:
        image: RGB, upright, as `Env.observe` gives it.
        projection: `Drawable.projection` of that image; None where the environment has no such
            capability.
    """

    image: UInt8[np.ndarray, "height width 3"]
    projection: Float64[np.ndarray, "3 4"] | None


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
    intermediate_path_world: Float64[np.ndarray, "D H1 3"] | None
    cameras: Mapping[str, CameraView]


def open_replay_env(run: Run, task: str) -> Snapshots:
    """Build a second copy of a task's world with the cameras that the policy looked through.

    Of a policy that does not look it has the environment's first two cameras. Whoever asks for it
    closes it.
    """
    sizes, env = run.description.policy.image_sizes, run.description.env
    if not sizes:
        # Older runs do not name them.
        sizes = dict.fromkeys((env.camera_names or camera_names(env.name))[:2], _DEFAULT_SIZE_PX)
    return open_whisker_env(run, task, sizes)


def read_body_poses(env: Env) -> Float32[np.ndarray, "body 7"]:
    """Return where the bodies of an environment are now; of one that cannot be drawn that is the world alone."""
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


def look(env: Snapshots, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> dict[str, CameraView]:
    """Return what every camera of `env` shows at a moment."""
    env.restore(snapshot)
    return view_cameras(env, env.observe().images)


def view_cameras(
    env: Env, images: Mapping[str, UInt8[np.ndarray, "_height _width 3"]]
) -> dict[str, CameraView]:
    """Return the images that an environment shows at this moment with their projections."""
    if not provides(env, Drawable):
        return {camera: CameraView(image, None) for camera, image in images.items()}
    return {camera: CameraView(image, env.projection(camera)) for camera, image in images.items()}


def as_seen(env: Snapshots, row: EpisodeRow, prediction: int) -> Snapshots:
    """Return the environment as the policy saw it at a prediction that it made itself: a branch may have blinded it."""
    if not isinstance(row, BranchRow) or prediction < row.branch.at_prediction:
        return env
    return require(
        ObservationOverride(env, blinded=row.branch.overrides.blinded), Snapshots, "whiskers"
    )


def view_decisions(
    env: Snapshots,
    row: EpisodeRow,
    arrays: ReplayableArrays,
    whiskers: Whiskers,
    report: Report = report_nothing,
) -> Iterator[DecisionView]:
    """Yield every prediction of an episode; of a branch those that it did not inherit.

    Args:
        env: from `open_replay_env`; its state is lost.
    """
    intermediate_plans = whiskers.intermediate_path_world
    n_cameras = len(env.spec.cameras)
    own = range(
        row.branch.at_prediction if isinstance(row, BranchRow) else 0, len(arrays.prediction_step)
    )
    for nth, index in enumerate(own):
        report("rendering image", nth * n_cameras + 1, len(own) * n_cameras)
        yield DecisionView(
            step=int(arrays.prediction_step[index]),
            n_executed=int(arrays.n_executed[index]),
            chunk=arrays.chunk[index],
            path_world=whiskers.path_world[index],
            intermediate_path_world=None
            if intermediate_plans is None
            else intermediate_plans[index],
            cameras=look(as_seen(env, row, index), arrays.snapshot[index]),
        )
