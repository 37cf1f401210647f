"""Tests checkpoints in lerobot's format before 0.4 against the same networks in today's format."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import load_file, save_file

from policies.checkpoint_files import compute_fingerprint, open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.small_checkpoints import save_small_checkpoint

STATISTICS = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}
# Old configs have these settings, and new ones do not.
OLD_SETTINGS = {
    "vqbet": {"mlp_hidden_dim": 1024},
    "gaussian_actor": {"type": "sac", "num_critics": 2},
}
NEW_SETTINGS = {
    "diffusion": {"crop_shape": (56, 48)},
    "vqbet": {"crop_shape": (56, 48)},
}


def to_old_format(folder):
    """Move the statistics that the processors apply into the weights, and remove the processors."""
    config = json.loads((folder / "config.json").read_text())
    (stats_file,) = folder.glob("policy_preprocessor_step_*normalizer*.safetensors")
    stats = load_file(stats_file)
    buffers = {}
    for key, feature in (config["input_features"] | config["output_features"]).items():
        modules = ["normalize_inputs"]
        if key == "action":
            modules = ["normalize_targets", "unnormalize_outputs"]
        for name in STATISTICS.get(
            config["normalization_mapping"].get(feature["type"]),
            (),
        ):
            for module in modules:
                buffer = f"{module}.buffer_{key.replace('.', '_')}.{name}"
                buffers[buffer] = stats[f"{key}.{name}"].clone()
    edit_weights(folder, **buffers)
    for path in folder.glob("policy_*"):
        path.unlink()
    edit_config(folder, **OLD_SETTINGS.get(config["type"], {}))
    return folder


def edit_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_weights(folder, **tensors):
    path = folder / "model.safetensors"
    save_file(load_file(path) | tensors, path, metadata={"format": "pt"})


def load(folder):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*were dropped")
        return load_lerobot_policy(open_checkpoint(None, str(folder)), "cpu")


def plan(policy):
    rng = np.random.default_rng(1)
    images = {}
    for camera, size in policy.spec.image_sizes.items():
        images[camera] = rng.integers(
            0,
            256,
            (*size, 3),
            dtype=np.uint8,
        )
    state = rng.uniform(-30, 60, 6).astype(np.float32)
    seen = Observation(images, state, "Pick up the block.")
    n_obs_steps = policy.spec.n_obs_steps
    memory = make_memory(*[seen] * n_obs_steps, n_obs_steps=n_obs_steps)
    return policy.predict([memory], [rng]).actions


@pytest.fixture
def old(small_act, tmp_path):
    """Return the folder of a small ACT whose cameras have underscores in their names."""
    return to_old_format(shutil.copytree(small_act, tmp_path / "old"))


@pytest.mark.parametrize(
    "policy_type", ["act", "diffusion", "vqbet", "tdmpc", "gaussian_actor", "smolvla"]
)
def test_the_plan_is_that_of_the_same_network_in_the_new_format(policy_type, tmp_path):
    new = save_small_checkpoint(policy_type, tmp_path / "new", **NEW_SETTINGS.get(policy_type, {}))
    old = to_old_format(shutil.copytree(new, tmp_path / "old"))
    before = compute_fingerprint(old)
    policy = load(old)
    assert_array_equal(plan(policy), plan(load(new)))
    assert policy.spec.files_sha256 == before == compute_fingerprint(old)
    assert not list(old.glob("*preprocessor*"))
    shutil.rmtree(tmp_path)


def test_statistics_that_are_not_there_are_named(old):
    path = old / "model.safetensors"
    weights = load_file(path)
    weights.pop("normalize_inputs.buffer_observation_state.mean")
    save_file(weights, path)
    with pytest.raises(
        WhiskerError, match=r"mean of 'observation\.state': expected a buffer.*got none"
    ):
        load(old)


@pytest.mark.parametrize(
    ("buffer", "value", "words"),
    [
        (
            "normalize_inputs.buffer_observation_state.std",
            torch.inf,
            r"std of 'observation\.state': expected finite numbers, got \[inf, inf",
        ),
        # The other value of the action is in `unnormalize_outputs`.
        (
            "normalize_targets.buffer_action.mean",
            0.0,
            "mean of 'action': expected one value, got several, normalize_targets",
        ),
    ],
)
def test_statistics_that_cannot_be_used_are_named(old, buffer, value, words):
    edit_weights(old, **{buffer: torch.full((6,), value)})
    with pytest.raises(WhiskerError, match=words):
        load(old)


def test_statistics_among_the_weights_do_not_belong_beside_processors(old, small_act):
    for path in small_act.glob("policy_*"):
        shutil.copy(path, old)
    with pytest.raises(WhiskerError, match=r"not in the network \(normalize_inputs"):
        load(old)


def test_what_only_the_training_of_sac_needs_is_left_out(tmp_path):
    folder = to_old_format(save_small_checkpoint("gaussian_actor", tmp_path / "sac"))
    expected = plan(load(folder))
    edit_weights(
        folder,
        log_alpha=torch.zeros(1),
        **{"critic_target.critics.0.net.0.weight": torch.zeros(2, 2)},
    )
    assert_array_equal(plan(load(folder)), expected)
    with pytest.warns(UserWarning, match="were dropped: num_critics"):
        assert open_checkpoint("sac", str(folder)).type == "gaussian_actor"
    edit_weights(folder, another=torch.zeros(1))
    with pytest.raises(WhiskerError, match=r"1 not in the network \(another\)"):
        load(folder)


def test_the_pi0_fast_of_before_is_another_network(old):
    edit_config(old, type="pi0fast")
    with pytest.raises(WhiskerError, match=r"expected a 'pi0_fast' of lerobot 0\.4 or later"):
        open_checkpoint(None, str(old), trust_remote_code=True)


def test_a_setting_that_is_gone_must_have_done_nothing(old):
    edit_config(old, adapt_to_pi_aloha=False)
    assert load(old).spec.type == "act"
    edit_config(old, adapt_to_pi_aloha=True)
    with pytest.raises(WhiskerError, match=r"expected adapt_to_pi_aloha False.*got True"):
        load(old)
