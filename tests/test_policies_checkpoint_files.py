import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from policies.checkpoint_files import check_files, open_checkpoint, read_config
from policies.checkpoint_lookup import find_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from sim.errors import WhiskerError


@pytest.fixture
def checkpoint(small_act, tmp_path):
    """Return a copy that a test may damage."""
    return shutil.copytree(small_act, tmp_path / "checkpoint")


@pytest.mark.parametrize(
    "name",
    ["nowhere", "./nowhere", "/nowhere/at/all", "a/b c"],
)
def test_no_such_folder_names_the_shipped_ones(name):
    with pytest.raises(WhiskerError, match="no such folder"):
        find_checkpoint(name)


def test_a_folder_of_ones_own_is_not_taken_for_a_shipped_one(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = open_checkpoint("act", None).folder
    checkpoint.rename(tmp_path / "act")
    assert open_checkpoint("act", "act").folder.resolve() == tmp_path / "act"
    assert (
        open_checkpoint("act", None).folder
        == find_checkpoint("act-early").parent / "act"
        == shipped
    )


def test_a_hub_id_offline_without_a_cache_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WhiskerError, match="nothing in the cache, and HF_HUB_OFFLINE is set"):
        find_checkpoint("somebody/some-policy")


@pytest.mark.parametrize(
    "file",
    ["config.json", "model.safetensors", "policy_preprocessor.json"],
)
def test_an_absent_file_is_named(checkpoint, file):
    (checkpoint / file).unlink()
    with pytest.raises(WhiskerError, match=file):
        open_checkpoint("act", str(checkpoint))


def test_an_absent_normaliser_state_is_named(checkpoint):
    (state,) = checkpoint.glob("policy_preprocessor_*.safetensors")
    state.unlink()
    with pytest.raises(WhiskerError, match=state.name):
        check_files(checkpoint)


@pytest.mark.parametrize(
    "keep",
    [0, 100, 100_000],
)
def test_truncated_weights_are_refused(checkpoint, keep):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(WhiskerError, match=r"a whole safetensors file.*copy or download it again"):
        check_files(checkpoint)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"type": 3}', "\xff"],
)
def test_a_corrupt_config_is_refused(checkpoint, content):
    (checkpoint / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(WhiskerError, match=r"config\.json"):
        read_config(checkpoint)


def test_an_unknown_config_field_is_refused_not_guessed(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"chunk_size": "many"}))
    with pytest.raises(WhiskerError, match=r"a config of lerobot"):
        load_lerobot_policy(open_checkpoint("act", str(checkpoint)), "cpu")


def test_a_processor_that_names_a_class_is_refused(checkpoint):
    path = checkpoint / "policy_preprocessor.json"
    pipeline = json.loads(path.read_text())
    pipeline["steps"][0] = {
        "class": "os.system",
        "config": {},
    }
    path.write_text(json.dumps(pipeline))
    with pytest.raises(WhiskerError, match=r"os\.system"):
        check_files(checkpoint)


def test_another_type_is_refused(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"type": "diffusion"}))
    with pytest.raises(WhiskerError, match="expected policy type 'act', got 'diffusion'"):
        open_checkpoint("act", str(checkpoint))


def change_processor(checkpoint, change):
    path = checkpoint / "policy_preprocessor.json"
    pipeline = json.loads(path.read_text())
    change(pipeline)
    path.write_text(json.dumps(pipeline))


def test_a_preprocessor_that_would_not_normalise_is_refused(checkpoint):
    """A preprocessor without the step, its state or one feature's statistics is refused.

    lerobot accepts all of these silently.
    """
    original = (checkpoint / "policy_preprocessor.json").read_text()
    change_processor(checkpoint, lambda p: p["steps"].pop())
    with pytest.raises(WhiskerError, match="a step 'normalizer_processor'"):
        check_files(checkpoint)
    (checkpoint / "policy_preprocessor.json").write_text(original)
    change_processor(
        checkpoint,
        lambda p: p["steps"][-1].pop("state_file"),
    )
    with pytest.raises(WhiskerError, match=r"statistics of 'observation\.state'"):
        check_files(checkpoint)
    (checkpoint / "policy_preprocessor.json").write_text(original)
    (state,) = checkpoint.glob("policy_preprocessor_*.safetensors")
    kept = {
        k: v
        for k, v in load_file(state).items()
        if not k.startswith("observation.images.wrist_cam.")
    }
    save_file(kept, state)
    with pytest.raises(WhiskerError, match=r"statistics of 'observation\.images\.wrist_cam'"):
        check_files(checkpoint)


@pytest.mark.parametrize(
    "change",
    [lambda p: p["steps"][0].update(registry_name="no_such_step")],
    ids=["unknown step"],
)
def test_processors_that_lerobot_does_not_read_are_refused(checkpoint, change):
    change_processor(checkpoint, change)
    with pytest.raises(WhiskerError, match="processors of lerobot"):
        load_lerobot_policy(open_checkpoint("act", str(checkpoint)), "cpu")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_action_steps": 99}, "expected n_action_steps of at most 10, the chunk_size, got 99"),
        ({"temporal_ensemble_coeff": 0.1}, "must be 1 when using temporal ensembling"),
        ({"input_features": None}, "input features and an action"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_the_reason(checkpoint, fields, said):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | fields))
    with pytest.raises(WhiskerError, match=rf"config\.json: .*{said}"):
        load_lerobot_policy(open_checkpoint("act", str(checkpoint)), "cpu")
