"""The page receives the recorded data and the images that the policy observed."""

import re
from urllib.request import urlopen

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.drivers import play_episode
from eval.evaluation import set_up
from eval.rollout import Decision, RolloutSettings
from sim.errors import WhiskerError
from tests.conftest import FAILING
from tests.exports import decode, read_inlined
from tests.runs import load_whiskers
from viz.image_encoding import BUDGET_BYTES, LOSSLESS, choose_encoding
from viz.page import export_episode, find_row
from viz.page_data import encode_array, scene_data


def decode_image(url):
    assert url.startswith("data:image/webp;base64,")
    with urlopen(url) as content:
        return iio.imread(content.read())


# The texts that an export reports, each with its number of steps.
PROGRESS = {
    "simulating the plans of prediction": 15,
    "rendering image": 30,
    "reading moment": 301,
}


@pytest.fixture(scope="module")
def said():
    """Return a list of the progress that the export reports."""
    return []


@pytest.fixture(scope="module")
def file(opened_run, failure, said, tmp_path_factory):
    """Return the failed episode's export."""
    return export_episode(
        opened_run,
        failure,
        tmp_path_factory.mktemp("export") / "failed.html",
        report=lambda *progress: said.append(progress),
    )


@pytest.fixture(scope="module")
def data(file):
    """Return the data that the export carries."""
    return read_inlined(file)


@pytest.fixture(scope="module")
def part(data):
    """Return the only part of the exported episode."""
    (part,) = data["episodes"]["pick_place/8"]["parts"]
    return part


@pytest.fixture(scope="module")
def arrays(opened_run, failure):
    """Return the recorded arrays of the exported episode."""
    return opened_run.load_arrays(failure)


def test_an_export_is_one_small_file_that_fetches_nothing(file):
    html = file.read_text()
    assert file.stat().st_size < 1.5e6
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", html)
    assert "default-src 'none'" in html


def test_an_export_says_how_far_it_is(file, said):
    for expected, n_all in PROGRESS.items():
        begun = [n_begun for text, n_begun, of in said if (text, of) == (expected, n_all)]
        assert begun == sorted(begun)
        assert begun[0] == 1
        assert n_all - begun[-1] < 2


def test_the_exported_arrays_are_the_recorded_ones(part, arrays, opened_run, failure):
    for name, expected in [
        ("state", arrays.state),
        ("action", arrays.action),
        ("ee", arrays.ee_pos_world),
        ("object", arrays.object_pos_world),
        ("progress", arrays.progress),
    ]:
        shown = decode(part["moments"][name])
        assert_array_equal(shown, expected.astype(shown.dtype))
    assert len(decode(part["moments"]["body_pose"])) == len(arrays.state) == 301
    decisions = part["decisions"]
    assert [decision["step"] for decision in decisions] == arrays.prediction_step.tolist()
    assert [decision["n_executed"] for decision in decisions] == arrays.n_executed.tolist()
    paths = load_whiskers(opened_run, failure).path_world.astype(np.float32)
    for decision, path, chunk in zip(
        decisions,
        paths,
        arrays.chunk,
        strict=True,
    ):
        assert_array_equal(decode(decision["path"]), path)
        assert_array_equal(decode(decision["chunk"]), chunk)


def test_the_images_are_what_the_policy_saw_bit_by_bit(part):
    setup = set_up(FAILING)
    shown = iter(part["decisions"])
    settings = RolloutSettings(setup.n_action_steps, max_steps=61)
    for event in play_episode(
        setup.env,
        setup.policy,
        8,
        settings,
    ):
        if isinstance(event, Decision):
            decision = next(shown)
            assert decision["step"] == event.step
            for camera, image in event.observation.images.items():
                view = decision["cameras"][camera]
                assert_array_equal(decode_image(view["src"]), image)
                projection = setup.env.projection(camera).ravel()
                assert_allclose(
                    np.ravel(view["projection"]),
                    projection,
                    rtol=1e-12,
                    atol=1e-12,
                )
    assert next(shown)["step"] == 80
    setup.env.close()


