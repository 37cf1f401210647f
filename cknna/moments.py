"""Recorded observations as a policy is shown them: decision by decision, under its own names, at its own sizes."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import cv2

from policies.policy import EpisodeMemory, PolicySpec, make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.recorded_observations import RecordedObservation, read_demonstrations, read_run


@dataclass(frozen=True)
class Moment:
    """What a policy is shown at one decision: as much of the past as it looks back on, the present last."""

    seen: tuple[RecordedObservation, ...]

    @property
    def present(self) -> RecordedObservation:
        return self.seen[-1]

    @property
    def checksum(self) -> int:
        """CRC-32 of the present, as it was recorded: equal where two banks are of one observation."""
        o = self.present.observation
        parts = [
            o.instruction.encode(),
            o.state.tobytes(),
            *(o.images[camera].tobytes() for camera in sorted(o.images)),
        ]
        return zlib.crc32(b"".join(parts))


def open_recording(path: Path) -> Iterator[RecordedObservation]:
    """Open a run folder with observations, a LIBERO demonstration file, or a LeRobotDataset, and read its beginning.

    Raises:
        WhiskerError: none of these, or one that does not begin with an observation that can be
            read.
    """
    recording = _find_reader(path)(path)
    first = next(recording, None)
    return iter(()) if first is None else chain([first], recording)


def _find_reader(path: Path) -> Callable[[Path], Iterator[RecordedObservation]]:
    from policies.lerobot_dataset import is_dataset, read_dataset

    if path.suffix in (".hdf5", ".h5"):
        return read_demonstrations
    if is_dataset(path):
        return read_dataset
    if (path / "run.json").exists():
        return read_run
    raise WhiskerError(
        f"recording {str(path)!r}",
        expected="a run folder, a LIBERO demonstration file (.hdf5) or the folder of a LeRobotDataset",
        got="something else" if path.exists() else "nothing there",
    )


def read_moments(recording: Iterable[RecordedObservation], n_obs_steps: int) -> Iterator[Moment]:
    """At each decision: that look and those of the steps just before it, where they were recorded."""
    past: list[RecordedObservation] = []
    for look in recording:
        if past and (look.task, look.episode_index, look.step - 1) != (
            past[-1].task,
            past[-1].episode_index,
            past[-1].step,
        ):
            past = []
        past = [*past, look][-n_obs_steps:]
        if look.decided:
            yield Moment(tuple(past))


def cut_batches(moments: Iterator[Moment], batch_size: int) -> Iterator[list[Moment]]:
    """Of one instruction each: with several, some types pad the shorter, and attend to the padding."""
    batch: list[Moment] = []
    for moment in moments:
        if batch and (
            len(batch) == batch_size
            or moment.present.observation.instruction != batch[0].present.observation.instruction
        ):
            yield batch
            batch = []
        batch.append(moment)
    if batch:
        yield batch


class Showing:
    """Shows a recording's observations to a policy under its own names and at its sizes.

    Attributes:
        resized: camera → "height x width" as recorded and as shown, where they differ.
    """

    def __init__(
        self, spec: PolicySpec, camera_map: Mapping[str, str], recorded: Observation
    ) -> None:
        names = {policy: env for env, policy in camera_map.items()}
        self._spec = spec
        self._recorded_name = {camera: names.get(camera, camera) for camera in spec.image_sizes}
        missing = [name for name in self._recorded_name.values() if name not in recorded.images]
        if missing:
            raise WhiskerError(
                f"cameras of policy {spec.type!r} ({spec.checkpoint})",
                expected=", ".join(spec.image_sizes),
                got=f"{', '.join(recorded.images) or 'none'} in the recording",
                hint="Say which is which with --camera-map recorded=policy.",
            )
        if spec.state_dim not in (None, len(recorded.state)):
            raise WhiskerError(
                f"state of policy {spec.type!r} ({spec.checkpoint})",
                expected=f"{spec.state_dim} numbers",
                got=f"{len(recorded.state)} in the recording",
                hint="It is of another robot.",
            )
        self.resized = {}
        for camera, (height, width) in spec.image_sizes.items():
            there = recorded.images[self._recorded_name[camera]].shape[:2]
            if there != (height, width):
                self.resized[camera] = f"{there[0]} x {there[1]} shown as {height} x {width}"

    def make_memory(self, moment: Moment) -> EpisodeMemory:
        """The memory of a policy that has seen this."""
        observations = [self._show(recorded.observation) for recorded in moment.seen]
        return make_memory(*observations, n_obs_steps=self._spec.n_obs_steps)

    def _show(self, recorded: Observation) -> Observation:
        images = {}
        for camera, (height, width) in self._spec.image_sizes.items():
            image = recorded.images[self._recorded_name[camera]]
            if image.shape[:2] != (height, width):
                shrinks = image.shape[0] > height
                image = cv2.resize(
                    image,
                    (width, height),
                    interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
                )
            images[camera] = image
        return replace(recorded, images=images)
