import pytest

from sim.errors import UnknownNameError, WhiskerError
from sim.registry import make_env


def test_unknown_environment_names_the_closest():
    with pytest.raises(UnknownNameError, match="Did you mean 'so101/pick_place'"):
        make_env("so101/pickplace")


def test_unknown_camera_lists_those_there_are():
    with pytest.raises(WhiskerError, match="overhead_cam_depth"):
        make_env("so101/pick_place", image_sizes={"front_cam": (8, 8)})
