"""Goals as runs recorded them before goals had kinds: as names alone."""

from collections.abc import Mapping

from sim.goals.articulated import ARTICULATED, VERBS
from sim.goals.goal import Goal
from sim.goals.pick_and_place import PICK_AND_PLACE


def read_older_goal(
    name: str,
    thresholds: Mapping[str, int | float],
) -> Goal:
    """Return the goal of that name. There were two kinds then, which the first word tells apart.

    Args:
        thresholds: of all kinds together, as they were recorded.
    """
    kind = ARTICULATED if name.split()[0] in VERBS else PICK_AND_PLACE
    known = {
        threshold: thresholds[threshold] for threshold in kind.thresholds if threshold in thresholds
    }
    return Goal(
        name,
        kind.name,
        tuple(kind.stages),
        tuple(kind.measures),
        kind.nears,
        known,
    )
