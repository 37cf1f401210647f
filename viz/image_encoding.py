"""Camera images as a page carries them: bit by bit where there is room, and as well as there is room for else."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

# For all images of an episode: with what else there is a page of 300 steps stays below 4 MB.
BUDGET_BYTES = 1_700_000
_N_TRIED = 6

_Image = UInt8[np.ndarray, "_height _width 3"]


@dataclass(frozen=True)
class ImageEncoding:
    """WebP.

    Attributes:
        quality: up to 100; above, nothing is lost.
        largest_px: images with a longer edge are made smaller; None: none are.
    """

    quality: int
    largest_px: int | None = None

    def encode(self, image: _Image) -> bytes:
        """An RGB image as a WebP file."""
        edge_px = max(image.shape[:2])
        if self.largest_px and edge_px > self.largest_px:
            scale = self.largest_px / edge_px
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_WEBP_QUALITY, self.quality]
        done, content = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        assert done
        return content.tobytes()

    def as_url(self, image: _Image) -> str:
        return "data:image/webp;base64," + base64.b64encode(self.encode(image)).decode("ascii")


LOSSLESS = ImageEncoding(101)
_LADDER = (
    LOSSLESS,
    ImageEncoding(85),
    ImageEncoding(60),
    ImageEncoding(60, 160),
    ImageEncoding(40, 96),
)


def choose_encoding(images: Sequence[_Image], budget_bytes: int = BUDGET_BYTES) -> ImageEncoding:
    """The best in which all of them together stay within the budget, judged by a few; else the smallest."""
    tried = (
        [images[i] for i in np.linspace(0, len(images) - 1, _N_TRIED).astype(int)] if images else []
    )
    for encoding in _LADDER:
        mean_bytes = sum(len(encoding.encode(image)) for image in tried) / _N_TRIED
        if mean_bytes * len(images) <= budget_bytes:
            return encoding
    return _LADDER[-1]
