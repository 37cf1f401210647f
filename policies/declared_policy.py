"""Read a policy's sizes from its config.json, without the seconds that importing lerobot takes.

Checks that need only these can then refuse a run at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from policies.lerobot_types import LEROBOT_TYPES, Settings, camera_of_feature


@dataclass(frozen=True)
class DeclaredPolicy:
    """Fields of `policies.policy.PolicySpec` with the same names, as far as config.json has them.

    Attributes:
        image_sizes: {} if unknown.
        chunk_size: None if unknown.
        max_action_steps: None if unknown.
    """

    type: str
    checkpoint: str
    image_sizes: Mapping[str, tuple[int, int]]
    chunk_size: int | None
    max_action_steps: int | None


def read_declared_policy(settings: Settings, checkpoint: str) -> DeclaredPolicy:
    """Return the declarations of a config.json.

    Settings that are not as lerobot writes them count as unknown; lerobot reports them when it
    reads the file.

    Args:
        settings: the content of config.json.
        checkpoint: its name, for messages.
    """
    policy_type = settings["type"]
    chunk_size = settings.get("chunk_size")
    if not (LEROBOT_TYPES[policy_type].declares_chunk_size and isinstance(chunk_size, int)):
        chunk_size = None
    is_ensembling = settings.get("temporal_ensemble_coeff") is not None
    must_predict_each_step = chunk_size is not None and is_ensembling
    return DeclaredPolicy(
        type=policy_type,
        checkpoint=checkpoint,
        image_sizes=_read_image_sizes(settings),
        chunk_size=chunk_size,
        max_action_steps=1 if must_predict_each_step else chunk_size,
    )


def _read_image_sizes(settings: Settings) -> dict[str, tuple[int, int]]:
    """Return camera → (height_px, width_px).

    Empty views, which a policy fills in by itself, are not included.
    """
    features = settings.get("input_features")
    if not isinstance(features, dict):
        return {}
    sizes = {}
    for key, feature in features.items():
        match feature:
            case {"type": "VISUAL", "shape": [3, int(height_px), int(width_px)]} if (
                "empty_camera" not in key
            ):
                sizes[camera_of_feature(key)] = (height_px, width_px)
    return sizes
