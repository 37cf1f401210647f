"""Encodes frames of film strips as JPEG so that all strips fit a budget of bytes."""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from sim.errors import WhiskerError

N_FRAMES = 5
# Height of a frame in px, and its bytes at quality 60, measured on the SO-101 with its lines.
_HEIGHTS = {240: 3900, 180: 2700, 120: 1700}
_QUALITIES = (80, 70, 60, 50, 40, 30)
_PREFIX = "data:image/jpeg;base64,"
# Share of the budget that the heights are chosen for; the rest absorbs frames of other sizes.
_PLANNED_SHARE = 0.75

Image = UInt8[np.ndarray, "_height _width 3"]


def make_data_url(jpeg: bytes) -> str:
    """Return a JPEG file as a URL that contains it."""
    return _PREFIX + base64.b64encode(jpeg).decode("ascii")


def count_url_bytes(jpeg: bytes) -> int:
    """Return the length of the data URL of a JPEG file."""
    n_triples = -(-len(jpeg) // 3)
    return len(_PREFIX) + 4 * n_triples


def choose_height(n_strips: int, max_total_bytes: int) -> tuple[int, int]:
    """Return the height of the frames in px, and the number of strips of that height that fit.

    Raises:
        WhiskerError: the budget does not hold a single strip.
    """
    smallest = min(_HEIGHTS)
    least_bytes = N_FRAMES * _HEIGHTS[smallest] * 4 // 3
    n_fitting = max_total_bytes // least_bytes
    if n_fitting < 1:
        raise WhiskerError(
            "film strips",
            expected=f"room for at least {least_bytes} bytes",
            got=str(max_total_bytes),
        )
    share = _PLANNED_SHARE * max_total_bytes / (N_FRAMES * max(1, n_strips))
    fitting = (height_px for height_px, n_bytes in _HEIGHTS.items() if n_bytes <= share)
    return next(fitting, smallest), min(n_strips, n_fitting)


class StripBudget:
    """Divides bytes among strips: each gets an equal share of what the earlier ones have left."""

    def __init__(
        self,
        n_bytes: int,
        n_strips: int,
    ) -> None:
        self._n_bytes = n_bytes
        self._n_strips = n_strips
        # Index of the quality to try first. Strips of a run need about the same quality.
        self._first = 0

    def encode(self, images: Sequence[Image]) -> list[bytes] | None:
        """Return the frames as JPEG files of the best quality at which they fit into their share.

        The lowest quality may also take more than the share. Return None if the frames do not fit.
        """
        share = self._n_bytes / self._n_strips
        self.skip()
        last = len(_QUALITIES) - 1
        for i in range(self._first, len(_QUALITIES)):
            files = [_encode(image, _QUALITIES[i]) for image in images]
            n_bytes = sum(map(count_url_bytes, files))
            limit = self._n_bytes if i == last else share
            if n_bytes <= limit:
                self._n_bytes -= n_bytes
                self._first = max(0, i - 1)
                return files
        return None

    def skip(self) -> None:
        """Note that a strip takes no bytes."""
        self._n_strips -= 1


def _encode(image: Image, quality: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(".jpg", bgr, options)
    assert done
    return content.tobytes()
