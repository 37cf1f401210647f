import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
from lerobot.processor import PolicyProcessorPipeline
from lerobot.transforms import ImageTransformsConfig

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.training_record import TrainingRecord, load_training_record
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.lerobot_batches import make_lerobot_batch
from tests.small_checkpoints import (
    ACTION_NAMES,
    CAMERAS,
    IMAGE_PX,
    make_relative,
    save_small_act,
    save_small_checkpoint,
)
from tests.training_files import (
    PREFIX,
    create_dataset,
    dataset_stats,
    rename_cameras,
    save_train_config,
)


@pytest.fixture
def checkpoint(small_act, tmp_path):
    """Return a copy with overhead_cam and wrist_cam that a test may change."""
    return shutil.copytree(small_act, tmp_path / "checkpoint")


def test_a_checkpoint_that_says_nothing_of_its_training_is_quiet(checkpoint):
    record = load_training_record(checkpoint)
    # Only the checkpoint's statistics tell which cameras there were.
    assert record == TrainingRecord(
        cameras=frozenset(CAMERAS), cameras_with_stats=frozenset(CAMERAS)
    )
    assert not any(record.lacked(camera) for camera in CAMERAS)


def test_the_rename_map_is_read_and_the_third_camera_was_never_there(tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("camera1", "camera2", "camera3"))
    record = load_training_record(
        rename_cameras(
            folder,
            {"front": "camera1", "hand": "camera2"},
        )
    )
    assert record.renamed == {"front": "camera1", "hand": "camera2"}
    assert record.original_name("camera2") == "hand"
    assert record.original_name("camera3") == "camera3" and record.lacked("camera3")
    assert not record.lacked("camera1") and not record.lacked("camera2")
    # lerobot saved statistics of this camera nevertheless, which the doctor reports.
    assert "camera3" in record.cameras_with_stats


@pytest.fixture
def three_cameras(tmp_path):
    """Return a checkpoint that was trained with a `front` as its first camera and a `third`.

    The fourth was not in the dataset.
    """
    return save_small_act(tmp_path / "act", cameras=("camera1", "third", "camera4"))


def test_statistics_under_the_datasets_names_tell_which_cameras_it_had(three_cameras):
    stats = dataset_stats({"front": 0.4, "third": 0.5})
    record = load_training_record(rename_cameras(three_cameras, {"front": "camera1"}, stats))
    assert record.cameras == {"camera1", "third"} and record.lacked("camera4")


def test_the_dataset_itself_has_the_last_word(three_cameras, tmp_path):
    root = create_dataset(
        tmp_path / "dataset",
        front=(480, 640),
        third=(240, 320),
    )
    save_train_config(rename_cameras(three_cameras, {"front": "camera1"}), root)
    record = load_training_record(three_cameras)
    assert record.cameras == {"camera1", "third"}
    assert record.image_sizes == {
        "camera1": (480, 640),
        "third": (240, 320),
    }


def test_statistics_of_cameras_that_the_policy_does_not_have_tell_nothing(tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("camera1",))
    rename_cameras(folder, {}, dataset_stats({"front": 0.4}))
    assert load_training_record(folder).cameras is None


def test_what_lerobot_train_writes_is_read(checkpoint):
    transforms = ImageTransformsConfig(enable=True)
    save_train_config(checkpoint, None, base="somebody/base", image_transforms=transforms)
    record = load_training_record(checkpoint)
    assert (record.dataset, record.base) == ("somebody/pick-place", "somebody/base")
    assert record.image_sizes == {}
    assert record.augmentations == tuple(transforms.tfs) and "brightness" in record.augmentations
    save_train_config(checkpoint, None, base=None)
    record = load_training_record(checkpoint)
    assert record.base == "" and record.augmentations == ()


def test_a_training_that_was_resumed_does_not_name_its_own_checkpoint_as_its_base(checkpoint):
    save_train_config(checkpoint, None, base="out/train/checkpoints/last/pretrained_model")
    path = checkpoint / "train_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resume": True}))
    assert load_training_record(checkpoint).base == ""


