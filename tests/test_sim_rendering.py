from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from sim.rendering import grey_of_depth
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE

SIZES = {
    "overhead_cam": (128, 128),
    "wrist_cam": (128, 128),
}


@pytest.mark.parametrize("camera", SIZES)
def test_light_meshes_keep_the_look(camera):
    images = []
    for config in (DEFAULT_SCENE, replace(DEFAULT_SCENE, mesh_cell_m=0.0)):
        env = PickPlace("so101/pick_place", config, image_sizes={camera: SIZES[camera]})
        env.reset(0)
        images.append(env.observe().images[camera])
        env.close()
    assert structural_similarity(*images, channel_axis=-1) > 0.9
    assert (images[0] != images[1]).any(), "the original meshes were not rendered"


def test_sizes_are_those_asked_for():
    env = PickPlace(
        "so101/pick_place",
        image_sizes={
            "overhead_cam": (20, 30),
            "wrist_cam": (17, 13),
        },
    )
    images = env.observe().images
    assert images["overhead_cam"].shape == (20, 30, 3) and images["wrist_cam"].shape == (17, 13, 3)
    assert all(image.dtype == np.uint8 for image in images.values())
    env.close()


def test_depth_maps_linearly_and_is_cut_at_both_ends():
    depth_m = np.array([[0.0, 0.5, 1.0, 1.5, 9.0]], np.float32)
    assert grey_of_depth(depth_m, (0.5, 1.5))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
