"""The table of policy types that Whisker runs without lerobot: one row a type.

Neither torch nor transformers is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NativeType:
    """Facts about one policy type.

    Attributes:
        factory: import string of the function that makes the policy. It takes the spec of an
            environment or None, an opened `NativeCheckpoint`, and a device.
        weights: how the files of a checkpoint with its weights end.
        takes: the value of `--checkpoint`, in words.
        plans_alone: why it cannot plan for several episodes in one forward pass; "" if it can.
    """

    factory: str
    weights: str
    takes: str
    plans_alone: str = ""


NATIVE_TYPES: Mapping[str, NativeType] = {
    "open_pi_zero": NativeType(
        factory="policies.native.pi_zero_policy:load_open_pi_zero",
        weights=".pt",
        takes="a .pt file of open-pi-zero, or a folder with one",
    ),
    "spatialvla": NativeType(
        factory="policies.native.spatial_vla_policy:load_spatial_vla",
        weights=".safetensors",
        takes="a folder that SpatialVLA's `save_pretrained` wrote",
        plans_alone="one that decodes for one episode at a time",
    ),
}
