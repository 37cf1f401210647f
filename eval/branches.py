"""Branches of a run: other futures of its episodes that a person asked for, kept beside what was recorded.

    branches.jsonl                      one row a branch: an `EpisodeRow`, and how the branch left its episode
    branches/<task>/<index>/<n>.npz     its `EpisodeArrays`, from the beginning of the episode on

They are in no number of the run. `eval.run.Run` reads them.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from eval.episode_file import save_arrays
from eval.episode_row import EpisodeRow, cut_torn_line
from eval.recorder import EpisodeRecord
from eval.typed_json import decode
from sim.errors import WhiskerError

BRANCHES_FOLDER, BRANCHES_FILE = "branches", "branches.jsonl"


@dataclass(frozen=True)
class Overrides:
    """Says what a branch does otherwise than the episode that it leaves.

    Attributes:
        seed: of the noise that is drawn; 0: the same noise.
        n_action_steps: None: the same.
        instruction: None: the same.
        blinded: cameras that are black from the branch on.
    """

    seed: int = 0
    n_action_steps: int | None = None
    instruction: str | None = None
    blinded: tuple[str, ...] = ()

    def after(self, earlier: "Overrides") -> "Overrides":
        """Return what both change, where a branch leaves a branch."""
        return Overrides(
            self.seed or earlier.seed,
            self.n_action_steps or earlier.n_action_steps,
            self.instruction or earlier.instruction,
            tuple(dict.fromkeys(earlier.blinded + self.blinded)),
        )

    def __str__(self) -> str:
        said = [f"seed {self.seed}"] if self.seed else []
        said += [f"n_action_steps {self.n_action_steps}"] if self.n_action_steps is not None else []
        said += [f"“{self.instruction}”"] if self.instruction is not None else []
        said += [f"{camera} blinded" for camera in self.blinded]
        return ", ".join(said) or "nothing changed"


@dataclass(frozen=True)
class Branch:
    """Says where and how a branch left its episode.

    Attributes:
        number: tells the branches of one episode apart; the first is 1.
        of: the number of the branch that it left; None: it left the episode itself.
        at_step: control steps executed before.
        at_prediction: index of the prediction that was made anew.
        overrides: all that is otherwise since, with what the branch that it left had changed.
        changes: what it changed itself, for people.
    """

    number: int
    of: int | None
    at_step: int
    at_prediction: int
    overrides: Overrides
    changes: str


@dataclass(frozen=True)
class BranchRow(EpisodeRow):
    """A line of `branches.jsonl`: what the branch came to, judged like an episode."""

    branch: Branch = field(kw_only=True)

    @classmethod
    def of_row(cls, row: EpisodeRow, branch: Branch) -> "BranchRow":
        """Return the row of an episode as that of a branch."""
        return cls(**{f.name: getattr(row, f.name) for f in fields(EpisodeRow)}, branch=branch)

    @classmethod
    def from_json(cls, line: str) -> "BranchRow":
        """Return the row that a line says.

        Raises:
            ValueError: no JSON, or a column that means nothing.
            KeyError, TypeError, AttributeError: a column is missing.
        """
        row = EpisodeRow.from_json(line)
        extra = dict(row.extra)
        branch = decode(Branch, extra.pop("branch"), "branch")
        return cls.of_row(EpisodeRow(**{**vars(row), "extra": extra}), branch)

    def to_json(self) -> dict[str, Any]:
        """Return the columns of an episode's row, and the branch."""
        return super().to_json() | {"branch": asdict(self.branch)}


def branch_arrays_path(row: BranchRow) -> Path:
    """Return where the arrays of a branch are, relative to the run folder."""
    return Path(BRANCHES_FOLDER) / row.task / str(row.episode_index) / f"{row.branch.number}.npz"


def load_branch_rows(path: Path) -> list[BranchRow]:
    """Return the branches of the run folder `path`, in the order in which they ended; none if there is no file.

    A last line without its end is left out: a crash cut it off.

    Raises:
        WhiskerError: the file cannot be read, or a line of it is damaged.
    """
    file = path / BRANCHES_FILE
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WhiskerError(
            f"branches {str(file)!r}", expected="a file to read", got=str(error)
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(BranchRow.from_json(line.decode()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            subject = f"{str(file)!r}, line {number}"
            raise WhiskerError(subject, expected="the row of a branch", got=repr(error)) from error
    return rows


class BranchFolder:
    """The branches of a run folder, open for writing.

    One process at a time: the file of rows is locked.
    """

    def __init__(self, path: Path) -> None:
        """Open or begin the branches of the run folder `path`.

        Raises:
            WhiskerError: the folder cannot be written, or somebody else is branching in it.
        """
        self._path = path
        try:
            # Unbuffered: a row is there or not.
            self._file = (path / BRANCHES_FILE).open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cut_torn_line(path / BRANCHES_FILE)
        except BlockingIOError as error:
            raise WhiskerError(
                f"branches of {str(path)!r}",
                expected="nobody else writing to them",
                got="another `whiskers` that is",
                hint="Branch off in that one, or end it.",
            ) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        self._n_given: dict[tuple[str, int], int] = {}
        for row in load_branch_rows(path):
            self._give_number(row.task, row.episode_index, row.branch.number)

    def next_number(self, task: str, episode_index: int) -> int:
        """Return a number that no branch of the episode has, and that none will be given again."""
        number = self._n_given.get((task, episode_index), 0) + 1
        self._give_number(task, episode_index, number)
        return number

    def append(self, record: EpisodeRecord, row: BranchRow) -> None:
        """Put a branch on the disk: arrays first, then its row.

        Raises:
            WhiskerError: the disk is full or gone.
        """
        try:
            if record.arrays is not None:
                save_arrays(self._path / branch_arrays_path(row), record.arrays)
            self._file.write((json.dumps(row.to_json()) + "\n").encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        self._file.close()

    def _give_number(self, task: str, episode_index: int, number: int) -> None:
        key = task, episode_index
        self._n_given[key] = max(number, self._n_given.get(key, 0))


def _unwritable(path: Path, error: OSError) -> WhiskerError:
    return WhiskerError(
        f"branches of {str(path)!r}",
        expected="a folder to write to",
        got=error.strerror or str(error),
    )