@pytest.mark.parametrize("home", ["variable", "default"])
def test_the_dataset_is_found_where_lerobot_keeps_it(home, checkpoint, tmp_path, monkeypatch):
    if home == "variable":
        monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "lerobot"))
    else:
        monkeypatch.delenv("HF_LEROBOT_HOME", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    save_train_config(checkpoint, None)
    assert load_training_record(checkpoint).image_sizes == {}
    image_sizes = dict.fromkeys(CAMERAS, (480, 640))
    create_dataset(tmp_path / "lerobot" / "somebody" / "pick-place", **image_sizes)
    assert load_training_record(checkpoint).image_sizes == image_sizes


def test_the_dataset_names_the_joints(checkpoint, tmp_path):
    root = create_dataset(tmp_path / "dataset", ACTION_NAMES)
    record = load_training_record(save_train_config(checkpoint, root))
    assert record.state_names == record.action_names == ACTION_NAMES
    # lerobot wrote the names in this form before v3.
    info = root / "meta" / "info.json"
    content = json.loads(info.read_text())
    content["features"]["action"]["names"] = {"motors": [f"main_{name}" for name in ACTION_NAMES]}
    del content["features"]["observation.state"]["names"]
    info.write_text(json.dumps(content))
    record = load_training_record(checkpoint)
    assert record.action_names[0] == "main_shoulder_pan.pos" and record.state_names == ()


def test_without_the_dataset_the_relative_actions_name_the_joints(checkpoint):
    make_relative(checkpoint)
    assert load_training_record(checkpoint).action_names == ACTION_NAMES


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"dataset": null}', '{"dataset": {"repo_id": ["a", "b"]}}']
)
def test_a_train_config_of_another_kind_stops_nothing(content, checkpoint):
    (checkpoint / "train_config.json").write_text(content)
    record = load_training_record(checkpoint)
    assert record.image_sizes == {} and record.cameras == frozenset(CAMERAS)


def look(cameras, height_px, width_px):
    """Return an observation whose images depend on the order of the cameras alone."""
    rng = np.random.default_rng(0)
    images = {
        c: rng.integers(
            0,
            255,
            (height_px, width_px, 3),
            dtype=np.uint8,
        )
        for c in cameras
    }
    return Observation(images, np.zeros(6, np.float32), "x")


@pytest.mark.parametrize(
    ("policy_type", "config", "needs"),
    [
        ("diffusion", {}, True),
        ("diffusion", {"crop_shape": (40, 40)}, False),
        ("smolvla", {}, False),
        ("act", {}, False),
    ],
)
def test_which_networks_need_the_declared_size(policy_type, config, needs, tmp_path):
    """Networks that need the declared size raise on another size, and the others plan."""
    folder = save_small_checkpoint(policy_type, tmp_path / "small", **config)
    assert load_training_record(folder).needs_declared_size == needs
    policy = load_lerobot_policy(
        open_checkpoint(None, str(folder)),
        "cpu",
    )
    memory = policy.reset()
    memory.observations.append(look(CAMERAS, 48, 80))
    with pytest.raises(RuntimeError) if needs else nullcontext():
        chunk = policy.predict([memory], [np.random.default_rng(0)])
        assert np.isfinite(chunk.actions).all()


def assert_shown_as_trained(folder, cameras):
    """Check that the network's inputs are what lerobot makes of CAMERAS, and return them."""
    policy = load_lerobot_policy(
        open_checkpoint("act", str(folder)),
        "cpu",
    )
    ours = policy.network_inputs(look(cameras, IMAGE_PX, IMAGE_PX))
    preprocess = PolicyProcessorPipeline.from_pretrained(
        str(folder), config_filename="policy_preprocessor.json"
    )
    theirs = preprocess(make_lerobot_batch(look(CAMERAS, IMAGE_PX, IMAGE_PX)))
    for key in (PREFIX + camera for camera in cameras):
        np.testing.assert_array_equal(ours[key], theirs[key].numpy())
    return ours


@pytest.fixture
def normalised(tmp_path):
    """Return a checkpoint that normalises the images of two cameras."""
    by_mean = dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD")
    return save_small_act(
        tmp_path / "act", cameras=("cam_a", "cam_b"), normalization_mapping=by_mean
    )


@pytest.mark.parametrize(
    ("names_of_statistics", "is_raw"),
    [
        (CAMERAS, True),
        (("cam_a", "cam_b"), False),
    ],
)
def test_images_that_were_trained_raw_are_shown_raw(names_of_statistics, is_raw, normalised):
    """Images that were trained raw are shown raw, as in lerobot.

    lerobot passes an image unchanged if there are no statistics under its name.
    """
    names = ("cam_a", "cam_b")
    stats = dataset_stats(dict.fromkeys(names_of_statistics, 0.4))
    rename_cameras(
        normalised,
        dict(zip(CAMERAS, names, strict=True)),
        stats,
    )
    inputs = assert_shown_as_trained(normalised, names)
    assert (inputs[PREFIX + "cam_a"].min() < -0.5) == (not is_raw)


def test_names_that_were_exchanged_in_training_are_not_exchanged_twice(checkpoint):
    """Our images keep their names.

    They already have the policy's names, so the saved step must not rename them once more.
    """
    rename_cameras(
        checkpoint,
        dict(zip(CAMERAS, CAMERAS[::-1], strict=True)),
    )
    assert_shown_as_trained(checkpoint, CAMERAS[::-1])


def test_a_camera_without_statistics_that_was_not_renamed_is_still_refused(normalised):
    rename_cameras(
        normalised,
        {"overhead_cam": "cam_a"},
        dataset_stats({"overhead_cam": 0.4}),
    )
    with pytest.raises(WhiskerError, match=r"expected statistics of 'observation\.images\.cam_b'"):
        open_checkpoint("act", str(normalised))
