"""A run folder as it is read: what was run, what every episode came to, and the world that it happened in."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from eval.branches import BranchRow, branch_arrays_path, load_branch_rows
from eval.episode_file import read_series
from eval.episode_row import ROWS_FILE, EpisodeRow, load_rows
from eval.older_runs import EARLIER_ARRAY_NAMES
from eval.recorder import EpisodeArrays
from eval.run_description import RunDescription, load_description
from eval.run_folder import arrays_path
from eval.series import RecordedSeries
from sim.env import Env
from sim.errors import UnknownNameError, WhiskerError, WhiskerWarning
from sim.registry import make_env

# Arrays that came later, and what they are made from in a file from before: those files are of
# joint environments with one goal, pick and place.
_LATER_ARRAYS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "ik_error_m": ("action", lambda action: np.full(len(action), np.nan)),
    "goals_met": ("progress", lambda progress: progress[:, -1:]),  # placed
}
_OPTIONAL_ARRAYS = frozenset(f.name for f in fields(EpisodeArrays) if f.default is not MISSING)


@dataclass(frozen=True)
class Run:
    """A run folder, open for reading. The run may be finished, interrupted, or still going on.

    Opening it reads `run.json` alone, and no simulator or network library is imported.

    Attributes:
        path: of the folder.
        description: says what was run, with what, and on which machine.
    """

    path: Path
    description: RunDescription
    _known_rows: dict[tuple[int, int], list[EpisodeRow]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Open the run folder `path`.

        Raises:
            WhiskerError: not a run folder, one of a newer version, or a damaged `run.json`.
        """
        path = Path(path)
        return cls(path, load_description(path))

    @property
    def rows(self) -> list[EpisodeRow]:
        """Return the finished episodes in the order in which they ended: of a run that goes on, more each time.

        The file is read again only when it has changed.

        Raises:
            WhiskerError: the file cannot be read, or a line of it is damaged.
        """
        try:
            stat = (self.path / ROWS_FILE).stat()
        except OSError:
            return load_rows(self.path)  # says what is wrong with it
        state = stat.st_mtime_ns, stat.st_size
        rows = self._known_rows.get(state)
        if rows is None:
            rows = load_rows(self.path)
            self._known_rows.clear()
            self._known_rows[state] = rows
        return list(rows)

    @property
    def branches(self) -> list[BranchRow]:
        """Return the branches that were kept with the run, in the order in which they ended. They count nowhere.

        Raises:
            WhiskerError: the file cannot be read, or a line of it is damaged.
        """
        return load_branch_rows(self.path)

    @property
    def missing(self) -> list[tuple[str, int]]:
        """Return (task, episode index) of the episodes that were asked for and have no row, in the order they run."""
        config = self.description.config
        asked = range(config.first_episode, config.first_episode + config.episodes)
        finished = {(row.task, row.episode_index) for row in self.rows}
        return [
            (task, index)
            for task in self.description.tasks
            for index in asked
            if (task, index) not in finished
        ]

    @property
    def is_finished(self) -> bool:
        """Return whether every episode that was asked for has a row; a crashed episode has one, too."""
        return not self.missing

    def load_arrays(self, row: EpisodeRow) -> EpisodeArrays:
        """Return the recorded arrays of one episode, or of a branch.

        Raises:
            WhiskerError: absent, truncated or of another version.
        """
        with self._opened_arrays(row) as stored:
            arrays = {
                f.name: _read_array(stored, f.name)
                for f in fields(EpisodeArrays)
                if f.name != "series"
            }
            return EpisodeArrays(**arrays, series=read_series(stored))

    def load_series(self, row: EpisodeRow) -> Mapping[str, RecordedSeries]:
        """Return the series of one episode, by name, without reading its arrays from the disk.

        Raises:
            WhiskerError: as for `load_arrays`.
        """
        with self._opened_arrays(row) as stored:
            return read_series(stored)

    def load_array(self, row: EpisodeRow, name: str) -> np.ndarray | None:
        """Return one array of an episode, a field of `EpisodeArrays`, without reading the others from the disk.

        Raises:
            WhiskerError: as for `load_arrays`.
        """
        with self._opened_arrays(row) as stored:
            return _read_array(stored, name)

    def open_env(self, task: str, cameras: Mapping[str, tuple[int, int]]) -> Env:
        """Build a second copy of the world that a task's episodes happened in. Whoever asks for it closes it.

        Warns if it is simulated by another MuJoCo than the run was.

        Args:
            cameras: camera → (height_px, width_px), exactly those that are to be observed.

        Raises:
            UnknownNameError: the run has no such task.
            WhiskerError: the environment cannot be made here.
        """
        tasks = self.description.tasks
        if task not in tasks:
            raise UnknownNameError(f"task of run {str(self.path)!r}", task, tasks)
        self._warn_of_other_physics()
        return make_env(tasks[task], cameras, self.description.config.env.control)

    @contextmanager
    def _opened_arrays(self, row: EpisodeRow) -> Iterator[NpzFile]:
        """Open an episode's file, each of whose arrays is read when it is asked for."""
        file = self.path / (
            branch_arrays_path(row) if isinstance(row, BranchRow) else arrays_path(row)
        )
        try:
            with np.load(file, allow_pickle=False) as stored:
                yield stored
        except KeyError as error:
            raise WhiskerError(
                f"episode file {str(file)!r}",
                expected=f"an array {error.args[0]!r}, which `eval` records with every episode",
                got="a file without it",
                hint=f"Run it again: eval --first-episode {row.episode_index} --episodes 1, with the flags of the run.",
            ) from error
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise WhiskerError(
                f"episode file {str(file)!r}", expected="the recorded arrays", got=repr(error)
            ) from error

    def _warn_of_other_physics(self) -> None:
        then, now = (self.description.versions or {}).get("mujoco"), version("mujoco")
        if then not in (None, now):
            warnings.warn(
                f"the run was made under MuJoCo {then} and is replayed under {now}. Its states are shown as they were "
                "recorded; the paths of its plans are simulated anew and may differ from what the policy would have "
                "done.",
                WhiskerWarning,
                stacklevel=3,
            )


def _read_array(stored: NpzFile, name: str) -> Any:
    """Return an array of an episode file; None if it is one that has to be asked for, and was not.

    Raises:
        KeyError: the name of an array that is missing.
    """
    for known in (name, EARLIER_ARRAY_NAMES.get(name)):
        if known in stored.files:
            return stored[known]
    if name in _OPTIONAL_ARRAYS:
        return None
    if name not in _LATER_ARRAYS:
        raise KeyError(name)
    source, fill_in = _LATER_ARRAYS[name]
    return fill_in(_read_array(stored, source))
