"""Whiskers: the end-effector paths that a policy's plans would have produced, found again from a run folder."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from eval.episode_row import EpisodeRow
from eval.recorder import ReplayableArrays
from eval.run import Run
from sim.capabilities import Snapshots, require
from sim.errors import WhiskerError
from sim.forward_simulation import simulate_chunk
from viz.progress import Report, report_nothing

# Of a temporal ensemble as many members are drawn: the older ones weigh little, and hide the
# others.
N_MEMBERS = 8


@dataclass(frozen=True)
class Whiskers:
    """The plans of one episode as paths; P predictions, K plans each, horizon H.

    Attributes:
        path_world: `(P, K, H + 1, 3)` m. Plan 0 is the one that was executed; point 0 is the
            position measured at the prediction. nan after physics that diverged.
        prediction_step: control step of each prediction.
        n_executed: how many actions of each plan 0 were run.
        draft_path_world: `(P, D, H + 1, 3)` m, of what each plan 0 was made from: denoising steps,
            pure noise first, or the members of a temporal ensemble, the newest last. None where
            that was not recorded.
    """

    path_world: Float64[np.ndarray, "P K H1 3"]
    prediction_step: Int64[np.ndarray, " P"]
    n_executed: Int64[np.ndarray, " P"]
    intermediate_path_world: Float64[np.ndarray, "P D H1 3"] | None = None

    def executed_path(self, prediction: int) -> Float64[np.ndarray, "moment 3"]:
        """The part of a prediction's whisker along which the robot really went."""
        return self.path_world[prediction, 0, : self.n_executed[prediction] + 1]

    def prediction_at(self, step: int) -> int:
        """Index of the prediction in force before that control step: the last one made up to there."""
        return int(np.searchsorted(self.prediction_step, step, side="right")) - 1


def open_whisker_env(run: Run, task: str, cameras: Mapping[str, tuple[int, int]]) -> Snapshots:
    """Build a second copy of a task's world, in which plans can be simulated. Whoever asks for it closes it.

    Args:
        cameras: as for `Run.open_env`.

    Raises:
        WhiskerError: the environment cannot be made here, or cannot go back to a recorded moment.
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
        env: of the episode's task; its state is lost.
        ensemble: the intermediate plans are of a temporal ensemble, see `is_ensemble`.
    """
    plans = arrays.chunk[:, None] if arrays.alternative_chunk is None else arrays.alternative_chunk
    intermediate_plans = arrays.intermediate_chunk
    if intermediate_plans is not None and ensemble:
        intermediate_plans = np.stack(
            [
                find_members(intermediate_plans, arrays.prediction_step, i)
                for i in range(len(intermediate_plans))
            ]
        )
    return Whiskers(
        _simulate(env, arrays, plans, report),
        arrays.prediction_step,
        arrays.n_executed,
        None if intermediate_plans is None else _simulate(env, arrays, intermediate_plans, report),
    )


def simulate_plans(
    env: Snapshots,
    snapshot: Float64[np.ndarray, " snapshot_dim"],
    plans: Float32[np.ndarray, "plan H action_dim"],
) -> Float64[np.ndarray, "plan H1 3"]:
    """`simulate_chunk` of several plans.

    From an action on that is nan nothing was planned, and the path is nan.
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
    prediction_step: Int64[np.ndarray, " P"],
    prediction: int,
) -> Float32[np.ndarray, "member H action_dim"]:
    """The chunks that a temporal ensemble averages at a prediction, as plans from there on, the newest last.

    Those of `N_MEMBERS` predictions; nan where a chunk ends, and where there was no prediction yet.
    """
    members = np.full((N_MEMBERS, *intermediate_chunk.shape[2:]), np.nan, np.float32)
    for member, past in zip(members[::-1], range(prediction, -1, -1), strict=False):
        rest = intermediate_chunk[
            past, 0, int(prediction_step[prediction] - prediction_step[past]) :
        ]
        member[: len(rest)] = rest
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


def load_whiskers(run: Run, row: EpisodeRow) -> Whiskers:
    """Return the whiskers of one recorded episode; builds its environment, without cameras.

    Raises:
        WhiskerError: no such episode file, or one without predictions.
    """
    arrays = load_planned_arrays(run, row)
    with closing(open_whisker_env(run, row.task, {})) as env:
        return compute_whiskers(env, arrays, is_ensemble(run))


def load_planned_arrays(
    run: Run, row: EpisodeRow, with_intermediate_plans: bool = False
) -> ReplayableArrays:
    """The arrays of an episode in which something was planned.

    Args:
        with_drafts: they too; who does not show them need not simulate them.

    Raises:
        WhiskerError: no such file, a damaged one, or one without predictions or snapshots.
    """
    if not row.n_predictions:
        got = f"none: {row.error}" if row.error else "none"
        raise WhiskerError(
            f"episode {row.episode_index} of {str(run.path)!r}", expected="a prediction", got=got
        )
    arrays = run.load_arrays(row)
    if arrays.snapshot is None or arrays.step_snapshot is None:
        raise WhiskerError(
            f"episode {row.episode_index} of {str(run.path)!r}",
            expected="an array 'step_snapshot' and an array 'snapshot', which an environment with snapshots leaves",
            got="a file without them",
            hint=f"If {run.description.env.name!r} has snapshots, run it again: "
            f"eval --first-episode {row.episode_index} --episodes 1, with the flags of the run.",
        )
    return ReplayableArrays(
        **(vars(arrays) | ({} if with_intermediate_plans else {"intermediate_chunk": None}))
    )
