"""Defines what a policy sees at one time."""

from collections.abc import Mapping
from dataclasses import dataclass

from sim.arrays import Image, Rotation, StateVector


@dataclass(frozen=True)
class Observation:
    """One observation, in the environment's own units.

    Attributes:
        images: camera → `(height_px, width_px, 3)` RGB, upright, 0..255. A depth camera
            (`<camera>_depth`) is grey: `CameraSpec.depth_range_m` maps linearly to 0..255.
        state: `(state_dim,)` proprioception, with the names and units of `EnvSpec.state_names`.
        instruction: the task in words.
        tool_rotation: rotation of the tool [world] as the arm's controller last read it, which is
            what an absolute target rotates to. Only environments with absolute end-effector targets
            have it.
    """

    images: Mapping[str, Image]
    state: StateVector
    instruction: str
    tool_rotation: Rotation | None = None
