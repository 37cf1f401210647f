"""Reads feature banks: each row has a policy's features, the robot's state and the row's origin.

Two kinds of folders are banks. A run folder has features that were collected in its rollouts
(`cknna.episode_features`):

    <run>/features.json, <run>/features/<task>/<index>.npz

The folder of an extracted bank (`cknna.extract`) has

    <bank>/bank.json, features.<hook point>.npy, state.npy, origin.npy, tasks.json

An extracted bank is read from the disk as it is needed. The features of a run are too if they fill
more than `KEPT_BYTES`.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from cknna.bank_description import EMBEDDING, BankDescription, load_bank_description
from cknna.episode_features import (
    FEATURES_FILE,
    EpisodeFeatures,
    find_episodes,
    load_episode_features,
)
from cknna.row_files import count_rows, open_rows
from sim.errors import UnknownNameError, WhiskerError

BANK_FILE = "bank.json"
TASKS_FILE = "tasks.json"
# The columns of `origin.npy`, named as in `FeatureBank`.
ORIGIN = ("task_index", "episode_index", "step", "checksum")
KEPT_BYTES = 1 << 30
# The stage in which the robot holds the object.
_HOLDING = "grasped"
type _Numbers = Int64[np.ndarray, " row"]


@dataclass(frozen=True)
class RolloutColumns:
    """The episode of each row, known in a bank that the policy itself rolled out.

    Attributes:
        held: whether the robot held the object at that moment; False if the goal has no such stage.
        outcome: outcome of the whole episode, a value of `eval.outcome.Outcome`.
        success: whether the whole episode succeeded.
        n_steps: length of the whole episode.
    """

    held: Bool[np.ndarray, " row"]
    outcome: Shaped[np.ndarray, " row"]
    success: Bool[np.ndarray, " row"]
    n_steps: _Numbers


@dataclass(frozen=True)
class FeatureBank:
    """Rows of features, opened by `open_bank`. The rows of an episode are consecutive, in order.

    Attributes:
        tasks: names, in the order of `task_index`.
        step: control steps of the episode before the row.
        checksum: CRC-32 of the observation, equal in two banks of one recording; None in a rollout.
        rollout: None in an extracted bank.
    """

    path: Path
    description: BankDescription
    tasks: tuple[str, ...]
    state: Float32[np.ndarray, "row state_dim"]
    task_index: _Numbers
    episode_index: _Numbers
    step: _Numbers
    checksum: _Numbers | None = None
    rollout: RolloutColumns | None = None
    _files: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def n_rows(self) -> int:
        return len(self.step)

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Return the names of the hook points, the policy type's own embedding first."""
        return tuple(hook.name for hook in self.description.hooks)

    @property
    def episode(self) -> _Numbers:
        """Return the number of each row's episode, counted from 0 over all tasks.

        These are the blocks of a permutation.
        """
        differs = np.diff(self.task_index) | np.diff(self.episode_index)
        return np.cumsum(np.insert(differs != 0, 0, False))

    def features(self, hook_point: str = EMBEDDING) -> Float32[np.ndarray, "row _dim"]:
        """Return the features of a hook point.

        Raises:
            WhiskerError: there is no such hook point, or a file is damaged.
        """
        dims = {hook.name: hook.dim for hook in self.description.hooks}
        if hook_point not in dims:
            raise UnknownNameError(f"hook point of {str(self.path)!r}", hook_point, dims)
        if self.description.kind == "extracted":
            return open_rows(_features_file(self.path, hook_point), self.n_rows)
        dim = dims[hook_point]
        rows = _make_rows(self.n_rows, dim)
        n_read = 0
        for path in self._files:
            block = load_episode_features(path, (hook_point,)).features[hook_point]
            if block.shape[1] != dim:
                raise WhiskerError(
                    f"features {str(path)!r}",
                    expected=f"{dim} numbers a row",
                    got=str(block.shape[1]),
                )
            rows[n_read : n_read + len(block)] = block
            n_read += len(block)
        return rows


def open_bank(path: Path) -> FeatureBank:
    """Open a run folder with features, or the folder of an extracted bank.

    Raises:
        WhiskerError: the folder is neither, or the bank has no rows, is of a newer version, or is
            damaged.
    """
    if (path / BANK_FILE).exists():
        bank = _open_extracted(path)
    elif (path / FEATURES_FILE).exists():
        bank = _open_run(path)
    else:
        raise WhiskerError(
            f"bank {str(path)!r}",
            expected=f"a run folder with {FEATURES_FILE}, or a bank with {BANK_FILE}",
            got="a folder without either" if path.is_dir() else "no folder",
            hint="Run eval with --collect-features, or cknna extract.",
        )
    if not bank.n_rows:
        raise WhiskerError(
            f"bank {str(path)!r}",
            expected="at least one row",
            got="an empty bank",
        )
    return bank


def _open_extracted(path: Path) -> FeatureBank:
    description = load_bank_description(path / BANK_FILE)
    n_rows = count_rows(
        [
            *[_features_file(path, hook.name) for hook in description.hooks],
            path / "state.npy",
            path / "origin.npy",
        ]
    )
    origin = np.array(open_rows(path / "origin.npy", n_rows))
    return FeatureBank(
        path=path,
        description=description,
        tasks=tuple(json.loads((path / TASKS_FILE).read_text(encoding="utf-8"))),
        state=open_rows(path / "state.npy", n_rows),
        **dict(zip(ORIGIN, origin.T, strict=True)),
    )


def _open_run(path: Path) -> FeatureBank:
    description = load_bank_description(path / FEATURES_FILE)
    found = list(find_episodes(path))
    if not found:
        raise WhiskerError(
            f"run {str(path)!r}",
            expected="at least one episode with features",
            got="none",
        )
    task_of_episode, indices, files = zip(*found, strict=True)
    tasks = tuple(dict.fromkeys(task_of_episode))
    episodes = [load_episode_features(file) for file in files]
    n_each = [len(episode.step) for episode in episodes]

    def repeat(values: list) -> np.ndarray:
        """Return one value for each row of an episode."""
        return np.repeat(np.array(values), n_each)

    return FeatureBank(
        path=path,
        description=description,
        tasks=tasks,
        state=np.concatenate([episode.state for episode in episodes]),
        task_index=repeat([tasks.index(task) for task in task_of_episode]),
        episode_index=repeat(list(indices)),
        step=np.concatenate([episode.step for episode in episodes]),
        rollout=RolloutColumns(
            held=np.concatenate([_find_held(episode) for episode in episodes]),
            outcome=repeat([episode.outcome for episode in episodes]),
            success=repeat([episode.success for episode in episodes]),
            n_steps=repeat([episode.n_steps for episode in episodes]),
        ),
        _files=files,
    )


def _find_held(episode: EpisodeFeatures) -> Bool[np.ndarray, " prediction"]:
    if _HOLDING not in episode.stages:
        return np.zeros(len(episode.step), bool)
    return episode.progress[:, episode.stages.index(_HOLDING)]


def _features_file(path: Path, hook_point: str) -> Path:
    return path / f"features.{hook_point}.npy"


def _make_rows(n_rows: int, dim: int) -> Float32[np.ndarray, "{n_rows} {dim}"]:
    """Make an array in memory, or in an unnamed temporary file if it is too large.

    The file is deleted with the array.
    """
    if 4 * n_rows * dim <= KEPT_BYTES:
        return np.empty((n_rows, dim), np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(n_rows, dim))
