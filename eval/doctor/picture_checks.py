"""Checks of the pictures by themselves: does every camera show something, and something else than the others?"""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from eval.doctor.finding import Finding, Level
from eval.doctor.patient import Patient

# A picture whose channels vary by no more than this shows one colour.
_ONE_COLOUR = 4


def check_pictures(patient: Patient) -> Iterator[Finding]:
    """Look for cameras that show nothing, never change while the expert works, or show what another one shows."""
    do = "Look at what the environment's `observe` hands over for that camera."
    ill = find_dead_cameras(patient)
    for camera, fault in ill.items():
        yield Finding("pictures", Level.ERROR, f"{camera} {fault}", f"over {_n_moments(patient)} moments", do)
    yield Finding("pictures", Level.FINE, "every camera shows a picture of its own that changes")


def find_dead_cameras(patient: Patient) -> dict[str, str]:
    """Return what is wrong with each camera that cannot be of use, by its name."""
    frames = _frames(patient)
    ill = {}
    for camera, shown in frames.items():
        if (np.ptp(shown, axis=(1, 2)) <= _ONE_COLOUR).all():
            ill[camera] = f"shows one colour, R, G, B {shown[0, 0, 0].tolist()}"
        elif len(shown) > 1 and (shown == shown[0]).all():
            ill[camera] = "is frozen: it shows the same picture while the arm moves"
    for one, other in itertools.combinations([camera for camera in sorted(frames) if camera not in ill], 2):
        if frames[one].shape == frames[other].shape and (frames[one] == frames[other]).all():
            ill[other] = f"shows the same picture as {one}"
    return ill


def _frames(patient: Patient) -> dict[str, UInt8[np.ndarray, "moment height width 3"]]:
    """Return what every camera shows in an episode of the expert, or at the start where there is none."""
    reference = patient.reference
    memories = (patient.first_memory,) if reference is None else reference.memories
    return {
        camera: np.stack([memory.present.images[camera] for memory in memories])
        for camera in patient.first_memory.present.images
    }


def _n_moments(patient: Patient) -> int:
    return 1 if patient.reference is None else len(patient.reference.memories)
