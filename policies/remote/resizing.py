"""Resizes images as openpi's clients do before they send them."""

import numpy as np
from PIL import Image

from sim import arrays


def resize_with_pad(image: arrays.Image, height_px: int, width_px: int) -> arrays.Image:
    """Return the image scaled into a size, with black bars where its aspect ratio is another one.

    The result equals openpi's `resize_with_pad` bit by bit (openpi_client/image_tools.py): bilinear
    scaling by Pillow, and lengths that are cut to whole pixels. An image that has the size already
    is returned unchanged.
    """
    own_height_px, own_width_px, _ = image.shape
    if (own_height_px, own_width_px) == (height_px, width_px):
        return image
    factor = max(own_width_px / width_px, own_height_px / height_px)
    scaled_width_px = int(own_width_px / factor)
    scaled_height_px = int(own_height_px / factor)
    scaled = Image.fromarray(image).resize(
        (scaled_width_px, scaled_height_px),
        resample=Image.Resampling.BILINEAR,
    )
    padded = np.zeros((height_px, width_px, 3), np.uint8)
    top_px = int((height_px - scaled_height_px) / 2)
    left_px = int((width_px - scaled_width_px) / 2)
    below_px = top_px + scaled_height_px
    right_px = left_px + scaled_width_px
    padded[top_px:below_px, left_px:right_px] = np.asarray(scaled)
    return padded
