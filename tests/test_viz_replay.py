"""A run is replayed in a second copy of its environment."""

import warnings
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version

import pytest

from eval.run import Run
from sim.errors import WhiskerWarning
from tests.runs import describe_run
from viz.replay import open_replay_env


@pytest.fixture
def run_under(blind_env, tmp_path):
    """Return a function that makes a run under a given version of MuJoCo.

    Its policy has one camera.
    """

    def describe(mujoco_version):
        description = describe_run(blind_env, versions={"mujoco": mujoco_version})
        looking = replace(description.policy, image_sizes={"overhead_cam": (32, 32)})
        return Run(
            tmp_path,
            replace(description, policy=looking),
        )

    return describe


def test_a_run_of_another_mujoco_is_shown_with_a_warning(run_under):
    expected = r"made under MuJoCo 3\.17\.0 and is replayed under 3\."
    with pytest.warns(WhiskerWarning, match=expected) as warned:
        env = open_replay_env(run_under("3.17.0"), "pick_place")
    assert len(warned) == 1
    with closing(env):
        assert env.observe().images["overhead_cam"].shape == (32, 32, 3)


def test_a_run_of_this_mujoco_needs_none(run_under):
    with warnings.catch_warnings():
        warnings.simplefilter("error", WhiskerWarning)
        open_replay_env(run_under(version("mujoco")), "pick_place").close()


def test_of_a_policy_that_does_not_look_two_cameras_are_shown(blind_env, tmp_path):
    run = Run(tmp_path, describe_run(blind_env))
    with closing(open_replay_env(run, "pick_place")) as env:
        first, second = env.spec.cameras
        assert (first.name, second.name) == blind_env.spec.camera_names[:2]
