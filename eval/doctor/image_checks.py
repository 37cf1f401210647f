"""Checks of the images alone: every camera has to show a detailed, changing image of its own."""

import itertools

import numpy as np
from jaxtyping import UInt8

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fail, fine, warn

# An image whose channels vary by no more than this shows one colour.
_ONE_COLOUR = 4
# Share of the squared contrast above 1/16 and 1/8 of a cycle per pixel that is above twice that
# frequency. Rendered images have 0.38 to 0.65 and 0.31 to 0.43; images that were upscaled four
# times have at most 0.15 and 0.07.
_LEAST_DETAIL = (0.16, 0.10)
# Images with fewer pixels a side than this do not span four octaves.
_SMALL = 32


def check_pictures(context: CheckContext) -> Findings:
    """Look for cameras that show nothing, that are frozen, or that show another camera's image."""
    dead = find_dead_cameras(context)
    frames_by_camera = _frames(context)
    for camera, problem in dead.items():
        yield fail(
            "pictures",
            f"{camera} {problem}",
            f"over {len(frames_by_camera[camera])} moments",
            "Look at what the environment's `observe` returns for that camera.",
        )
    for camera, frames in frames_by_camera.items():
        is_small = min(frames.shape[1:3]) < _SMALL
        if camera not in dead and not is_small:
            yield from _check_detail(camera, frames)
    yield fine("pictures", "every camera shows an image of its own that changes")


def find_dead_cameras(context: CheckContext) -> dict[str, str]:
    """Return what is wrong with each camera that is of no use, by its name."""
    frames = _frames(context)
    dead = {}
    for camera, shown in frames.items():
        spread = np.ptp(shown, axis=(1, 2))
        if (spread <= _ONE_COLOUR).all():
            dead[camera] = f"shows one colour, R, G, B {shown[0, 0, 0].tolist()}"
        elif len(shown) > 1 and (shown == shown[0]).all():
            dead[camera] = "is frozen: it shows the same image while the arm moves"
    alive = [camera for camera in sorted(frames) if camera not in dead]
    for one, other in itertools.combinations(alive, 2):
        if np.array_equal(frames[one], frames[other]):
            dead[other] = f"shows the same image as {one}"
    return dead


def _check_detail(camera: str, frames: UInt8[np.ndarray, "moment height width 3"]) -> Findings:
    """Warn of images without detail: rendered smaller and upscaled, or out of focus."""
    coarse, fine = measure_detail(frames)
    least_coarse, least_fine = _LEAST_DETAIL
    if coarse < least_coarse and fine < least_fine:
        yield warn(
            "pictures",
            f"{camera} has no fine detail, as if it were rendered smaller and upscaled",
            f"{coarse:.0%} and {fine:.0%} of its contrast remain at each doubling of the frequency",
            (
                "Render it at the size that the policy observes, "
                "unless the training's images were like that."
            ),
        )


def measure_detail(frames: UInt8[np.ndarray, "moment height width 3"]) -> tuple[float, float]:
    """Return how much contrast is left at each doubling of the spatial frequency.

    These are shares of the squared contrast above 1/16 and 1/8 of a cycle per pixel: the part that
    is above twice that frequency.
    """
    grey = frames.astype(np.float64).mean(axis=-1)
    height, width = grey.shape[1:]
    contrast = grey - grey.mean(axis=(1, 2), keepdims=True)
    window = np.outer(np.hanning(height), np.hanning(width))  # the image borders are no detail
    power = np.square(np.abs(np.fft.fft2(contrast * window)))
    down = np.abs(np.fft.fftfreq(height))
    across = np.abs(np.fft.fftfreq(width))
    frequency = np.maximum(down[:, None], across)
    above_16th, above_8th, above_4th = (
        power[:, frequency > least].sum() for least in (1 / 16, 1 / 8, 1 / 4)
    )
    return above_8th / max(above_16th, 1e-9), above_4th / max(above_8th, 1e-9)


def _frames(context: CheckContext) -> dict[str, UInt8[np.ndarray, "moment height width 3"]]:
    """Return each camera's images in the expert's episode, or at the start without an expert."""
    reference = context.reference
    memories = (context.first_memory,) if reference is None else reference.memories
    return {
        camera: np.stack([memory.present.images[camera] for memory in memories])
        for camera in context.first_memory.present.images
    }
