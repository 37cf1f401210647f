"""Reads a run folder: its description, its rows and arrays, and its environment."""

import itertools
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
from eval.episode_arrays import EpisodeArrays
from eval.episode_file import read_series
from eval.episode_row import ROWS_FILE, EpisodeRow, load_rows
from eval.older_runs import EARLIER_ARRAY_NAMES
from eval.run_description import RunDescription, load_description
from eval.run_folder import arrays_path
from eval.series import RecordedSeries
from sim.env import Env
from sim.errors import UnknownNameError, WhiskerError, WhiskerWarning
from sim.registry import make_env

# Arrays that older files do not have → the array that they are made from, and how. Those files are
# of joint environments with one goal, pick and place, whose last stage is "placed".
_LATER_ARRAYS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "ik_error_m": ("action", lambda actions: np.full(len(actions), np.nan)),
    "goals_met": ("progress", lambda progress: progress[:, -1:]),
}
_OPTIONAL_ARRAYS = frozenset(f.name for f in fields(EpisodeArrays) if f.default is not MISSING)


@dataclass(frozen=True)
class Run:
    """A run folder, open for reading. The run may be finished, interrupted, or still going on.

    Opening it reads only `run.json`, and imports no simulator or network library.

    Attributes:
        path: path of the folder.
        description: configuration, versions and machine of the run.
    """

    path: Path
    description: RunDescription
    _known_rows: dict[tuple[int, int], list[EpisodeRow]] = field(
        default_factory=dict,
        init=False,
        repr=False,
        compare=False,
    )

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Open the run folder `path`.

        Raises:
            WhiskerError: the folder is no run, is of a newer version, or has a damaged `run.json`.
        """
        path = Path(path)
        return cls(path, load_description(path))

    @property
    def rows(self) -> list[EpisodeRow]:
        """Return the finished episodes, sorted by task, in the order of the run, and index.

        A run that still goes on has more each time. The file is read again only if it has changed.

        Raises:
            WhiskerError: the file cannot be read, or a line of it is damaged.
        """
        numbers = {task: number for number, task in enumerate(self.description.tasks)}

        def place(row: EpisodeRow) -> tuple[int, int]:
            return numbers.get(row.task, len(numbers)), row.episode_index

        return sorted(self.rows_as_they_ended, key=place)

    @property
    def rows_as_they_ended(self) -> list[EpisodeRow]:
        """Return the finished episodes in the order in which they ended, as `rows` does."""
        try:
            stat = (self.path / ROWS_FILE).stat()
        except OSError:
            # The error of this says what is wrong with the file.
            return load_rows(self.path)
        state = (stat.st_mtime_ns, stat.st_size)
        if state not in self._known_rows:
            rows = load_rows(self.path)
            self._known_rows.clear()
            self._known_rows[state] = rows
        return list(self._known_rows[state])

    @property
    def branches(self) -> list[BranchRow]:
        """Return the branches that were kept with the run, in the order in which they ended.

        They do not count in any number of the run.

        Raises:
            WhiskerError: the file cannot be read, or a line of it is damaged.
        """
        return load_branch_rows(self.path)

    @property
    def missing(self) -> list[tuple[str, int]]:
        """Return (task, episode index) of the episodes to come, in their order.

        A run that ended early, since its comparison was decided, has none.
        """
        if self.description.decision is not None:
            return []
        config = self.description.config
        finished = {(row.task, row.episode_index) for row in self.rows}
        episodes = itertools.product(self.description.tasks, config.episode_indices)
        return [episode for episode in episodes if episode not in finished]

    @property
    def is_finished(self) -> bool:
        """Return whether every requested episode has a row. A crashed episode has one, too."""
        return not self.missing

    def load_arrays(self, row: EpisodeRow) -> EpisodeArrays:
        """Return the recorded arrays of one episode, or of a branch.

        Raises:
            WhiskerError: the file is absent, truncated or of another version.
        """
        with self._opened_arrays(row) as stored:
            arrays: dict[str, Any] = {"series": read_series(stored)}
            for array in fields(EpisodeArrays):
                if array.name != "series":
                    arrays[array.name] = _read_array(stored, array.name)
            return EpisodeArrays(**arrays)

    def load_series(self, row: EpisodeRow) -> Mapping[str, RecordedSeries]:
        """Return the series of one episode, by name, without reading its arrays from the disk.

        Raises:
            WhiskerError: as `load_arrays`.
        """
        with self._opened_arrays(row) as stored:
            return read_series(stored)

    def load_array(self, row: EpisodeRow, name: str) -> np.ndarray | None:
        """Return one array of an episode, a field of `EpisodeArrays`, without reading the others.

        Raises:
            WhiskerError: as `load_arrays`.
        """
        with self._opened_arrays(row) as stored:
            return _read_array(stored, name)

    def open_env(self, task: str, cameras: Mapping[str, tuple[int, int]]) -> Env:
        """Make the environment of a task's episodes, which the caller closes.

        Warns if its MuJoCo has another version than that of the run.

        Args:
            cameras: camera → (height_px, width_px) of the cameras to observe.

        Raises:
            UnknownNameError: the run has no such task.
            WhiskerError: the environment cannot be made here.
        """
        tasks = self.description.tasks
        if task not in tasks:
            raise UnknownNameError(f"task of run {str(self.path)!r}", task, tasks)
        self.warn_of_other_physics()
        return make_env(
            tasks[task],
            cameras,
            self.description.config.env.control,
            self.description.config.env.init_grid,
        )

    @contextmanager
    def _opened_arrays(self, row: EpisodeRow) -> Iterator[NpzFile]:
        """Open an episode's file, of which each array is read when it is accessed."""
        path = branch_arrays_path(row) if isinstance(row, BranchRow) else arrays_path(row)
        file = self.path / path
        try:
            with np.load(file, allow_pickle=False) as stored:
                yield stored
        except KeyError as error:
            raise WhiskerError(
                f"episode file {str(file)!r}",
                expected=f"an array {error.args[0]!r}, which `eval` records with every episode",
                got="a file without it",
                hint=f"Run it again: eval --first-episode {row.episode_index} --episodes 1, with "
                "the flags of the run.",
            ) from error
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise WhiskerError(
                f"episode file {str(file)!r}",
                expected="the recorded arrays",
                got=repr(error),
            ) from error

    def warn_of_other_physics(self) -> None:
        """Warn if the paths of plans are simulated under another MuJoCo than the run's."""
        then = (self.description.versions or {}).get("mujoco")
        now = version("mujoco")
        if then not in (None, now):
            warnings.warn(
                f"the run was made under MuJoCo {then} and is replayed under {now}. Its states are "
                "shown as they were recorded; the paths of its plans are simulated again and may "
                "differ from what the policy would have done.",
                WhiskerWarning,
                stacklevel=3,
            )


def _read_array(stored: NpzFile, name: str) -> Any:
    """Return an array of an episode file; None if it is optional and was not recorded.

    Raises:
        KeyError: the array is missing; the error has its name.
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
