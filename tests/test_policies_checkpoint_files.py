import shutil

import pytest
from safetensors.numpy import load_file, save_file

from policies.checkpoint_files import check_files, open_checkpoint, read_config
from policies.checkpoint_lookup import find_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from sim.errors import WhiskerError
from tests.json_files import edited_json


@pytest.fixture
def checkpoint(small_act, tmp_path):
    """Return a copy that a test may damage."""
    return shutil.copytree(small_act, tmp_path / "checkpoint")


@pytest.fixture
def preprocessor(checkpoint):
    return checkpoint / "policy_preprocessor.json"


@pytest.fixture
def statistics(checkpoint):
    (file,) = checkpoint.glob("policy_preprocessor_*.safetensors")
    return file


def refused(said):
    return pytest.raises(WhiskerError, match=said)


def load(checkpoint):
    return load_lerobot_policy(open_checkpoint("act", str(checkpoint)), "cpu")


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "/nowhere/at/all", "a/b c"])
def test_no_such_folder_names_the_shipped_ones(name):
    with refused("no such folder"):
        find_checkpoint(name)


def test_a_folder_of_ones_own_is_not_taken_for_a_shipped_one(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = checkpoint.rename(tmp_path / "act")
    assert open_checkpoint("act", "act").folder.resolve() == own
    shipped = find_checkpoint("act-early").parent / "act"
    assert open_checkpoint("act", None).folder == shipped


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "policy_preprocessor.json"])
def test_an_absent_file_is_named(checkpoint, file):
    (checkpoint / file).unlink()
    with refused(file):
        open_checkpoint("act", str(checkpoint))


def test_an_absent_normaliser_state_is_named(checkpoint, statistics):
    statistics.unlink()
    with refused(statistics.name):
        check_files(checkpoint)


@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_truncated_weights_are_refused(checkpoint, keep):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with refused(r"a whole safetensors file.*copy or download it again"):
        check_files(checkpoint)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"type": 3}', "\xff"])
def test_a_corrupt_config_is_refused(checkpoint, content):
    (checkpoint / "config.json").write_text(content, encoding="latin-1")
    with refused(r"config\.json"):
        read_config(checkpoint)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"chunk_size": "many"}, "a config of lerobot"),
        (
            {"n_action_steps": 99},
            r"config\.json: .*expected n_action_steps of at most 10, the chunk_size, got 99",
        ),
        (
            {"temporal_ensemble_coeff": 0.1},
            r"config\.json: .*must be 1 when using temporal ensembling",
        ),
        ({"input_features": None}, r"config\.json: .*input features and an action"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_the_reason(checkpoint, fields, said):
    with edited_json(checkpoint / "config.json") as config:
        config |= fields
    with refused(said):
        load(checkpoint)


def test_a_processor_that_names_a_class_is_refused(checkpoint, preprocessor):
    with edited_json(preprocessor) as pipeline:
        pipeline["steps"][0] = {"class": "os.system", "config": {}}
    with refused(r"os\.system"):
        check_files(checkpoint)


def test_a_processor_that_lerobot_does_not_read_is_refused(checkpoint, preprocessor):
    with edited_json(preprocessor) as pipeline:
        pipeline["steps"][0]["registry_name"] = "no_such_step"
    with refused("processors of lerobot"):
        load(checkpoint)


# A preprocessor without the step, its state or one feature's statistics would not normalise.
# lerobot accepts all of these silently.


def test_a_preprocessor_without_its_normaliser_is_refused(checkpoint, preprocessor):
    with edited_json(preprocessor) as pipeline:
        pipeline["steps"].pop()
    with refused("a step 'normalizer_processor'"):
        check_files(checkpoint)


def test_a_normaliser_that_names_no_statistics_is_refused(checkpoint, preprocessor):
    with edited_json(preprocessor) as pipeline:
        del pipeline["steps"][-1]["state_file"]
    with refused(r"statistics of 'observation\.state'"):
        check_files(checkpoint)


def test_a_normaliser_without_the_statistics_of_one_camera_is_refused(checkpoint, statistics):
    kept = load_file(statistics)
    for name in list(kept):
        if name.startswith("observation.images.wrist_cam."):
            del kept[name]
    save_file(kept, statistics)
    with refused(r"statistics of 'observation\.images\.wrist_cam'"):
        check_files(checkpoint)
