"""Computes whiskers: the end-effector paths that the recorded plans of a run would produce."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from eval.episode_arrays import ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Snapshots, require
from sim.errors import WhiskerError
from sim.forward_simulation import simulate_chunk
from viz.progress import Report, report_nothing

# Number of ensemble members that are drawn. Older members have little weight and would hide the
# newer ones.
N_MEMBERS = 8

# A number of control steps for each prediction.
Steps = Int64[np.ndarray, " P"]


@dataclass(frozen=True)
class Whiskers:
    """Holds the plans of one episode as paths: P predictions with K plans of horizon H each.

    Attributes:
        path_world: paths of shape (P, K, H + 1, 3), m. Plan 0 is the executed one. Point 0 is the
            measured position at the prediction. nan after the physics diverged.
        prediction_step: control step of each prediction.
        n_executed: number of executed actions of each plan 0.
        intermediate_path_world: paths of the intermediate plans of each plan 0, of shape (P, D,
            H + 1, 3), m. They are the denoising steps from pure noise on, or the members of a
            temporal ensemble, the newest last. None if they were not recorded.
    """

    path_world: Float64[np.ndarray, "P K H1 3"]
    prediction_step: Steps
    n_executed: Steps
    intermediate_path_world: Float64[np.ndarray, "P D H1 3"] | None = None

    def prediction_at(self, step: int) -> int:
        """Return the index of the current prediction: the last one made at or before that step."""
        return find_prediction(self.prediction_step, step)


def find_prediction(prediction_step: Steps, step: int) -> int:
    """Return the index of the last prediction made at or before a step; -1 if there is none."""
    return int(np.searchsorted(prediction_step, step, side="right")) - 1


def open_whisker_env(
    run: Run,
    task: str,
    cameras: Mapping[str, tuple[int, int]],
) -> Snapshots:
    """Build a second copy of a task's world, in which plans can be simulated. The caller closes it.

    Args:
        run: the run.
        task: the name of the task.
        cameras: cameras as for `Run.open_env`.

    Raises:
        WhiskerError: the environment cannot be built here, or has no snapshots.
    """
    env = run.open_env(task, cameras)
    try:
        return require(env, Snapshots, "whiskers")
    except WhiskerError:
        env.close()
        raise


def compute_whiskers(
    env: Snapshots,
    arrays: ReplayableArrays,
    ensemble: bool = False,
    report: Report = report_nothing,
) -> Whiskers:
    """Simulate every recorded plan from the exact state in which it was made.

    Args:
        env: an environment of the episode's task; its state is lost.
        arrays: the arrays of the episode.
        ensemble: the intermediate plans belong to a temporal ensemble, see `is_ensemble`.
        report: receives the progress.
    """
    plans = arrays.alternative_chunk
    if plans is None:
        plans = arrays.chunk[:, None]
    paths = _simulate(env, arrays, plans, report)
    intermediate_paths = None
    intermediate_plans = arrays.intermediate_chunk
    if intermediate_plans is not None:
        if ensemble:
            steps = arrays.prediction_step
            members = [find_members(intermediate_plans, steps, i) for i in range(len(steps))]
            intermediate_plans = np.stack(members)
        intermediate_paths = _simulate(env, arrays, intermediate_plans, report)
    return Whiskers(paths, arrays.prediction_step, arrays.n_executed, intermediate_paths)


def simulate_plans(
    env: Snapshots,
    snapshot: Float64[np.ndarray, " snapshot_dim"],
    plans: Float32[np.ndarray, "plan H action_dim"],
) -> Float64[np.ndarray, "plan H1 3"]:
    """Return the path of each plan by `simulate_chunk`.

    A plan ends at its first nan action, and its path is nan from there on.
    """
    paths = np.full((len(plans), plans.shape[1] + 1, 3), np.nan)
    for plan, path in zip(plans, paths, strict=True):
        undefined = np.isnan(plan).any(axis=1)
        n_planned = int(undefined.argmax()) if undefined.any() else len(plan)
        path[: n_planned + 1] = simulate_chunk(env, snapshot, plan[:n_planned])
    return paths


def is_ensemble(run: Run) -> bool:
    """Return whether a run recorded the chunks that temporal ensembling averaged."""
    return run.description.policy.intermediate_plans == "ensemble"


def find_members(
    intermediate_chunk: Float32[np.ndarray, "P 1 H action_dim"],
    prediction_step: Steps,
    prediction: int,
) -> Float32[np.ndarray, "member H action_dim"]:
    """Return the chunks that a temporal ensemble averages at a prediction, the newest last.

    They are plans from that prediction on. They come from the last `N_MEMBERS` predictions; nan
    after the end of a chunk, and where there was no prediction yet.
    """
    members = np.full(
        (N_MEMBERS, *intermediate_chunk.shape[2:]),
        np.nan,
        np.float32,
    )
    for age in range(min(N_MEMBERS, prediction + 1)):
        past = prediction - age
        n_since = int(prediction_step[prediction] - prediction_step[past])
        rest = intermediate_chunk[past, 0, n_since:]
        members[-1 - age, : len(rest)] = rest
    return members


def _simulate(
    env: Snapshots,
    arrays: ReplayableArrays,
    chunks: Float32[np.ndarray, "P K H action_dim"],
    report: Report,
) -> Float64[np.ndarray, "P K H1 3"]:
    paths: list[np.ndarray] = []
    for snapshot, plans in zip(arrays.snapshot, chunks, strict=True):
        report("simulating the plans of prediction", len(paths) + 1, len(chunks))
        paths.append(simulate_plans(env, snapshot, plans))
    return np.stack(paths)


def load_planned_arrays(
    run: Run,
    row: EpisodeRow,
    with_intermediate_plans: bool = False,
) -> ReplayableArrays:
    """Return the arrays of an episode that has predictions.

    Args:
        run: the run.
        row: the row of the episode.
        with_intermediate_plans: include the intermediate plans. Simulating them takes time.

    Raises:
        WhiskerError: the file is missing or damaged, or has no predictions or snapshots.
    """
    subject = f"episode {row.episode_index} of {str(run.path)!r}"
    if not row.n_predictions:
        got = f"none: {row.error}" if row.error else "none"
        raise WhiskerError(subject, expected="a prediction", got=got)
    arrays = run.load_arrays(row)
    if arrays.snapshot is None or arrays.step_snapshot is None:
        raise WhiskerError(
            subject,
            expected="an array 'step_snapshot' and an array 'snapshot', "
            "which are recorded in an environment with snapshots",
            got="a file without them",
            hint=f"If {run.description.env.name!r} has snapshots, run it again: "
            f"eval --first-episode {row.episode_index} --episodes 1, with the flags of the run.",
        )
    replayable = dict(vars(arrays))
    if not with_intermediate_plans:
        replayable["intermediate_chunk"] = None
    return ReplayableArrays(**replayable)
