from contextlib import closing
from dataclasses import replace

import numpy as np
from skimage.metrics import structural_similarity

from sim.rendering import grey_of_depth
from sim.so101.pick_place import PickPlace
from sim.so101.scene_config import DEFAULT_SCENE

SIZES = {
    "overhead_cam": (128, 128),
    "wrist_cam": (128, 128),
}


def render(scene, image_sizes):
    with closing(PickPlace("so101/pick_place", scene, image_sizes=image_sizes)) as env:
        env.reset(0)
        return env.observe().images


def test_one_that_is_closed_leaves_the_images_of_another_as_they_are():
    """MuJoCo's own renderer deletes textures by number, in whichever context is current."""
    first, second = (
        PickPlace("so101/pick_place", DEFAULT_SCENE, image_sizes=SIZES) for _ in range(2)
    )
    images = []
    for env in (first, second):
        env.reset(0)
        images.append(env.observe().images)
    first.close()
    with closing(second):
        for _ in range(3):
            second.reset(0)
            images.append(second.observe().images)
    for seen in images:
        for camera in SIZES:
            np.testing.assert_array_equal(seen[camera], images[0][camera])


def test_light_meshes_keep_the_look():
    sizes = dict.fromkeys(("overhead_cam", "wrist_cam"), (128, 128))
    light = render(DEFAULT_SCENE, sizes)
    heavy = render(
        replace(DEFAULT_SCENE, mesh_cell_m=0.0),
        sizes,
    )
    for camera in sizes:
        assert (
            structural_similarity(
                light[camera],
                heavy[camera],
                channel_axis=-1,
            )
            > 0.9
        )
        assert (light[camera] != heavy[camera]).any(), "the original meshes were not rendered"


def test_sizes_are_those_asked_for():
    sizes = {
        "overhead_cam": (20, 30),
        "wrist_cam": (17, 13),
    }
    for camera, image in render(DEFAULT_SCENE, sizes).items():
        assert image.shape == (*sizes.pop(camera), 3) and image.dtype == np.uint8
    assert not sizes


def test_depth_maps_linearly_and_is_cut_at_both_ends():
    depth_m = np.array([[0.0, 0.5, 1.0, 1.5, 9.0]], np.float32)
    assert grey_of_depth(depth_m, (0.5, 1.5))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
