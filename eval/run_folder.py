"""The run folder, version 1: its one reader and writer.

    run.json                       what was run, with what
    episodes.jsonl                 one row an episode, appended and fsynced as it ends
    episodes/<task>/<index>.npz    `EpisodeArrays`
    features.json, features/<task>/<index>.npz    `cknna.episode_features`, when they are collected
    observations/<task>/<index>.npz    `sim.recorded_observations`, when they are recorded
    videos/<task>/<index>-<outcome>.mp4

An episode's arrays are on the disk before its row: a row is a promise that the rest is there.
"""

import fcntl
import json
import os
import tempfile
from dataclasses import MISSING, asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cknna.episode_features import (
    FEATURES_FOLDER,
    EpisodeFeatures,
    episode_features_path,
    save_episode_features,
)
from eval.episode_row import ROWS_FILE, EpisodeRow, cut_torn_line, load_rows
from eval.outcome import OUTCOME_RULES
from eval.recorder import EpisodeArrays, EpisodeRecord
from sim.env import STAGES
from sim.errors import WhiskerError
from sim.files import UNFINISHED_PREFIX, written_whole
from sim.recorded_observations import OBSERVATIONS_FOLDER, observations_path, save_observations
from sim.spec import Control

VERSION = 1
RUN_FILE = "run.json"


