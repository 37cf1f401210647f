"""Extracts the features of a policy on recorded observations.

Several policies that are given the same observations can be compared. A forward pass ends as soon
as the features are captured: nothing is denoised, decoded or planned.
"""

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cknna.audit import audit
from cknna.bank import BANK_FILE, ORIGIN, TASKS_FILE, FeatureBank, open_bank
from cknna.bank_description import (
    BankDescription,
    describe_policy,
    load_bank_description,
    save_description,
)
from cknna.feature_work import FeatureWork, LoadHooked
from cknna.hooks import FeatureHook
from cknna.observation_adapter import ObservationAdapter
from cknna.observation_windows import ObservationWindow, cut_batches, read_windows
from cknna.row_files import RowFiles
from policies.policy import HookablePolicy
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.jobs import run_jobs
from sim.recorded_observations import RecordedObservation

# Modules that workers need, and that take long to import.
MODULES = ("cknna.feature_work", "policies.lerobot_loading")
# Fields of a description that are paths, which may change though the files are the same.
_PATHS = ("checkpoint", "source")


@dataclass(frozen=True)
class ExtractOptions:
    """Options of an extraction.

    Attributes:
        batch_size: observations in a forward pass.
        every: use every n-th recorded decision, from the first on.
        camera_map: the recording's camera → the policy's name of it.
        on_rows: called with the number of rows so far.
        n_workers: number of processes that compute features, each with a policy of its own. The
            bank does not depend on it.
        load: loads the policy of each of several workers.
    """

    batch_size: int = 8
    every: int = 1
    camera_map: Mapping[str, str] = field(default_factory=dict)
    on_rows: Callable[[int], None] = lambda n_rows: None
    n_workers: int = 1
    load: LoadHooked | None = None


def extract(
    policy: HookablePolicy,
    hook: FeatureHook,
    recording: Iterable[RecordedObservation],
    source: str,
    bank: Path,
    options: ExtractOptions | None = None,
) -> FeatureBank:
    """Fill a bank with the policy's features, or finish one that was interrupted.

    Args:
        recording: observations, in an order that is the same every time.
        source: name of the recording, stored for people to read.
        bank: folder of the bank.
        options: by default `ExtractOptions()`.

    Raises:
        WhiskerError: a camera or the state does not fit, the bank is of something else, or the
            recording is empty.
    """
    options = options or ExtractOptions()
    windows = islice(read_windows(recording, policy.spec.n_obs_steps), 0, None, options.every)
    first = next(windows, None)
    if first is None:
        raise WhiskerError(
            f"recording {source!r}",
            expected="at least one observation",
            got="none",
        )
    description = _describe(policy, hook, first, source, options)
    loaded = (policy, hook)
    load = (lambda: loaded) if options.n_workers == 1 else options.load
    assert load is not None
    make_work = partial(FeatureWork, load, options.camera_map)
    columns = _list_columns(description, first)
    with _opened(bank, description) as tasks, closing(RowFiles(bank, columns)) as rows:
        missing = _skip_done(chain([first], windows), bank, rows.n_rows)
        batches = cut_batches(missing, options.batch_size)
        with closing(run_jobs(make_work, batches, options.n_workers, MODULES)) as computed:
            for batch, features in computed:
                tasks.add(window.present.task for window in batch)
                rows.append(
                    {
                        **{f"features.{name}": values for name, values in features.items()},
                        "state": np.stack([window.present.observation.state for window in batch]),
                        "origin": np.array([tasks.origin(window) for window in batch], np.int64),
                    }
                )
                options.on_rows(rows.n_rows)
    return open_bank(bank)


def _describe(
    policy: HookablePolicy,
    hook: FeatureHook,
    first: ObservationWindow,
    source: str,
    options: ExtractOptions,
) -> BankDescription:
    """Return what the bank says of itself.

    Args:
        first: the first window of the recording.
    """
    adapter = ObservationAdapter(policy.spec, options.camera_map, first.present.observation)
    adapted = adapter.make_memory(first).present
    return BankDescription(
        kind="extracted",
        source=source,
        every=options.every,
        resized=adapter.resized,
        **describe_policy(policy, audit(policy, hook, adapted.instruction, adapted), adapted),
    )


def _list_columns(
    description: BankDescription, first: ObservationWindow
) -> dict[str, tuple[np.dtype, int]]:
    """Return column → type and width."""
    float32 = np.dtype(np.float32)
    columns: dict[str, tuple[np.dtype, int]] = {
        f"features.{hook.name}": (float32, hook.dim) for hook in description.hooks
    }
    columns["state"] = (float32, len(first.present.observation.state))
    columns["origin"] = (np.dtype(np.int64), len(ORIGIN))
    return columns


class _Tasks:
    """The task names of a bank, which are on the disk before a row refers to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def add(self, names: Iterable[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._names]
        if new:
            self._names += new
            with atomic_write(self._path, sync=True) as file:
                file.write_text(json.dumps(self._names), encoding="utf-8")

    def origin(self, window: ObservationWindow) -> tuple[int, int, int, int]:
        """Return a row of `origin.npy`."""
        present = window.present
        return self._names.index(present.task), present.episode_index, present.step, window.checksum


@contextmanager
def _opened(bank: Path, description: BankDescription) -> Iterator[_Tasks]:
    """Lock the bank's folder, after making it or checking that it is of the same features."""
    bank.mkdir(parents=True, exist_ok=True)
    file = bank / BANK_FILE
    if file.exists():
        then = vars(load_bank_description(file))
        for name, value in vars(description).items():
            if then[name] != value and name not in _PATHS:
                raise WhiskerError(
                    f"bank {str(file)!r}, {name}",
                    expected=str(then[name]),
                    got=str(value),
                    hint="A bank cannot hold rows of two kinds. Choose a new folder.",
                )
    else:
        save_description(file, description)
    with file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WhiskerError(
                f"bank {str(bank)!r}",
                expected="no other process writing to it",
                hint="Wait until it is done.",
            ) from error
        yield _Tasks(bank / TASKS_FILE)


def _skip_done(
    windows: Iterator[ObservationWindow],
    bank: Path,
    n_done: int,
) -> Iterator[ObservationWindow]:
    """Return the windows after the rows that exist.

    Raises:
        WhiskerError: the recording does not begin with the observations of those rows.
    """
    if not n_done:
        return windows
    checksums = open_bank(bank).checksum
    assert checksums is not None
    for row, expected in enumerate(checksums):
        window = next(windows, None)
        if window is None or window.checksum != expected:
            raise WhiskerError(
                f"bank {str(bank)!r}, row {row}",
                expected="the observation that it was made of",
                got="the end of the recording" if window is None else "another one",
                hint="Extract from the same recording, or choose a new folder.",
            )
    return windows
