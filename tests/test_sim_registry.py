import subprocess
import sys

import pytest

from sim.errors import UnknownNameError, WhiskerError
from sim.registry import camera_names, expand_env, family_of, list_envs, make_env, task_of
from sim.so101.family import ENVIRONMENTS


def test_unknown_environment_names_the_closest():
    with pytest.raises(UnknownNameError, match="Did you mean 'so101/pick_place'"):
        make_env("so101/pickplace")


def test_unknown_camera_lists_those_there_are():
    with pytest.raises(WhiskerError, match="overhead_cam_depth"):
        make_env("so101/pick_place", image_sizes={"front_cam": (8, 8)})


@pytest.mark.parametrize("name", ["so101/pick_place", "so101/pick_place@my/scene.xml"])
def test_a_name_of_one_stands_for_itself(name):
    assert expand_env(name) == (name,)
    assert task_of(name) == "pick_place" and not family_of(name).in_own_process


def test_a_suite_cannot_be_made_as_one():
    with pytest.raises(
        WhiskerError,
        match=r"'libero_goal': expected a single one, got a suite of 10.*libero_goal/0 to",
    ):
        make_env("libero_goal")


def test_libero_is_looked_up_in_a_table_of_its_own():
    spatial = expand_env("libero_spatial")
    assert expand_env(spatial[3]) == (spatial[3],)
    words = task_of(spatial[3]).partition("/")[2]
    assert words.startswith("pick_up_the_black_bowl") and expand_env(words) == (spatial[3],)
    assert len({task_of(name) for name in spatial}) == 10
    assert (
        camera_names(spatial[0])[:2] == ("image", "image2") and family_of(spatial[0]).in_own_process
    )


def test_the_field_calls_libero_10_libero_long_too():
    assert expand_env("libero_long") == expand_env("libero_10")
    assert expand_env("libero_long/3") == ("libero_10/3",) and task_of("libero_long/3") == task_of(
        "libero_10/3"
    )


def test_names_with_a_comma_between_them_stand_for_all_of_them():
    names = expand_env("libero_goal, libero_spatial/3")
    assert names == (*expand_env("libero_goal"), "libero_spatial/3")
    assert len({task_of(name) for name in names}) == 11
    with pytest.raises(
        WhiskerError,
        match=r"--env libero_goal,so101/pick_place: .*got 'so101/pick_place'. Run other",
    ):
        expand_env("libero_goal,so101/pick_place")
    with pytest.raises(UnknownNameError, match="Did you mean 'libero_spatial'"):
        expand_env("libero_goal,libero_spatail")
    with pytest.raises(WhiskerError, match="expected a single one, got a suite of 2"):
        make_env("libero_goal/0,libero_goal/1")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_said_without_building_is_what_is_built(name):
    (listed,) = (listing for listing in list_envs() if listing.name == name)
    spec = make_env(name, image_sizes={}).spec
    assert (listed.instruction, listed.max_steps, task_of(name)) == (
        spec.instruction,
        spec.max_steps,
        spec.task,
    )
    assert camera_names(name) == spec.camera_names and len(spec.goals) == 1


def test_control_is_liberos_alone():
    with pytest.raises(
        WhiskerError,
        match=(
            r"absolute in 'so101/pick_place': expected an environment of robosuite or LIBERO\. "
            r".*so101/pick_place_ee_delta"
        ),
    ):
        make_env("so101/pick_place", image_sizes={}, control="absolute")


def last_line_of(code):
    """Return the last line that a new interpreter prints."""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    return printed.splitlines()[-1]


def test_looking_names_up_imports_no_simulator():
    code = (
        "import sys\n"
        "from sim.registry import camera_names, expand_env, list_envs, task_of\n"
        "names = [listing.name for listing in list_envs()]\n"
        "assert names[:2] == ['so101/pick_place', 'so101/pick_place_range'] "
        "and 'libero_goal/9' in names\n"
        "[task_of(name) for name in (*expand_env('libero_goal'), 'so101/pick_place_brick')]\n"
        "camera_names('libero_goal/0')\n"
        "print([m for m in ('mujoco', 'robosuite', 'torch', 'libero.libero.envs') "
        "if m in sys.modules])"
    )
    assert last_line_of(code) == "[]"


def test_the_so101_needs_no_table_of_libero():
    code = (
        "import sys\n"
        "from sim.registry import expand_env, list_envs, make_env\n"
        "next(list_envs())\n"
        "make_env(*expand_env('so101/pick_place'), image_sizes={})\n"
        "print([m for m in sys.modules if 'libero' in m])"
    )
    assert last_line_of(code) == "[]"