class RunFolder:
    """A run folder that is open for writing. One process at a time: the rows file is locked."""

    def __init__(self, path: Path) -> None:
        """Open an existing folder; what a crash left half done is taken off."""
        self.path = path
        # Unbuffered: a row that could not be written must not be tried again when the file is closed.
        self._file = (path / ROWS_FILE).open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WhiskerError(
                f"run {str(path)!r}", expected="nobody else writing to it", got="another `eval` that is", do="Wait."
            ) from error
        cut_torn_line(path / ROWS_FILE)
        _remove_unfinished(path)
        self.rows = load_rows(path)

    @classmethod
    def create(cls, parent: Path, policy: str, env: str, description: dict) -> "RunFolder":
        """Make `<parent>/<UTC time>-<policy>-<env>` and write `run.json`.

        Args:
            description: what goes into `run.json`, besides the version.

        Raises:
            WhiskerError: the folder cannot be written.
        """
        started = datetime.now(UTC)
        name = f"{started:%Y%m%dT%H%M%SZ}-{policy}-{Path(env.partition('@')[0]).as_posix().replace('/', '-')}"
        content = {"version": VERSION, "started_utc": started.isoformat(timespec="seconds"), **description}
        try:
            return cls(_make_run_folder(parent, name, content))
        except OSError as error:
            raise _unwritable(parent, error) from error

    @classmethod
    def reopen(cls, path: Path, commit: str | None = None) -> "RunFolder":
        """Open the folder of an interrupted run.

        Args:
            commit: of the project, which makes the rows to come; `run.json` gets it if it is another one.

        Raises:
            WhiskerError: no run folder, a newer version, or a damaged line before the last.
        """
        description = load_description(path)
        try:
            run = cls(path)
            if commit is not None and commit != commits_of(description)[-1]:
                part = {"commit": commit, "n_rows_before": len(run.rows)}
                _write_description(path, description | {"resumed": [*description.get("resumed", []), part]})
            return run
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, record: EpisodeRecord, row: EpisodeRow) -> None:
        """Put the episode on the disk: arrays first, then its row.

        Raises:
            WhiskerError: the disk is full or gone. The rows before are safe.
        """
        try:
            if record.arrays is not None:
                with written_whole(self.path / arrays_path(row), sync=True) as file:
                    np.savez(file, **{name: array for name, array in vars(record.arrays).items() if array is not None})
                self._append_collected(record, record.arrays, row)
            self._file.write((json.dumps(asdict(row)) + "\n").encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.rows.append(row)

    def close(self) -> None:
        self._file.close()

    def _append_collected(self, record: EpisodeRecord, arrays: EpisodeArrays, row: EpisodeRow) -> None:
        if record.features is not None:
            at = arrays.prediction_step
            features = EpisodeFeatures(
                features=record.features,
                state=arrays.state[at],
                step=at,
                progress=arrays.progress[at],
                n_steps=row.n_steps,
                outcome=str(row.outcome),
                success=row.success,
            )
            save_episode_features(self.path / episode_features_path(row.task, row.episode_index), features)
        if record.looks:
            save_observations(self.path / observations_path(row.task, row.episode_index), list(record.looks))


def load_description(path: Path) -> dict:
    """`run.json`.

    Raises:
        WhiskerError: not a run folder, or one of a newer version.
    """
    try:
        description = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise WhiskerError(
            f"run {str(path)!r}", expected=f"a run folder with a {RUN_FILE}", got=str(error), do="Check the path."
        ) from error
    if not isinstance(description, dict) or "version" not in description:
        raise WhiskerError(f"run {str(path)!r}", expected=f"a {RUN_FILE} with a version", got="one without")
    if description["version"] > VERSION:
        raise WhiskerError(
            f"run {str(path)!r}",
            expected=f"version {VERSION}",
            got=str(description["version"]),
            do="Update whisker-eval.",
        )
    if not {"config", "env"} <= description.keys():
        raise WhiskerError(f"run {str(path)!r}", expected=f"a whole {RUN_FILE}", got="one with parts missing")
    return description


def commits_of(description: dict) -> list[str]:
    """Return the commits of the project that made the rows, in order; "" where there was no git tree."""
    return [description.get("commit", ""), *(part["commit"] for part in description.get("resumed", []))]


def load_outcome_rules(run: Path) -> int:
    """Return which rules (`eval.outcome.OUTCOME_RULES`) made the outcomes of a run's rows."""
    return outcome_rules_of(load_description(run))


def outcome_rules_of(description: dict) -> int:
    """Return the same from the `run.json` itself, which did not say so when there were only the first rules."""
    return description.get("resolved", {}).get("outcome_rules", 1)


def describe_old_rules(description: dict) -> str:
    """Return a remark on outcomes that were made by older rules, and "" where the present ones made them."""
    rules = outcome_rules_of(description)
    return "" if rules == OUTCOME_RULES else f"outcomes by rules {rules} (now {OUTCOME_RULES})"


def env_of_task(description: dict, task: str) -> tuple[str, Control | None]:
    """Name and control of the environment that a task's episodes ran in, as `sim.registry.make_env` takes them.

    Args:
        description: `run.json`. From before a run could have several tasks it names one environment.
    """
    return description.get("tasks", {}).get(task, description["env"]["name"]), description["config"].get("control")


def arrays_path(row: EpisodeRow) -> Path:
    """Of an episode's arrays, relative to the run folder."""
    return Path("episodes") / row.task / f"{row.episode_index}.npz"


def video_path(row: EpisodeRow) -> Path:
    return Path("videos") / row.task / f"{row.episode_index}-{row.outcome}.mp4"


def load_arrays(path: Path, row: EpisodeRow) -> EpisodeArrays:
    """The recorded arrays of one episode.

    Raises:
        WhiskerError: absent, truncated or of another version.
    """
    file = path / arrays_path(row)
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        _fill_in_later_arrays(arrays)
        # What was not asked for is not in the file.
        recorded = [f.name for f in fields(EpisodeArrays) if f.name in arrays or f.default is MISSING]
        return EpisodeArrays(**{name: arrays[name] for name in recorded})
    except KeyError as error:
        raise WhiskerError(
            f"episode file {str(file)!r}",
            expected=f"an array {error.args[0]!r}, which `eval` records with every episode",
            got="a file without it",
            do=f"Run it again: eval --first-episode {row.episode_index} --episodes 1, with the flags of the run.",
        ) from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise WhiskerError(f"episode file {str(file)!r}", expected="the recorded arrays", got=repr(error)) from error


def _fill_in_later_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Files from before these were recorded are of joint environments with one goal, pick and place."""
    arrays.setdefault("ik_error_m", np.full(len(arrays["action"]), np.nan))
    arrays.setdefault("joint_progress", np.full(len(arrays["progress"]), np.nan))
    arrays.setdefault("goals_met", arrays["progress"][:, STAGES.index("placed"), None])


def _make_run_folder(parent: Path, name: str, content: dict) -> Path:
    """With its `run.json` from the first moment; two runs of one second get names of their own."""
    parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=parent, prefix=UNFINISHED_PREFIX))
    unfinished.chmod(0o755)
    _write_description(unfinished, content)
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        path = parent / (name + suffix)
        if not path.exists():
            return unfinished.rename(path)
    raise FileExistsError(name)


def _write_description(path: Path, content: dict) -> None:
    with written_whole(path / RUN_FILE, sync=True) as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _remove_unfinished(path: Path) -> None:
    """Of an episode, that is; a film may be under way beside us."""
    for folder in ("episodes", FEATURES_FOLDER, OBSERVATIONS_FOLDER):
        for left_behind in (path / folder).rglob(f"{UNFINISHED_PREFIX}*"):
            left_behind.unlink()


def _unwritable(path: Path, error: OSError) -> WhiskerError:
    return WhiskerError(
        f"run folder {str(path)!r}",
        expected="a place to write to",
        got=error.strerror or str(error),
        do="Free some space, or choose another with --run-dir. Finished episodes stay; --resume goes on from them.",
    )
