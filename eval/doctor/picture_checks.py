"""Checks of the pictures by themselves: does every camera show something, and something else than the others?"""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level

# A picture whose channels vary by no more than this shows one colour.
_ONE_COLOUR = 4
# Of the squared contrast above a spatial frequency, the share above twice that. Rendered pictures
# have 0.38 to 0.65 and 0.31 to 0.43 of it at 1/16 and 1/8 of a cycle a pixel; blown up four times,
# at most 0.15 and 0.07.
_LEAST_DETAIL = (0.16, 0.10)
# Smaller pictures than this many pixels a side have no four octaves.
_SMALL = 32


def check_pictures(context: CheckContext) -> Iterator[Finding]:
    """Look for cameras that show nothing, never change while the expert works, or show what another one shows."""
    hint = "Look at what the environment's `observe` hands over for that camera."
    ill = find_dead_cameras(context)
    for camera, fault in ill.items():
        yield Finding(
            "pictures",
            Level.ERROR,
            f"{camera} {fault}",
            f"over {_n_moments(context)} moments",
            hint,
        )
    for camera, shown in _frames(context).items():
        if camera not in ill and min(shown.shape[1:3]) >= _SMALL:
            yield from _check_detail(camera, shown)
    yield Finding("pictures", Level.OK, "every camera shows a picture of its own that changes")


def find_dead_cameras(context: CheckContext) -> dict[str, str]:
    """Return what is wrong with each camera that cannot be of use, by its name."""
    frames = _frames(context)
    ill = {}
    for camera, shown in frames.items():
        if (np.ptp(shown, axis=(1, 2)) <= _ONE_COLOUR).all():
            ill[camera] = f"shows one colour, R, G, B {shown[0, 0, 0].tolist()}"
        elif len(shown) > 1 and (shown == shown[0]).all():
            ill[camera] = "is frozen: it shows the same picture while the arm moves"
    for one, other in itertools.combinations(
        [camera for camera in sorted(frames) if camera not in ill], 2
    ):
        if frames[one].shape == frames[other].shape and (frames[one] == frames[other]).all():
            ill[other] = f"shows the same picture as {one}"
    return ill


def _check_detail(
    camera: str, shown: UInt8[np.ndarray, "moment height width 3"]
) -> Iterator[Finding]:
    """Warn of pictures without detail: rendered smaller and blown up, or out of focus."""
    shares = measure_detail(shown)
    if all(share < least for share, least in zip(shares, _LEAST_DETAIL, strict=True)):
        finding = f"{camera} has no fine detail, as if it were rendered smaller and blown up"
        evidence = f"of its contrast, {shares[0]:.0%} and {shares[1]:.0%} remain at each doubling of the frequency"
        hint = "Render it at the size that the policy is shown, unless the training's pictures were like that."
        yield Finding("pictures", Level.WARNING, finding, evidence, hint)


def measure_detail(frames: UInt8[np.ndarray, "moment height width 3"]) -> tuple[float, float]:
    """Return, of the squared contrast above 1/16 and 1/8 of a cycle a pixel, the shares above twice that frequency."""
    grey = frames.astype(np.float64).mean(axis=-1)
    height, width = grey.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width))  # the edges are no detail
    power = np.square(np.abs(np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)))
    frequency = np.maximum(np.abs(np.fft.fftfreq(height))[:, None], np.abs(np.fft.fftfreq(width)))
    above = [power[:, frequency > least].sum() for least in (1 / 16, 1 / 8, 1 / 4)]
    return above[1] / max(above[0], 1e-9), above[2] / max(above[1], 1e-9)


def _frames(context: CheckContext) -> dict[str, UInt8[np.ndarray, "moment height width 3"]]:
    """Return what every camera shows in an episode of the expert, or at the start where there is none."""
    reference = context.reference
    memories = (context.first_memory,) if reference is None else reference.memories
    return {
        camera: np.stack([memory.present.images[camera] for memory in memories])
        for camera in context.first_memory.present.images
    }


def _n_moments(context: CheckContext) -> int:
    return 1 if context.reference is None else len(context.reference.memories)
