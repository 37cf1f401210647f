"""The features of a policy on recorded observations: several policies, shown the same, can be compared.

A forward pass ends where the features are heard: nothing is denoised, decoded or planned.
"""

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cknna.audit import audit
from cknna.bank import BANK_FILE, TASKS_FILE, FeatureBank, extracted_columns, open_bank
from cknna.bank_description import (
    BankDescription,
    describe_policy,
    load_bank_description,
    save_description,
)
from cknna.hooks import FeatureHook
from cknna.moments import Moment, Showing, cut_batches, read_moments
from cknna.row_files import RowFiles
from policies.policy import EpisodeMemory, HookablePolicy
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.recorded_observations import RecordedObservation

# Of a description: paths, which may change while what they name does not.
_FOR_PEOPLE = ("checkpoint", "source")


def extract(
    policy: HookablePolicy,
    hook: FeatureHook,
    recording: Iterable[RecordedObservation],
    source: str,
    bank: Path,
    *,
    batch_size: int = 8,
    every: int = 1,
    camera_map: Mapping[str, str] | None = None,
    on_rows: Callable[[int], None] = lambda n_rows: None,
) -> FeatureBank:
    """Fill a bank with the policy's features, or finish one that was interrupted.

    Args:
        recording: in an order that is the same every time.
        source: what the recording is, for people.
        bank: its folder.
        every: of the decisions recorded, the n-th ones, beginning with the first.
        camera_map: the recording's camera → the policy's name of it.
        on_rows: told the number of rows so far.

    Raises:
        WhiskerError: a camera or a state that does not fit, a bank of something else, nothing in
            the recording.
    """
    moments = islice(read_moments(recording, policy.spec.n_obs_steps), 0, None, every)
    first = next(moments, None)
    if first is None:
        raise WhiskerError(f"recording {source!r}", expected="at least one observation", got="none")
    showing = Showing(policy.spec, camera_map or {}, first.present.observation)
    shown = showing.make_memory(first).present
    described = describe_policy(policy, audit(policy, hook, shown.instruction), shown)
    description = BankDescription(
        kind="extracted", source=source, every=every, resized=showing.resized, **described
    )
    state_dim = len(first.present.observation.state)
    with (
        _opened(bank, description) as tasks,
        closing(RowFiles(bank, extracted_columns(description, state_dim))) as rows,
    ):
        todo = _skip_done(_chain(first, moments), bank, rows.n_rows)
        for batch in cut_batches(todo, batch_size):
            features = compute_features(
                policy, hook, [showing.make_memory(moment) for moment in batch]
            )
            tasks.add(moment.present.task for moment in batch)
            rows.append(
                {f"features.{name}": values for name, values in features.items()}
                | {
                    "state": np.stack([moment.present.observation.state for moment in batch]),
                    "origin": np.array([tasks.origin(moment) for moment in batch], np.int64),
                }
            )
            on_rows(rows.n_rows)
    return open_bank(bank)


def compute_features(
    policy: HookablePolicy, hook: FeatureHook, memories: Sequence[EpisodeMemory]
) -> Mapping[str, Float32[np.ndarray, "row _dim"]]:
    """The features of these alone: the forward pass ends where all are heard."""
    rows: list[Mapping[str, np.ndarray]] = []
    for group in [memories] if hook.embedding.batched else [[memory] for memory in memories]:
        with hook.listening(len(group), stop_early=True) as features:
            # The noise of a plan: only what denoises it depends on that, and every row has the
            # same.
            policy.predict(group, [np.random.default_rng(0) for _ in group])
        rows.append(features)
    return {name: np.concatenate([features[name] for features in rows]) for name in rows[0]}


class _Tasks:
    """The names of the tasks in a bank, on the disk before a row that refers to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[str] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        )

    def add(self, names: Iterable[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._names]
        if new:
            self._names += new
            with atomic_write(self._path, sync=True) as file:
                file.write_text(json.dumps(self._names), encoding="utf-8")

    def origin(self, moment: Moment) -> tuple[int, int, int, int]:
        """A row of `origin.npy`."""
        seen = moment.present
        return self._names.index(seen.task), seen.episode_index, seen.step, moment.checksum


@contextmanager
def _opened(bank: Path, description: BankDescription) -> Iterator[_Tasks]:
    """Make the bank's folder, or check that it is of the same; nobody else writes to it meanwhile."""
    bank.mkdir(parents=True, exist_ok=True)
    file = bank / BANK_FILE
    if file.exists():
        _check_same(file, load_bank_description(file), description)
    else:
        save_description(file, description)
    with file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WhiskerError(
                f"bank {str(bank)!r}", expected="nobody else writing to it", hint="Wait."
            ) from error
        yield _Tasks(bank / TASKS_FILE)


def _check_same(path: Path, then: BankDescription, now: BankDescription) -> None:
    for name, value in vars(now).items():
        if getattr(then, name) != value and name not in _FOR_PEOPLE:
            raise WhiskerError(
                f"bank {str(path)!r}, {name}",
                expected=str(getattr(then, name)),
                got=str(value),
                hint="Rows of two kinds are not one bank: choose a new folder.",
            )


def _skip_done(moments: Iterator[Moment], bank: Path, n_done: int) -> Iterator[Moment]:
    """Those after the rows that are there; refuses a recording whose beginning is not what they are of."""
    checksums = open_bank(bank).checksum if n_done else ()
    for row, expected in enumerate(checksums if checksums is not None else ()):
        moment = next(moments, None)
        if moment is None or moment.checksum != expected:
            raise WhiskerError(
                f"bank {str(bank)!r}, row {row}",
                expected="the observation that it was made of",
                got="the end of the recording" if moment is None else "another one",
                hint="Extract from the same recording, or choose a new folder.",
            )
    return moments


def _chain(first: Moment, others: Iterator[Moment]) -> Iterator[Moment]:
    yield first
    yield from others
