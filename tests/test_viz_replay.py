"""A run is seen again in a second copy of its world."""

import warnings
from importlib.metadata import version

import pytest

from sim.errors import WhiskerWarning
from viz.replay import opened_replay_env


def described(mujoco_version):
    return {
        "config": {},
        "env": {"name": "so101/pick_place"},
        "policy": {"image_sizes": {"overhead_cam": [32, 32]}},
        "tasks": {"pick_place": "so101/pick_place"},
        "versions": {"mujoco": mujoco_version},
    }


def test_a_run_of_another_mujoco_is_shown_with_a_warning():
    with (
        pytest.warns(WhiskerWarning, match=r"made under MuJoCo 3\.17\.0 and is replayed under 3\."),
        opened_replay_env(described("3.17.0"), "pick_place") as env,
    ):
        assert env.observe().images["overhead_cam"].shape == (32, 32, 3)


def test_a_run_of_this_mujoco_needs_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error", WhiskerWarning)
        with opened_replay_env(described(version("mujoco")), "pick_place"):
            pass
