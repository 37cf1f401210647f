"""Tests the values that people give as `--checkpoint`.

These are folders of a training, names on the hub, and checkpoints of other programs.
"""

import json
import shutil
import warnings
from unittest.mock import Mock

import httpx
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from policies.checkpoint_files import check_files, open_checkpoint
from policies.checkpoint_lookup import find_checkpoint
from sim.errors import WhiskerError, WhiskerWarning

COMMIT = "0123456789abcdef0123456789abcdef01234567"
COMMIT_OF_V1 = COMMIT[::-1]


def refused(said):
    return pytest.raises(WhiskerError, match=said)


@pytest.fixture
def checkpoints(small_act, tmp_path):
    """Return the folder `checkpoints`, as `lerobot-train --output_dir=.../training` leaves it."""
    checkpoints = tmp_path / "training" / "checkpoints"
    for step in ("000500", "001000"):
        shutil.copytree(small_act, checkpoints / step / "pretrained_model")
        (checkpoints / step / "training_state").mkdir()
    (checkpoints / "last").symlink_to("001000")
    return checkpoints


@pytest.mark.parametrize(
    ("below", "step"),
    [
        ("", "001000"),
        ("checkpoints", "001000"),
        ("checkpoints/last", "001000"),
        ("checkpoints/000500", "000500"),
    ],
)
def test_the_folder_of_a_training_stands_for_its_last_checkpoint_and_says_so(
    checkpoints, below, step
):
    with pytest.warns(WhiskerWarning, match=rf"{step}/pretrained_model' is used"):
        found = find_checkpoint(str(checkpoints.parent / below))
    assert found == checkpoints / step / "pretrained_model"
    assert open_checkpoint(None, str(found)).type == "act"


def test_without_the_link_the_last_step_is_that_of_the_highest_number(checkpoints):
    (checkpoints / "last").unlink()
    (checkpoints / "001000").rename(checkpoints / "20000")
    with pytest.warns(WhiskerWarning, match="20000"):
        assert find_checkpoint(str(checkpoints.parent)).parent.name == "20000"


def test_a_checkpoint_itself_is_taken_without_a_word(checkpoints):
    folder = checkpoints / "000500" / "pretrained_model"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_checkpoint(str(folder)) == folder


@pytest.mark.parametrize("below", ["", "params"])
def test_an_openpi_checkpoint_is_recognised(tmp_path, below):
    params = tmp_path / "params"
    (params / "ocdbt.process_0").mkdir(parents=True)
    for file in ("_METADATA", "manifest.ocdbt"):
        (params / file).touch()
    (tmp_path / "assets").mkdir()
    with refused(r"one of openpi, JAX weights.*lerobot/pi05_libero_finetuned"):
        find_checkpoint(str(tmp_path / below))


def test_openpis_weights_for_pytorch_are_recognised(tmp_path):
    """openpi's weights are recognised by the config that its conversion writes beside them."""
    config = {
        "action_dim": 32,
        "action_horizon": 10,
        "paligemma_variant": "gemma_2b",
        "precision": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused("one of openpi, weights that it converted to PyTorch"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "file",
    ["config.json", "model.safetensors", "policy_postprocessor.json"],
)
def test_a_git_lfs_pointer_is_recognised(small_act, tmp_path, file):
    folder = shutil.copytree(small_act, tmp_path / "clone")
    (folder / file).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 44919504\n"
    )
    with refused(rf"{file}': expected the file itself, got a Git LFS pointer.*git lfs pull"):
        open_checkpoint("act", str(folder))
    shutil.copy(small_act / file, folder)
    check_files(folder)


# The tests below look up names on the hub.


@pytest.fixture
def hub(small_act, tmp_path, monkeypatch):
    """Return a cache with one repository.

    Its branch `main` has the checkpoint at the top, and `v1` has it in a folder.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--somebody--policy"
    snapshots = repository / "snapshots"
    shutil.copytree(small_act, snapshots / COMMIT)
    shutil.copytree(small_act, snapshots / COMMIT_OF_V1 / "deep" / "act")
    refs = repository / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    (refs / "v1").write_text(COMMIT_OF_V1)
    return snapshots


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("somebody/policy", COMMIT),
        ("somebody/policy@main", COMMIT),
        (f"somebody/policy@{COMMIT}", COMMIT),
        ("somebody/policy/deep/act@v1", f"{COMMIT_OF_V1}/deep/act"),
        (f"somebody/policy/deep/act@{COMMIT_OF_V1}", f"{COMMIT_OF_V1}/deep/act"),
    ],
)
def test_a_name_of_the_hub_has_a_revision_and_a_folder(hub, name, folder):
    assert find_checkpoint(name) == hub / folder
    assert open_checkpoint("act", name).name == name


def test_a_folder_that_the_repository_has_not_is_named(hub):
    with refused("got no folder 'shallow' in the repository 'somebody/policy'"):
        find_checkpoint("somebody/policy/shallow@v1")


def test_a_revision_that_is_not_in_the_cache_offline(hub):
    with refused("nothing in the cache, and HF_HUB_OFFLINE is set"):
        find_checkpoint("somebody/policy@v2")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied", "/cache"),
            r"got PermissionError: .*Permission denied: '/cache'",
        ),
        (httpx.ProxyError("407 from the proxy"), "got ProxyError: 407 from the proxy"),
        (
            RepositoryNotFoundError("404 no such repository", response=Mock()),
            r"got RepositoryNotFoundError: 404.*hf auth login",
        ),
    ],
)
def test_only_what_is_known_of_a_failure_is_said(monkeypatch, error, said):
    fail = Mock(side_effect=error)
    monkeypatch.setattr("policies.checkpoint_lookup.snapshot_download", fail)
    with refused(said) as refusal:
        find_checkpoint("somebody/policy")
    assert "reached" not in str(refusal.value)
