"""The run folder, version 1: its layout and its writer. `eval.run.Run` reads it.

    run.json                       configuration, versions and machine
    episodes.jsonl                 one row for each episode, appended and fsynced as it ends
    errors.jsonl                   rows of crashed episodes that ran again, see `eval.crashed_rows`
    episodes/<task>/<index>.npz    `EpisodeArrays`, see `eval.episode_file`
    features.json, features/<task>/<index>.npz    `cknna.episode_features`, when they are collected
    observations/<task>/<index>.npz    `sim.recorded_observations`, when they are recorded
    videos/<task>/<index>-<outcome>.mp4
    branches.jsonl, branches/<task>/<index>/<n>.npz    `eval.branches`, when a person branched off
    report.html                    from `viz.report`, when the run has ended

An episode's arrays are on the disk before its row. So if the row exists, the rest does too.
"""

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cknna.episode_features import (
    FEATURES_FOLDER,
    EpisodeFeatures,
    episode_features_path,
    save_episode_features,
)
from eval.branches import BRANCHES_FOLDER
from eval.crashed_rows import set_aside_crashed
from eval.episode_arrays import EpisodeArrays, EpisodeRecord
from eval.episode_file import save_arrays
from eval.episode_row import ROWS_FILE, EpisodeRow, load_rows
from eval.rows_file import append_row, open_rows
from eval.run_description import (
    Resumption,
    RunDescription,
    load_description,
    save_description,
    save_resumptions,
)
from eval.run_name import name_env_in_folder, name_policy_in_folder
from sim.errors import WhiskerError
from sim.files import UNFINISHED_PREFIX
from sim.recorded_observations import OBSERVATIONS_FOLDER, observations_path, save_observations


class RunFolder:
    """A run folder, open for writing.

    The rows file is locked, so that only one process writes at a time.
    """

    def __init__(self, path: Path, *, retries_errors: bool = False) -> None:
        """Open an existing folder, and remove what a crash left unfinished.

        Args:
            retries_errors: set the rows of crashed episodes aside, so that they run again.
        """
        self.path = path
        try:
            self._file = open_rows(path / ROWS_FILE)
            if retries_errors:
                set_aside_crashed(path)
                self._file.close()
                self._file = open_rows(path / ROWS_FILE)  # it is another file now
        except BlockingIOError as error:
            raise WhiskerError(
                f"run {str(path)!r}",
                expected="no other process writing to it",
                got="another `eval` that writes",
                hint="Wait until it has ended.",
            ) from error
        # Unfinished videos stay: one may be in the making.
        for folder in ("episodes", FEATURES_FOLDER, OBSERVATIONS_FOLDER, BRANCHES_FOLDER):
            for left_behind in (path / folder).rglob(f"{UNFINISHED_PREFIX}*"):
                left_behind.unlink()
        self.rows = load_rows(path)

    @classmethod
    def create(cls, parent: Path, description: RunDescription) -> "RunFolder":
        """Make `<parent>/<UTC time>-<policy>-<env>` and write `run.json`.

        Args:
            description: description of a run that starts now.

        Raises:
            WhiskerError: the folder cannot be written.
        """
        started = datetime.now(UTC)
        env = name_env_in_folder(description.config.env.name)
        policy = name_policy_in_folder(description.policy.type, description.policy.checkpoint or "")
        name = f"{started:%Y%m%dT%H%M%SZ}-{policy}-{env}"
        description = replace(description, started_utc=started.isoformat(timespec="seconds"))
        try:
            return cls(_make_run_folder(parent, name, description))
        except OSError as error:
            raise _unwritable(parent, error) from error

    @classmethod
    def reopen(
        cls,
        path: Path,
        commit: str | None = None,
        *,
        retries_errors: bool = False,
    ) -> "RunFolder":
        """Open the folder of an interrupted run.

        Args:
            commit: the project's commit, which makes the rows to come. It is added to `run.json`
                if it differs from the last one.
            retries_errors: crashed episodes run again.

        Raises:
            WhiskerError: the folder is no run, is of a newer version, or has a damaged line before
                the last.
        """
        description = load_description(path)
        try:
            run = cls(path, retries_errors=retries_errors)
            if commit is not None and commit != description.commits[-1]:
                resumption = Resumption(commit, n_rows_before=len(run.rows))
                save_resumptions(path, [*load_description(path).resumed, resumption])
            return run
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, record: EpisodeRecord, row: EpisodeRow) -> None:
        """Write an episode to the disk: its arrays first, then its row.

        Raises:
            WhiskerError: the disk is full or gone. The rows before are safe.
        """
        try:
            if record.arrays is not None:
                save_arrays(self.path / arrays_path(row), record.arrays)
                self._save_features(record, record.arrays, row)
                if record.looks:
                    path = self.path / observations_path(row.task, row.episode_index)
                    save_observations(path, list(record.looks))
            append_row(self._file, row.to_json())
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.rows.append(row)

    def close(self) -> None:
        self._file.close()

    def _save_features(
        self,
        record: EpisodeRecord,
        arrays: EpisodeArrays,
        row: EpisodeRow,
    ) -> None:
        if record.features is None:
            return
        step = arrays.prediction_step
        features = EpisodeFeatures(
            features=record.features,
            state=arrays.state[step],
            step=step,
            progress=arrays.progress[step],
            stages=row.recorded_stages,
            n_steps=row.n_steps,
            outcome=str(row.outcome),
            success=row.success,
        )
        path = self.path / episode_features_path(row.task, row.episode_index)
        save_episode_features(path, features)


def arrays_path(row: EpisodeRow) -> Path:
    """Return the path of an episode's arrays, relative to the run folder."""
    return Path("episodes") / row.task / f"{row.episode_index}.npz"


def video_path(row: EpisodeRow) -> Path:
    """Return the path of an episode's video, relative to the run folder."""
    return Path("videos") / row.task / f"{row.episode_index}-{row.outcome}.mp4"


def _make_run_folder(parent: Path, name: str, description: RunDescription) -> Path:
    """Make the folder, which has `run.json` and an empty rows file from the first moment.

    A number is appended if a run of the same second has the name already.
    """
    parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=parent, prefix=UNFINISHED_PREFIX))
    unfinished.chmod(0o755)
    save_description(unfinished, description)
    (unfinished / ROWS_FILE).touch()
    numbered = [f"{name}-{i}" for i in range(2, 1000)]
    for folder in (name, *numbered):
        path = parent / folder
        if not path.exists():
            return unfinished.rename(path)
    raise FileExistsError(name)


def _unwritable(path: Path, error: OSError) -> WhiskerError:
    return WhiskerError(
        f"run folder {str(path)!r}",
        expected="a place to write to",
        got=error.strerror or str(error),
        hint="Free some space, or choose another with --run-dir. Finished episodes stay; --resume "
        "goes on from them.",
    )
