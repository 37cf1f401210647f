"""Reads from a checkpoint's config.json what is refused before the seconds that importing lerobot takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.lerobot_types import LEROBOT_TYPES


@dataclass(frozen=True)
class DeclaredPolicy:
    """The attributes of `policies.policy.PolicySpec` of the same names, as far as config.json tells.

    Attributes:
        image_sizes: {} where it does not tell.
        chunk_size: None where it does not tell.
        max_action_steps: likewise.
    """

    type: str
    checkpoint: str
    image_sizes: Mapping[str, tuple[int, int]]
    chunk_size: int | None
    max_action_steps: int | None


def read_declared_policy(settings: Mapping[str, Any], checkpoint: str) -> DeclaredPolicy:
    """Return what config.json declares. What is not as lerobot writes it is left to lerobot's own reading.

    Args:
        settings: of config.json.
        checkpoint: its name, for messages.
    """
    chunk_size = (
        settings.get("chunk_size") if LEROBOT_TYPES[settings["type"]].declares_chunk_size else None
    )
    if not isinstance(chunk_size, int):
        chunk_size = None
    is_ensembling = settings.get("temporal_ensemble_coeff") is not None
    max_action_steps = 1 if chunk_size is not None and is_ensembling else chunk_size
    return DeclaredPolicy(
        settings["type"], checkpoint, _read_image_sizes(settings), chunk_size, max_action_steps
    )


def _read_image_sizes(settings: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return camera → (height_px, width_px).

    Views that a policy fills by itself are none of its cameras.
    """
    features = settings.get("input_features")
    sizes = {}
    for key, feature in features.items() if isinstance(features, dict) else ():
        match feature:
            case {"type": "VISUAL", "shape": [3, int(height_px), int(width_px)]} if (
                "empty_camera" not in key
            ):
                camera = key.removeprefix("observation.images.").removeprefix("observation.")
                sizes[camera] = height_px, width_px
    return sizes
