"""What a policy sees at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True)
class Observation:
    """One look at the world, in the environment's own units.

    Attributes:
        images: camera name → `(height_px, width_px, 3)` RGB, upright, 0..255. A depth camera
            (`<camera>_depth`) is grey: `CameraSpec.depth_range_m` maps linearly to 0..255.
        state: `(state_dim,)` proprioception, named and in the units of `EnvSpec.state_names`.
        instruction: what the robot is told to do, in words.
    """

    images: Mapping[str, UInt8[np.ndarray, "_height _width 3"]]
    state: Float32[np.ndarray, " state_dim"]
    instruction: str
