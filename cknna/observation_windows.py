"""Groups recorded observations into windows, one for each decision of a policy."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sim.recorded_observations import RecordedObservation


@dataclass(frozen=True)
class ObservationWindow:
    """The observations that a policy is given at one decision.

    Attributes:
        observations: as many past ones as the policy uses, and the present one last.
    """

    observations: tuple[RecordedObservation, ...]

    @property
    def present(self) -> RecordedObservation:
        return self.observations[-1]

    @property
    def instruction(self) -> str:
        return self.present.observation.instruction

    @property
    def checksum(self) -> int:
        """Return the CRC-32 of the present observation as it was recorded.

        It is equal in two banks of one observation.
        """
        present = self.present.observation
        images = (present.images[camera].tobytes() for camera in sorted(present.images))
        content = (present.instruction.encode(), present.state.tobytes(), *images)
        return zlib.crc32(b"".join(content))


def read_windows(
    recording: Iterable[RecordedObservation],
    n_obs_steps: int,
) -> Iterator[ObservationWindow]:
    """Yield the window of each decision: its observation and those of the steps just before it.

    A step that was not recorded ends the window's past.
    """
    past: list[RecordedObservation] = []
    for observation in recording:
        if past:
            before = past[-1]
            expected = (before.task, before.episode_index, before.step + 1)
            if (observation.task, observation.episode_index, observation.step) != expected:
                past = []
        past = [*past, observation][-n_obs_steps:]
        if observation.decided:
            yield ObservationWindow(tuple(past))


def cut_batches(
    windows: Iterator[ObservationWindow],
    batch_size: int,
) -> Iterator[list[ObservationWindow]]:
    """Yield batches with one instruction each.

    Some policy types pad the shorter of several instructions, and attend to the padding.
    """
    batch: list[ObservationWindow] = []
    for window in windows:
        if batch and ((len(batch) == batch_size) or window.instruction != batch[0].instruction):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
