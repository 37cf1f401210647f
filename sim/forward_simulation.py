"""Simulates the path of a planned action chunk from a recorded state."""

from sim.arrays import Chunk, EePath, SnapshotVector
from sim.capabilities import Snapshots


def simulate_chunk(
    env: Snapshots,
    snapshot: SnapshotVector,
    chunk: Chunk,
) -> EePath:
    """Return the path of the tool centre point while a chunk is executed.

    Adding up the actions is no substitute: the controller does not reach its targets within a step
    (for LIBERO's delta actions the sum is wrong by up to 0.45 m), and obstacles stop the arm.

    Args:
        env: an environment of the snapshot's task. Its own state is lost, so never pass the one
            that an episode runs in.
        snapshot: state in which the chunk was predicted.
        chunk: in the environment's units.

    Returns:
        Positions in the world [m]: row 0 is measured in the snapshot, row k after step k. Rows are
        nan after a step at which the physics diverged.
    """
    env.restore(snapshot)
    return env.simulate_ee_path(chunk)
