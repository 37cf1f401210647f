"""The kind of goal in which a tool wipes markers off a surface."""

from sim.goals.goal import GoalKind

WIPE = GoalKind(
    name="wipe",
    stages={
        "reached": "the tool is at a marker, so near that it could wipe it off",
        "begun": "a marker is wiped off",
        "half": "half of the markers are wiped off",
        "cleaned": "all markers are wiped off",
    },
    measures={
        "markers_left": "number of markers that are not wiped off",
        "force_n": "normal force of the tool's contacts in the last physics step",
    },
    nears="markers_left",
    thresholds={
        "stalled_m": "coming closer by less than this is no progress",
        "stalled": "wiping fewer markers than this is no progress",
        "stalled_steps": "control steps without progress at the end that distinguish a stalled "
        "episode from a short one",
    },
)
