"""Array types of the environment contract, with their shapes and units."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

# One action, and the actions of a chunk, in the units of `ActionSpec`.
Action = Float[np.ndarray, " action_dim"]
Chunk = Float[np.ndarray, "horizon action_dim"]
# Proprioception, in the units of `EnvSpec.state_units`.
StateVector = Float32[np.ndarray, " state_dim"]
# Everything that the future of an environment depends on.
SnapshotVector = Float64[np.ndarray, " snapshot_dim"]
# A position [m], or a rotation vector [rad].
Vector3 = Float64[np.ndarray, "3"]
# A rotation matrix, whose columns are the axes of the turned frame.
Rotation = Float32[np.ndarray, "3 3"]
# Positions [m] of the tool centre point in the world, before a chunk and after each of its steps.
EePath = Float64[np.ndarray, "time 3"]
# RGB, upright, 0..255.
Image = UInt8[np.ndarray, "_height _width 3"]
# Camera → (height_px, width_px) of exactly the cameras to observe.
ImageSizes = Mapping[str, tuple[int, int]]
# Maps points of the world [m] to pixels (`sim.capabilities.Drawable.projection`).
ProjectionMatrix = Float64[np.ndarray, "3 4"]
# Positions [m] and quaternions wxyz in the world.
BodyPoses = Float32[np.ndarray, "body 7"]
