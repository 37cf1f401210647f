import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.processor import PolicyProcessorPipeline
from lerobot.transforms import ImageTransformsConfig

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.training_record import TrainingRecord, load_training_record
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.small_checkpoints import (
    ACTION_NAMES,
    CAMERAS,
    IMAGE_PX,
    make_relative,
    save_small_act,
    save_small_diffusion,
    save_small_smolvla,
)
from tests.training_files import (
    PREFIX,
    create_dataset,
    dataset_stats,
    rename_cameras,
    save_train_config,
)

NORMALISED = dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD")


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
    assert (
        record.original_name("camera2") == "hand" and record.original_name("camera3") == "camera3"
    )
    assert [record.lacked(camera) for camera in ("camera1", "camera2", "camera3")] == [
        False,
        False,
        True,
    ]
    # lerobot saved statistics of this camera nevertheless, which the doctor reports.
    assert "camera3" in record.cameras_with_stats


def test_statistics_under_the_datasets_names_tell_which_cameras_it_had(tmp_path):
    """Statistics under the dataset's names tell which cameras the dataset had.

    The camera `third` was not renamed and was in the dataset. The fourth was not in it.
    """
    folder = save_small_act(tmp_path / "act", cameras=("camera1", "third", "camera4"))
    rename_cameras(
        folder,
        {"front": "camera1"},
        dataset_stats({"front": 0.4, "third": 0.5}),
    )
    record = load_training_record(folder)
    assert record.cameras == {"camera1", "third"} and record.lacked("camera4")


def test_the_dataset_itself_has_the_last_word(tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("camera1", "third", "camera4"))
    root = create_dataset(
        tmp_path / "dataset",
        front=(480, 640),
        third=(240, 320),
    )
    save_train_config(rename_cameras(folder, {"front": "camera1"}), root)
    record = load_training_record(folder)
    assert record.cameras == {"camera1", "third"}
    assert record.image_sizes == {
        "camera1": (480, 640),
        "third": (240, 320),
    }


def test_statistics_of_cameras_that_the_policy_does_not_have_tell_nothing(tmp_path):
    folder = save_small_act(tmp_path / "act", cameras=("camera1",))
    rename_cameras(folder, {}, dataset_stats({"front": 0.4}))
    assert load_training_record(folder).cameras is None


def test_what_lerobot_train_writes_is_read(checkpoint, tmp_path):
    transforms = ImageTransformsConfig(enable=True)
    save_train_config(checkpoint, None, base="somebody/base", image_transforms=transforms)
    record = load_training_record(checkpoint)
    assert (record.dataset, record.base, record.image_sizes) == (
        "somebody/pick-place",
        "somebody/base",
        {},
    )
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
    create_dataset(
        tmp_path / "lerobot" / "somebody" / "pick-place",
        overhead_cam=(480, 640),
        wrist_cam=(480, 640),
    )
    assert load_training_record(checkpoint).image_sizes == dict.fromkeys(CAMERAS, (480, 640))


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


def test_which_networks_need_the_declared_size(tmp_path):
    """Networks that need the declared size raise on another size, and the others plan."""
    wide = Observation(
        {camera: np.zeros((48, 80, 3), np.uint8) for camera in CAMERAS},
        np.zeros(6, np.float32),
        "x",
    )
    built = {
        "diffusion": save_small_diffusion(tmp_path / "diffusion"),
        "cropping": save_small_diffusion(tmp_path / "cropping", crop_shape=(40, 40)),
        "smolvla": save_small_smolvla(tmp_path / "smolvla"),
        "act": save_small_act(tmp_path / "act"),
    }
    for name, folder in built.items():
        policy = load_lerobot_policy(open_checkpoint(None, str(folder)), "cpu")
        memory = policy.reset()
        memory.observations.append(wide)
        needs = load_training_record(folder).needs_declared_size
        assert needs == (name == "diffusion")
        if needs:
            with pytest.raises(RuntimeError):
                policy.predict([memory], [np.random.default_rng(0)])
        else:
            assert np.isfinite(policy.predict([memory], [np.random.default_rng(0)]).actions).all()


def seen(**images):
    rng = np.random.default_rng(0)
    drawn = {
        camera: rng.integers(
            0,
            255,
            (IMAGE_PX, IMAGE_PX, 3),
            dtype=np.uint8,
        )
        for camera in images
    }
    return Observation(
        {images[camera]: image for camera, image in drawn.items()}, np.zeros(6, np.float32), "x"
    )


def lerobots_own(folder, observation):
    """Return what lerobot's saved preprocessor makes of images under the dataset's names."""
    batch = {
        PREFIX + c: torch.from_numpy(i).permute(2, 0, 1).float() / 255
        for c, i in observation.images.items()
    }
    batch |= {
        "observation.state": torch.from_numpy(observation.state),
        "task": observation.instruction,
    }
    saved = PolicyProcessorPipeline.from_pretrained(
        str(folder), config_filename="policy_preprocessor.json"
    )
    return saved(batch)


@pytest.mark.parametrize("stats", ["under the dataset's names", "under the policy's names"])
def test_images_that_were_trained_raw_are_shown_raw(stats, tmp_path):
    """Images that were trained raw are shown raw, as in lerobot.

    lerobot passes an image unchanged if there are no statistics under its name.
    """
    folder = save_small_act(
        tmp_path / "act", cameras=("cam_a", "cam_b"), normalization_mapping=NORMALISED
    )
    is_raw = stats == "under the dataset's names"
    names = CAMERAS if is_raw else ("cam_a", "cam_b")
    rename_cameras(
        folder,
        dict(zip(CAMERAS, ("cam_a", "cam_b"), strict=True)),
        dataset_stats(dict.fromkeys(names, 0.4)),
    )
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    ours = policy.network_inputs(
        seen(
            a="cam_a",
            b="cam_b",
        )
    )
    theirs = lerobots_own(
        folder,
        seen(a="overhead_cam", b="wrist_cam"),
    )
    for camera in ("cam_a", "cam_b"):
        np.testing.assert_array_equal(
            ours[PREFIX + camera],
            theirs[PREFIX + camera].numpy(),
        )
    assert (ours[PREFIX + "cam_a"].min() < -0.5) == (not is_raw)


def test_names_that_were_exchanged_in_training_are_not_exchanged_twice(tmp_path):
    """Our images keep their names.

    They already have the policy's names, so the saved step must not rename them once more.
    """
    folder = save_small_act(tmp_path / "act")
    rename_cameras(folder, {"overhead_cam": "wrist_cam", "wrist_cam": "overhead_cam"})
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    ours = policy.network_inputs(
        seen(
            a="overhead_cam",
            b="wrist_cam",
        )
    )
    theirs = lerobots_own(
        folder,
        seen(a="wrist_cam", b="overhead_cam"),
    )
    for camera in CAMERAS:
        np.testing.assert_array_equal(
            ours[PREFIX + camera],
            theirs[PREFIX + camera].numpy(),
        )


def test_a_camera_without_statistics_that_was_not_renamed_is_still_refused(tmp_path):
    folder = save_small_act(
        tmp_path / "act", cameras=("cam_a", "cam_b"), normalization_mapping=NORMALISED
    )
    rename_cameras(
        folder,
        {"overhead_cam": "cam_a"},
        dataset_stats({"overhead_cam": 0.4}),
    )
    with pytest.raises(WhiskerError, match=r"expected statistics of 'observation\.images\.cam_b'"):
        open_checkpoint("act", str(folder))
