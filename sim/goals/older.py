"""Reads goals from runs that were recorded before goals had kinds. They are stored as names."""

from collections.abc import Mapping

from sim.goals.articulated import ARTICULATED, VERBS
from sim.goals.goal import Goal
from sim.goals.pick_and_place import PICK_AND_PLACE


def read_older_goal(name: str, thresholds: Mapping[str, int | float]) -> Goal:
    """Return the goal of that name. Its first word shows which of the two former kinds it has.

    Args:
        thresholds: of all kinds together, as they were recorded.
    """
    kind = ARTICULATED if name.split()[0] in VERBS else PICK_AND_PLACE
    known = {key: thresholds[key] for key in kind.thresholds if key in thresholds}
    return kind.goal_of_values(name, known)
