"""The page receives the recorded data and the images that the policy observed."""

import base64
import gzip
import json
import re

import cv2
import numpy as np
import pytest

from eval.drivers import play_episode
from eval.episode_row import load_rows
from eval.evaluation import set_up
from eval.rollout import Decision, RolloutSettings
from eval.run import Run
from sim.capabilities import Drawable
from sim.errors import WhiskerError
from tests.conftest import FAILING
from tests.runs import load_whiskers
from tests.without import Without
from viz.image_encoding import BUDGET_BYTES, LOSSLESS, choose_encoding
from viz.page import export_episode, find_row
from viz.page_data import encode_array, scene_data


def decode(array):
    content = np.frombuffer(
        base64.b64decode(array["base64"]),
        np.dtype(array["dtype"]),
    )
    return content.reshape(array["shape"])


def decode_image(url):
    assert url.startswith("data:image/webp;base64,")
    content = np.frombuffer(
        base64.b64decode(url.partition(",")[2]),
        np.uint8,
    )
    return cv2.cvtColor(
        cv2.imdecode(content, cv2.IMREAD_COLOR),
        cv2.COLOR_BGR2RGB,
    )


def read_inlined(file):
    """Return the data that an export carries."""
    (packed,) = re.findall(r'id="inlined">([^<]*)<', file.read_text())
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture(scope="module")
def page(failed_run, tmp_path_factory):
    """Return the file and the data of the failed episode's export."""
    file = tmp_path_factory.mktemp("export") / "failed.html"
    export_episode(
        Run.open(failed_run),
        find_row(Run.open(failed_run), 8),
        file,
    )
    return file, read_inlined(file)


def test_an_export_is_one_small_file_that_fetches_nothing(page):
    file, _ = page
    html = file.read_text()
    assert file.stat().st_size < 1.5e6
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", html)
    assert "default-src 'none'" in html


def test_an_export_says_how_far_it_is(failed_run, tmp_path):
    said = []
    run = Run.open(failed_run)
    export_episode(
        run,
        find_row(run, 8),
        tmp_path / "page.html",
        report=lambda *progress: said.append(progress),
    )
    for what, n_all in (
        ("simulating the plans of prediction", 15),
        ("rendering image", 30),
        ("reading moment", 301),
    ):
        begun = [n_begun for said_what, n_begun, of in said if said_what == what and of == n_all]
        assert begun == sorted(begun) and begun[0] == 1 and n_all - begun[-1] < 2


def test_the_exported_arrays_are_the_recorded_ones(page, failed_run):
    _, data = page
    row = find_row(Run.open(failed_run), 8)
    arrays = Run.open(failed_run).load_arrays(row)
    whiskers = load_whiskers(Run.open(failed_run), row)
    (part,) = data["episodes"]["pick_place/8"]["parts"]
    for name, expected in [
        ("state", arrays.state),
        ("action", arrays.action),
        ("ee", arrays.ee_pos_world),
        ("object", arrays.object_pos_world),
        ("progress", arrays.progress),
    ]:
        np.testing.assert_array_equal(
            decode(part["moments"][name]), expected.astype(decode(part["moments"][name]).dtype)
        )
    assert len(decode(part["moments"]["body_pose"])) == len(arrays.state) == 301
    assert [decision["step"] for decision in part["decisions"]] == arrays.prediction_step.tolist()
    for index, decision in enumerate(part["decisions"]):
        np.testing.assert_array_equal(
            decode(decision["path"]), whiskers.path_world[index].astype(np.float32)
        )
        np.testing.assert_array_equal(decode(decision["chunk"]), arrays.chunk[index])
        assert decision["n_executed"] == arrays.n_executed[index]


def test_the_images_are_what_the_policy_saw_bit_by_bit(page):
    _, data = page
    setup = set_up(FAILING)
    (part,) = data["episodes"]["pick_place/8"]["parts"]
    shown = iter(part["decisions"])
    for event in play_episode(
        setup.env, setup.policy, 8, RolloutSettings(setup.n_action_steps, max_steps=61)
    ):
        if isinstance(event, Decision):
            decision = next(shown)
            assert decision["step"] == event.step
            for camera, image in event.observation.images.items():
                np.testing.assert_array_equal(
                    decode_image(decision["cameras"][camera]["src"]), image
                )
                projection = np.reshape(
                    decision["cameras"][camera]["projection"],
                    (3, 4),
                )
                np.testing.assert_allclose(
                    projection, setup.env.projection(camera), rtol=1e-12, atol=1e-12
                )
    assert next(shown)["step"] == 80
    setup.env.close()


