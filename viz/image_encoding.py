"""Encodes camera images for the page: lossless if they fit the size budget, else at lower quality.

The quality is the best one at which they fit.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

# Budget of all images of an episode. With it, a whole page of 300 steps stays below 4 MB.
BUDGET_BYTES = 1_700_000
_N_SAMPLES = 6

_Image = UInt8[np.ndarray, "_height _width 3"]


@dataclass(frozen=True)
class ImageEncoding:
    """Encodes images as WebP.

    Attributes:
        quality: WebP quality up to 100; above 100 the encoding is lossless.
        largest_px: images with a longer edge are scaled down to it; None: never.
    """

    quality: int
    largest_px: int | None = None

    def encode(self, image: _Image) -> bytes:
        """Return an RGB image as the content of a WebP file."""
        edge_px = max(image.shape[:2])
        if self.largest_px and edge_px > self.largest_px:
            scale = self.largest_px / edge_px
            image = cv2.resize(
                image,
                None,
                fx=scale,
                fy=scale,
                interpolation=cv2.INTER_AREA,
            )
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        options = [cv2.IMWRITE_WEBP_QUALITY, self.quality]
        done, content = cv2.imencode(".webp", bgr, options)
        assert done
        return content.tobytes()

    def as_url(self, image: _Image) -> str:
        """Return an RGB image as a data URL."""
        content = base64.b64encode(self.encode(image))
        return "data:image/webp;base64," + content.decode("ascii")


LOSSLESS = ImageEncoding(101)
_BEST_FIRST = (
    LOSSLESS,
    ImageEncoding(85),
    ImageEncoding(60),
    ImageEncoding(60, 160),
    ImageEncoding(40, 96),
)


def choose_encoding(
    images: Sequence[_Image],
    budget_bytes: int = BUDGET_BYTES,
) -> ImageEncoding:
    """Return the best encoding in which all images together fit the budget.

    Their size is estimated from six of them. If no encoding fits, the smallest is returned.
    """
    if not images:
        return LOSSLESS
    indices = np.linspace(0, len(images) - 1, _N_SAMPLES).astype(int)
    samples = [images[index] for index in indices]
    for encoding in _BEST_FIRST:
        mean_bytes = sum(len(encoding.encode(sample)) for sample in samples) / _N_SAMPLES
        if mean_bytes * len(images) <= budget_bytes:
            return encoding
    return _BEST_FIRST[-1]