def test_the_bodies_of_a_moment_are_where_the_state_says(data, part, arrays):
    block = data["scenes"]["pick_place"]["bodies"].index("block")
    poses = decode(part["moments"]["body_pose"])
    assert_allclose(poses[:, block, :3], arrays.object_pos_world, atol=1e-6)


def test_a_mesh_survives_its_sixteen_bits(blind_env):
    meshes = blind_env.geometry().meshes
    for mesh, sent in zip(
        meshes,
        scene_data(blind_env)["meshes"],
        strict=True,
    ):
        vertices = np.array(sent["origin"]) + sent["step"] * decode(sent["vertices"])
        assert_allclose(vertices, mesh.vertices, atol=1e-5)
        assert_array_equal(decode(sent["faces"]), mesh.faces)


@pytest.mark.usefixtures("undrawable")
def test_what_cannot_be_drawn_is_shown_without_its_shapes(
    data, part, opened_run, failure, tmp_path
):
    """The images and the paths of the plans are the same; the page says why there is no scene."""
    bare = read_inlined(export_episode(opened_run, failure, tmp_path / "page.html"))
    scene = bare["scenes"]["pick_place"]
    assert scene["why_empty"] == (
        "so101/pick_place cannot be drawn in 3D: the environment has no capability 'drawable'."
    )
    assert "why_empty" not in data["scenes"]["pick_place"]
    assert not scene["shapes"]
    (bare_part,) = bare["episodes"]["pick_place/8"]["parts"]
    assert decode(bare_part["moments"]["body_pose"]).shape == (301, len(scene["bodies"]), 7)
    for decision, drawn in zip(bare_part["decisions"], part["decisions"], strict=True):
        assert decision["path"] == drawn["path"]
        for camera, view in decision["cameras"].items():
            assert view == drawn["cameras"][camera] | {"projection": None}


@pytest.mark.parametrize(
    "dtype",
    [np.float64, np.float32, np.int64, np.uint8, np.bool_, np.uint16],
)
def test_arrays_keep_shape_and_values(dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    assert_array_equal(
        decode(encode_array(array[:, ::-1])),
        array[:, ::-1],
    )
    assert decode(encode_array(array[:0])).shape == (0, 3, 4)


def draw_noise(*shape):
    return np.random.default_rng(0).integers(
        0,
        256,
        shape,
        dtype=np.uint8,
    )


def test_images_are_kept_bit_by_bit_while_there_is_room():
    small = list(draw_noise(40, 16, 20, 3))
    assert choose_encoding(small) == LOSSLESS
    assert choose_encoding([]) == LOSSLESS
    for image in small[:3]:
        assert_array_equal(
            decode_image(LOSSLESS.as_url(image)),
            image,
        )


@pytest.mark.parametrize(
    ("n_images", "edge_px"),
    [
        (30, 224),
        (600, 64),
        (600, 224),
        (600, 480),
    ],
)
def test_many_or_large_images_stay_within_the_budget(n_images, edge_px):
    """The images are smooth with a little noise, as those of a camera are."""
    image = cv2.resize(draw_noise(12, 12, 3), (edge_px, edge_px))
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    encoding = choose_encoding([image] * n_images)
    assert len(encoding.encode(image)) * n_images <= BUDGET_BYTES
    shown = cv2.resize(
        decode_image(encoding.as_url(image)),
        (edge_px, edge_px),
    )
    assert np.abs(shown.astype(int) - image).mean() < 10


def test_the_first_failure_is_opened_unless_another_is_asked_for(opened_run):
    success, failure = opened_run.rows
    assert find_row(opened_run, None) == failure
    assert find_row(opened_run, 7) == success
    expected = r"episode 3 in .*: expected one that was run, got episodes 7, 8"
    with pytest.raises(WhiskerError, match=expected):
        find_row(opened_run, 3)
    with pytest.raises(WhiskerError, match="none; its tasks are pick_place"):
        find_row(opened_run, None, "pour")
