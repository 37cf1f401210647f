"""A feature bank: what policies knew, the robot's state at that moment, and which moment that was, row by row.

Two kinds of folders are one:

    <run>/features.json, <run>/features/<task>/<index>.npz    collected in a rollout (`cknna.episode_features`)
    <bank>/bank.json, features.<hook point>.npy, state.npy, origin.npy, tasks.json    extracted (`cknna.extract`)

An extracted bank is read from the disk as it is needed; of a run, features that fill more than
`KEPT_BYTES` are too.
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

BANK_FILE, TASKS_FILE = "bank.json", "tasks.json"
# The columns of `origin.npy`.
ORIGIN = ("task_index", "episode_index", "step", "checksum")
KEPT_BYTES = 1 << 30
# The stage in which the robot holds the object.
_HOLDING = "grasped"


@dataclass(frozen=True)
class RolloutColumns:
    """Holds what is known of the episode of each row, in a bank that the policy itself rolled out.

    Attributes:
        held: the robot held the object at that moment; False where the goal has no such stage.
        outcome: of the whole episode, as `eval.outcome.Outcome` calls it.
        n_steps: of the whole episode.
    """

    held: Bool[np.ndarray, " row"]
    outcome: Shaped[np.ndarray, " row"]
    success: Bool[np.ndarray, " row"]
    n_steps: Int64[np.ndarray, " row"]


@dataclass(frozen=True)
class FeatureBank:
    """Rows of features, opened by `open_bank`. Those of an episode are consecutive, in their order.

    Attributes:
        tasks: names, in the order of `task_index`.
        step: control steps of the episode before the row.
        checksum: CRC-32 of the observation, the same in two banks of one recording; None in a
            rollout.
        rollout: None in an extracted bank.
    """

    path: Path
    description: BankDescription
    tasks: tuple[str, ...]
    state: Float32[np.ndarray, "row state_dim"]
    task_index: Int64[np.ndarray, " row"]
    episode_index: Int64[np.ndarray, " row"]
    step: Int64[np.ndarray, " row"]
    checksum: Int64[np.ndarray, " row"] | None = None
    rollout: RolloutColumns | None = None
    _files: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def n_rows(self) -> int:
        return len(self.step)

    @property
    def hook_points(self) -> tuple[str, ...]:
        """The policy type's own embedding first."""
        return tuple(hook.name for hook in self.description.hooks)

    @property
    def episode(self) -> Int64[np.ndarray, " row"]:
        """The number of each row's episode, from 0 on, over all tasks: the blocks of a permutation."""
        starts = np.flatnonzero(np.diff(self.task_index) | np.diff(self.episode_index)) + 1
        numbers = np.zeros(self.n_rows, np.int64)
        numbers[starts] = 1
        return np.cumsum(numbers)

    def features(self, hook_point: str = EMBEDDING) -> Float32[np.ndarray, "row _dim"]:
        """Raises WhiskerError: no such hook point, or a file that is damaged."""
        if hook_point not in self.hook_points:
            raise UnknownNameError(
                f"hook point of {str(self.path)!r}", hook_point, self.hook_points
            )
        if self.description.kind == "extracted":
            return open_rows(_features_file(self.path, hook_point), self.n_rows)
        (dim,) = {hook.dim for hook in self.description.hooks if hook.name == hook_point}
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
        WhiskerError: neither, one without rows, of a newer version, or damaged.
    """
    if (path / BANK_FILE).exists():
        bank = _open_extracted(path)
    elif (path / FEATURES_FILE).exists():
        bank = _open_run(path)
    else:
        raise WhiskerError(
            f"bank {str(path)!r}",
            expected=f"a run folder with {FEATURES_FILE}, or a bank with {BANK_FILE}",
            got="a folder without" if path.is_dir() else "no folder",
            hint="Run eval with --collect-features, or cknna extract.",
        )
    if not bank.n_rows:
        raise WhiskerError(f"bank {str(path)!r}", expected="at least one row", got="an empty bank")
    return bank


def extracted_columns(
    description: BankDescription, state_dim: int
) -> dict[str, tuple[np.dtype, int]]:
    """Of an extracted bank's files, for `RowFiles`."""
    columns = {
        f"features.{hook.name}": (np.dtype(np.float32), hook.dim) for hook in description.hooks
    }
    return columns | {
        "state": (np.dtype(np.float32), state_dim),
        "origin": (np.dtype(np.int64), len(ORIGIN)),
    }


def _open_extracted(path: Path) -> FeatureBank:
    description = load_bank_description(path / BANK_FILE)
    files = [_features_file(path, hook.name) for hook in description.hooks]
    n_rows = count_rows([*files, path / "state.npy", path / "origin.npy"])
    task_index, episode_index, step, checksum = np.array(open_rows(path / "origin.npy", n_rows)).T
    tasks = tuple(json.loads((path / TASKS_FILE).read_text(encoding="utf-8")))
    state = open_rows(path / "state.npy", n_rows)
    return FeatureBank(path, description, tasks, state, task_index, episode_index, step, checksum)


def _open_run(path: Path) -> FeatureBank:
    description = load_bank_description(path / FEATURES_FILE)
    found = [
        (task, index, file, load_episode_features(file))
        for task, index, file in find_episodes(path)
    ]
    if not found:
        raise WhiskerError(
            f"run {str(path)!r}", expected="at least one episode with features", got="none"
        )
    tasks = tuple(dict.fromkeys(task for task, _, _, _ in found))
    episodes = [episode for _, _, _, episode in found]
    n_each = [len(episode.step) for episode in episodes]
    rollout = RolloutColumns(
        held=np.concatenate([_find_held(episode) for episode in episodes]),
        outcome=np.repeat([episode.outcome for episode in episodes], n_each),
        success=np.repeat([episode.success for episode in episodes], n_each),
        n_steps=np.repeat(np.array([episode.n_steps for episode in episodes], np.int64), n_each),
    )
    return FeatureBank(
        path=path,
        description=description,
        tasks=tasks,
        state=np.concatenate([episode.state for episode in episodes]),
        task_index=np.repeat(
            np.array([tasks.index(task) for task, _, _, _ in found], np.int64), n_each
        ),
        episode_index=np.repeat(np.array([index for _, index, _, _ in found], np.int64), n_each),
        step=np.concatenate([episode.step for episode in episodes]),
        rollout=rollout,
        _files=tuple(file for _, _, file, _ in found),
    )


def _find_held(episode: EpisodeFeatures) -> Bool[np.ndarray, " prediction"]:
    if _HOLDING not in episode.stages:
        return np.zeros(len(episode.step), bool)
    return episode.progress[:, episode.stages.index(_HOLDING)]


def _features_file(path: Path, hook_point: str) -> Path:
    return path / f"features.{hook_point}.npy"


def _make_rows(n_rows: int, dim: int) -> Float32[np.ndarray, "{n_rows} {dim}"]:
    """In memory, or where that is too much in a file without a name, which goes when the array goes."""
    if 4 * n_rows * dim <= KEPT_BYTES:
        return np.empty((n_rows, dim), np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(n_rows, dim))
