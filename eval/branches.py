"""Branches of a run: other futures of its episodes that a person asked for.

    branches.jsonl                      one row for each branch: an `EpisodeRow` and its `Branch`
    branches/<task>/<index>/<n>.npz     its `EpisodeArrays`, from the beginning of the episode on

They do not count in any number of the run. `eval.run.Run` reads them.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.episode_arrays import EpisodeRecord
from eval.episode_file import save_arrays
from eval.episode_row import EpisodeRow
from eval.rows_file import append_row, open_rows, parse_rows
from sim.errors import WhiskerError
from sim.typed_json import decode

BRANCHES_FOLDER = "branches"
BRANCHES_FILE = "branches.jsonl"


@dataclass(frozen=True)
class Overrides:
    """The changes of a branch with respect to the episode that it leaves.

    Attributes:
        seed: seed of the policy's noise; 0 is the same noise.
        n_action_steps: actions executed of a plan; None if unchanged.
        instruction: instruction of the policy; None if unchanged.
        blinded: cameras that are black from the branch on.
    """

    seed: int = 0
    n_action_steps: int | None = None
    instruction: str | None = None
    blinded: tuple[str, ...] = ()

    def after(self, earlier: "Overrides") -> "Overrides":
        """Return these changes on top of the earlier ones, for a branch that leaves a branch."""
        blinded = dict.fromkeys(earlier.blinded + self.blinded)
        return Overrides(
            seed=self.seed or earlier.seed,
            n_action_steps=self.n_action_steps or earlier.n_action_steps,
            instruction=self.instruction or earlier.instruction,
            blinded=tuple(blinded),
        )

    def __str__(self) -> str:
        changes = []
        if self.seed:
            changes.append(f"seed {self.seed}")
        if self.n_action_steps is not None:
            changes.append(f"n_action_steps {self.n_action_steps}")
        if self.instruction is not None:
            changes.append(f"“{self.instruction}”")
        changes += [f"{camera} blinded" for camera in self.blinded]
        return ", ".join(changes) or "nothing changed"


@dataclass(frozen=True)
class Branch:
    """The place and the changes with which a branch left its episode.

    Attributes:
        number: number among the branches of one episode, from 1 on.
        of: number of the branch that it left; None if it left the episode itself.
        at_step: control steps executed before.
        at_prediction: index of the prediction that was made again.
        overrides: all changes since, with those of the branch that it left.
        changes: its own changes, as text for people.
    """

    number: int
    of: int | None
    at_step: int
    at_prediction: int
    overrides: Overrides
    changes: str


@dataclass(frozen=True)
class BranchRow(EpisodeRow):
    """A line of `branches.jsonl`: the result of a branch, judged like an episode."""

    branch: Branch = field(kw_only=True)

    @classmethod
    def of_row(cls, row: EpisodeRow, branch: Branch) -> "BranchRow":
        """Return the row of an episode as that of a branch."""
        return cls(**vars(row), branch=branch)

    @classmethod
    def from_json(cls, line: str) -> "BranchRow":
        """Return the row of a line.

        Raises:
            ValueError: the line is no JSON, or a column is invalid.
            KeyError, TypeError, AttributeError: a column is missing.
        """
        row = EpisodeRow.from_json(line)
        extra = dict(row.extra)
        branch: Branch = decode(Branch, extra.pop("branch"), "branch")
        return cls.of_row(replace(row, extra=extra), branch)

    def to_json(self) -> dict[str, Any]:
        """Return the columns of an episode's row, and the branch."""
        return super().to_json() | {"branch": asdict(self.branch)}


def branch_arrays_path(row: BranchRow) -> Path:
    """Return the path of a branch's arrays, relative to the run folder."""
    folder = Path(BRANCHES_FOLDER) / row.task / str(row.episode_index)
    return folder / f"{row.branch.number}.npz"


def load_branch_rows(path: Path) -> list[BranchRow]:
    """Return the branches of the run folder `path`, in the order in which they ended.

    There are none without a file. A last line that a crash cut off is left out.

    Raises:
        WhiskerError: the file cannot be read, or a line of it is damaged.
    """
    file = path / BRANCHES_FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WhiskerError(
            f"branches {str(file)!r}",
            expected="a file to read",
            got=str(error),
        ) from error
    return parse_rows(file, content, BranchRow.from_json, "the row of a branch")


class BranchFolder:
    """The branches of a run folder, open for writing.

    The file of rows is locked, so that only one process writes at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open or begin the branches of the run folder `path`.

        Raises:
            WhiskerError: the folder cannot be written, or another process is branching in it.
        """
        self._path = path
        try:
            self._file = open_rows(path / BRANCHES_FILE)
        except BlockingIOError as error:
            raise WhiskerError(
                f"branches of {str(path)!r}",
                expected="no other process writing to them",
                got="another `whiskers` that writes",
                hint="Branch off in that one, or end it.",
            ) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        self._n_given: Counter[tuple[str, int]] = Counter()
        for row in load_branch_rows(path):
            key = (row.task, row.episode_index)
            self._n_given[key] = max(row.branch.number, self._n_given[key])

    def next_number(self, task: str, episode_index: int) -> int:
        """Return a number that no branch of the episode has or will be given again."""
        self._n_given[task, episode_index] += 1
        return self._n_given[task, episode_index]

    def append(self, record: EpisodeRecord, row: BranchRow) -> None:
        """Write a branch to the disk: its arrays first, then its row.

        Raises:
            WhiskerError: the disk is full or gone.
        """
        try:
            if record.arrays is not None:
                save_arrays(self._path / branch_arrays_path(row), record.arrays)
            append_row(self._file, row.to_json())
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        self._file.close()


def _unwritable(path: Path, error: OSError) -> WhiskerError:
    return WhiskerError(
        f"branches of {str(path)!r}",
        expected="a folder to write to",
        got=error.strerror or str(error),
    )
