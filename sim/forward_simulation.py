"""Where a plan would lead: the physics run forward from a recorded moment, in an environment that is nobody else's."""

import numpy as np
from jaxtyping import Float, Float64

from sim.capabilities import Snapshots


def simulate_chunk(
    env: Snapshots,
    snapshot: Float64[np.ndarray, " snapshot_dim"],
    chunk: Float[np.ndarray, "horizon action_dim"],
) -> Float64[np.ndarray, "moment 3"]:
    """Path of the tool centre point that executing a chunk would produce, m, world: `horizon + 1` positions.

    Summing up the actions will not do: the controller does not reach its targets within a step (for
    LIBERO's differences the sum is wrong by up to 0.45 m), and what the arm runs into stops it.

    Args:
        env: of the task that the snapshot is of. Its own state is lost: never the one that an
            episode runs in.
        snapshot: in which the chunk was predicted; row 0 of the path is the position measured
            there.
        chunk: in the environment's units. The steps after which its physics diverged are nan.
    """
    env.restore(snapshot)
    return env.simulate_ee_path(chunk)