def test_the_bodies_of_a_moment_are_where_the_state_says(page, failed_run, blind_env):
    _, data = page
    arrays = Run.open(failed_run).load_arrays(find_row(Run.open(failed_run), 8))
    (part,) = data["episodes"]["pick_place/8"]["parts"]
    bodies = data["scenes"]["pick_place"]["bodies"]
    poses = decode(part["moments"]["body_pose"])
    np.testing.assert_allclose(
        poses[:, bodies.index("block"), :3], arrays.object_pos_world, atol=1e-6
    )


def test_a_mesh_survives_its_sixteen_bits(blind_env):
    geometry = blind_env.geometry()
    for mesh, sent in zip(
        geometry.meshes,
        scene_data(blind_env)["meshes"],
        strict=True,
    ):
        vertices = np.array(sent["origin"]) + sent["step"] * decode(sent["vertices"])
        np.testing.assert_allclose(vertices, mesh.vertices, atol=1e-5)
        np.testing.assert_array_equal(decode(sent["faces"]), mesh.faces)


def test_what_cannot_be_drawn_is_shown_without_its_shapes(page, failed_run, monkeypatch, tmp_path):
    """The images and the paths of the plans are the same; the page says why there is no scene."""
    _, whole = page
    open_env = Run.open_env
    monkeypatch.setattr(
        Run, "open_env", lambda run, *asked: Without(open_env(run, *asked), Drawable)
    )
    run = Run.open(failed_run)
    data = read_inlined(export_episode(run, find_row(run, 8), tmp_path / "page.html"))
    scene = data["scenes"]["pick_place"]
    assert scene["why_empty"] == (
        "so101/pick_place cannot be drawn in 3D: the environment has no capability 'drawable'."
    )
    assert "why_empty" not in whole["scenes"]["pick_place"] and not scene["shapes"]
    (part,), (other,) = (pages["episodes"]["pick_place/8"]["parts"] for pages in (data, whole))
    assert decode(part["moments"]["body_pose"]).shape == (301, len(scene["bodies"]), 7)
    for decision, drawn in zip(part["decisions"], other["decisions"], strict=True):
        assert decision["path"] == drawn["path"]
        for camera, view in decision["cameras"].items():
            assert view == drawn["cameras"][camera] | {"projection": None}


@pytest.mark.parametrize(
    "dtype",
    [np.float64, np.float32, np.int64, np.uint8, np.bool_, np.uint16],
)
def test_arrays_keep_shape_and_values(dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    np.testing.assert_array_equal(
        decode(encode_array(array[:, ::-1])),
        array[:, ::-1],
    )
    assert decode(encode_array(array[:0])).shape == (0, 3, 4)


def test_images_are_kept_bit_by_bit_while_there_is_room():
    rng = np.random.default_rng(0)
    small = [
        rng.integers(
            0,
            256,
            (16, 20, 3),
            dtype=np.uint8,
        )
        for _ in range(40)
    ]
    assert choose_encoding(small) == LOSSLESS and choose_encoding([]) == LOSSLESS
    for image in small[:3]:
        np.testing.assert_array_equal(
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
    rng = np.random.default_rng(0)
    image = cv2.resize(
        rng.integers(
            0,
            256,
            (12, 12, 3),
            dtype=np.uint8,
        ),
        (edge_px, edge_px),
    )
    image = np.clip(
        image + rng.normal(0, 2, image.shape),
        0,
        255,
    ).astype(np.uint8)
    encoding = choose_encoding([image] * n_images)
    assert len(encoding.encode(image)) * n_images <= BUDGET_BYTES
    shown = cv2.resize(
        decode_image(encoding.as_url(image)),
        (edge_px, edge_px),
    )
    assert np.abs(shown.astype(int) - image).mean() < 10


def test_the_first_failure_is_opened_unless_another_is_asked_for(failed_run):
    assert find_row(Run.open(failed_run), None).episode_index == 8
    assert find_row(Run.open(failed_run), 7).success and len(load_rows(failed_run)) == 2
    with pytest.raises(
        WhiskerError, match=r"episode 3 in .*: expected one that was run, got episodes 7, 8"
    ):
        find_row(Run.open(failed_run), 3)
    with pytest.raises(WhiskerError, match="none; its tasks are pick_place"):
        find_row(Run.open(failed_run), None, "pour")
