"""Tests normalisation against the raw tensors of the files and lerobot's own processors."""

import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.constants import IMAGENET_STATS
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file, save_file

from policies.checkpoint_files import open_checkpoint
from policies.checkpoint_lookup import find_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.normalisation import FeatureStats, Normalisation, load_normalisation
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.small_checkpoints import (
    CAMERAS,
    HOME,
    SPREAD,
    edit_statistics,
    save_small_checkpoint,
)

IMAGE = default_rng(0).integers(
    0,
    256,
    (32, 32, 3),
    dtype=np.uint8,
)
STATE = np.float32(HOME) + np.float32([1, -2, 3, -4, 5, -6])
SEEN = Observation(dict.fromkeys(CAMERAS, IMAGE), STATE, "pick")


@pytest.fixture(scope="module")
def pi05(tmp_path_factory):
    return save_small_checkpoint("pi05", tmp_path_factory.mktemp("checkpoints") / "pi05")


@pytest.fixture
def copied(small_act, tmp_path):
    return shutil.copytree(small_act, tmp_path / "act")


def statistics_files(folder):
    return folder.glob("policy_*processor_step_*.safetensors")


def raw(folder, part):
    (path,) = folder.glob(f"policy_{part}_step_*.safetensors")
    return load_file(path)


def lerobots_postprocessor(folder):
    config = PreTrainedConfig.from_pretrained(folder)
    return make_pre_post_processors(config, pretrained_path=str(folder))[1]


def assert_values(stats, tensors):
    """Check that exactly that feature's tensors are read, flat and in double precision."""
    own = {
        name.removeprefix(f"{stats.key}."): v
        for name, v in tensors.items()
        if name.rpartition(".")[0] == stats.key
    }
    assert stats.values.keys() == own.keys() and own
    for name, value in own.items():
        assert stats.values[name].dtype == np.float64 and stats.values[name].ndim == 1
        assert_array_equal(stats.values[name], value.reshape(-1))


def assert_files_read(folder, kinds):
    """Check the statistics of two cameras, a state and an action.

    Args:
        kinds: maps a feature type to its mode.
    """
    found = load_normalisation(folder)
    before = raw(folder, "preprocessor")
    assert found.inputs == {
        "observation.state": found.state,
        **{f"observation.images.{camera}": found.images[camera] for camera in CAMERAS},
    }
    assert found.images.keys() == set(CAMERAS)
    for stats in (*found.inputs.values(), found.trained_action):
        assert stats.mode == kinds[stats.kind]
        assert_values(stats, before)
    assert found.action.mode == kinds["ACTION"]
    assert_values(found.action, raw(folder, "postprocessor"))
    assert found.action.key == "action" and {s.kind for s in found.images.values()} == {"VISUAL"}
    config = json.loads((folder / "config.json").read_text())
    assert found.declared == kinds == config["normalization_mapping"]
    return found


def test_the_shipped_act():
    kinds = dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD")
    found = assert_files_read(find_checkpoint("act"), kinds)
    for stats in (found.state, found.action):
        low, high = stats.span
        middle, width = stats.typical
        assert (low <= middle).all() and (middle <= high).all() and (width > 0).all()
    for stats in found.images.values():
        assert stats.values["mean"].shape == (3,)
        assert stats.values["min"].min() >= 0 and stats.values["max"].max() <= 1


def test_pi05_normalises_by_quantiles(pi05):
    found = assert_files_read(
        pi05, {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}
    )
    low, high = found.action.span
    assert_allclose(
        [low, high],
        [np.float32(HOME) - SPREAD, np.float32(HOME) + SPREAD],
    )
    assert_allclose(found.state.typical, [HOME, [SPREAD] * 6])


def test_the_inputs_of_the_network_are_normalised_by_mean_and_std(small_act):
    found = load_normalisation(small_act)
    policy = load_lerobot_policy(
        open_checkpoint("act", str(small_act)),
        "cpu",
    )
    inputs = policy.network_inputs(SEEN)
    values = found.state.values
    expected = (STATE - values["mean"]) / values["std"]
    assert_allclose(inputs["observation.state"], expected[None], atol=1e-5)
    values = found.images["wrist_cam"].values
    expected = (IMAGE / 255 - values["mean"]) / values["std"]
    image = inputs["observation.images.wrist_cam"][0]
    assert_allclose(image, expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("checkpoint", ["small_act", "pi05"])
def test_an_action_is_denormalised_as_lerobot_does(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    middle, width = load_normalisation(folder).action.affine
    denormalise = lerobots_postprocessor(folder)
    for x in (-1.0, 0.0, 1.0):
        actions = denormalise(torch.full((1, 6), x))
        assert_allclose(actions[0], middle + x * width, atol=5e-5)


def test_groot_normalises_in_a_step_of_its_own_and_comes_out_empty(tmp_path):
    found = load_normalisation(save_small_checkpoint("groot", tmp_path / "groot"))
    assert found == Normalisation({}, None, None, found.declared)


def test_a_camera_without_a_name(tmp_path):
    """TD-MPC's camera is read, although its key `observation.image` contains no name."""
    found = load_normalisation(save_small_checkpoint("tdmpc", tmp_path / "tdmpc"))
    assert found.images.keys() == {"image"}
    assert found.action.mode == "MIN_MAX" and found.state.mode == "IDENTITY"


def test_features_whose_names_begin_alike_are_told_apart(small_act, copied):
    alike = {
        "observation.state_of_mind.mode": np.ones(3),
        "action_mask.mean": np.ones(1),
    }
    for path in statistics_files(copied):
        save_file(load_file(path) | alike, path)
    found = load_normalisation(copied)
    assert_values(found.state, raw(small_act, "preprocessor"))
    assert_values(found.action, raw(small_act, "postprocessor"))


@pytest.mark.parametrize(
    ("given", "span", "typical"),
    [
        (
            {
                "min": -6,
                "max": 6,
                "q01": -3,
                "q99": 5,
                "mean": 1,
                "std": 2,
            },
            (-6, 6),
            (1, 2),
        ),
        (
            {
                "min": -6,
                "max": 12,
            },
            (-6, 12),
            (3, 3),
        ),
        (
            {
                "q01": -3,
                "q99": 9,
            },
            (-3, 9),
            (3, 2),
        ),
        (
            {
                "mean": 1,
                "std": 2,
            },
            (-5, 7),
            (1, 2),
        ),
        (
            {
                "q01": -3,
                "q99": 9,
                "mean": 1,
                "std": 2,
            },
            (-3, 9),
            (1, 2),
        ),
        (
            {
                "min": -6,
                "mean": 1,
            },
            None,
            None,
        ),
        ({}, None, None),
    ],
)
def test_span_and_typical_value_by_what_there_is(given, span, typical):
    values = {name: np.float64([value]) for name, value in given.items()}
    stats = FeatureStats("action", "ACTION", "MEAN_STD", values)
    assert (stats.span, stats.typical) == (span, typical)


def at(index, number):
    """Return a function that puts a number into one place of a statistic."""
    return lambda value: np.where(np.arange(value.size) == index, np.float32(number), value)


@pytest.mark.parametrize(
    ("checkpoint", "name", "change", "words"),
    [
        (
            "small_act",
            "observation.state.mean",
            lambda v: v + np.inf,
            r"finite numbers.*mean \[inf.*placeholders",
        ),
        ("small_act", "observation.state.std", lambda v: v * np.nan, r"finite numbers.*std \[nan"),
        ("small_act", "action.mean", at(2, np.nan), r"finite numbers.*mean \[0, -46, nan"),
        ("small_act", "action.std", at(0, -1), r"no negative std.*-1, 15"),
        ("small_act", "action.std", lambda v: v * 0, "numbers that varied"),
        ("pi05", "observation.state.q01", lambda v: v + 1000, "no q01 above its q99"),
        ("pi05", "observation.state.q01", lambda v: v - np.inf, "finite numbers"),
        ("pi05", "action.q01", lambda v: v + 2 * SPREAD, "numbers that varied"),
    ],
)
def test_statistics_that_normalise_nothing_are_refused_at_opening(
    checkpoint, name, change, words, tmp_path, request
):
    """Invalid statistics are refused in one line, before anything is imported to load the weights.

    lerobot would plan NaN with them.
    """
    folder = shutil.copytree(
        request.getfixturevalue(checkpoint),
        tmp_path / "copied",
    )
    edit_statistics(
        folder,
        lambda own, value: change(value) if own == name else value,
    )
    with pytest.raises(WhiskerError, match=words) as refusal:
        open_checkpoint(None, str(folder))
    assert repr(name.rpartition(".")[0]) in str(refusal.value) and "\n" not in str(refusal.value)
    assert refusal.value.hint


def test_the_statistics_of_the_mode_are_those_that_are_asked_for(pi05, tmp_path):
    folder = shutil.copytree(pi05, tmp_path / "pi05")
    for path in statistics_files(folder):
        tensors = load_file(path)
        tensors.pop("action.q99", None)
        save_file(tensors, path)
    needed = r"'action'.*q01 and q99, which QUANTILES needs, got max, mean, min, q01, std"
    with pytest.raises(WhiskerError, match=needed):
        open_checkpoint("pi05", str(folder))


def test_statistics_that_the_mode_does_not_use_may_be_anything(copied):
    """Statistics that the mode does not use may hold anything.

    They normalise nothing, and no span is computed from them.
    """
    unused = (".min", ".q01")
    edit_statistics(
        copied,
        lambda name, value: value * np.nan if name.endswith(unused) else value,
    )
    edit_statistics(
        copied,
        lambda name, value: at(0, 0)(value) if name == "action.std" else value,
    )
    open_checkpoint("act", str(copied))
    found = load_normalisation(copied)
    assert "min" not in found.action.values and "q01" not in found.state.values
    low, high = found.action.span
    assert_allclose(high - low, 6 * found.action.values["std"])


def test_bfloat16_statistics_are_read_as_lerobot_reads_them(copied):
    from safetensors.torch import load_file as load_torch_file
    from safetensors.torch import save_file as save_torch_file

    for path in statistics_files(copied):
        tensors = load_torch_file(path)
        save_torch_file(
            {name: value.bfloat16() for name, value in tensors.items()},
            path,
        )
    mean = load_normalisation(copied).action.values["mean"]
    assert mean.dtype == np.float64
    assert_allclose(mean, HOME, rtol=2**-8)
    middle = lerobots_postprocessor(copied)(torch.zeros(1, 6))
    assert_array_equal(middle[0], np.float32(mean))
    policy = load_lerobot_policy(open_checkpoint("act", str(copied)), "cpu")
    assert np.isfinite(policy.predict([make_memory(SEEN)], [default_rng(0)]).actions).all()


IMAGENET = [np.ravel(IMAGENET_STATS[name]) for name in ("mean", "std")]


@pytest.mark.parametrize(
    ("mean", "std", "convention"),
    [
        (*IMAGENET, "ImageNet's"),
        (*(np.float64(torch.tensor(v).bfloat16().float()) for v in IMAGENET), "ImageNet's"),
        (0.5, 0.5, "mean 0.5 and std 0.5"),
        (0.0, 1.0, "mean 0 and std 1"),
        ([0.74, 0.67, 0.56], 0.2, ""),
        # These are a measured grey, and ImageNet's means with another spread.
        (0.5, 0.21, ""),
        (IMAGENET[0], 0.2, ""),
        (0.485, 0.229, ""),
    ],
)
def test_image_statistics_by_convention_are_told_from_measurements(mean, std, convention):
    values = {
        "mean": np.zeros(3) + mean,
        "std": np.zeros(3) + std,
    }
    assert (
        FeatureStats("observation.images.cam", "VISUAL", "MEAN_STD", values).convention
        == convention
    )
    assert FeatureStats("observation.state", "STATE", "MEAN_STD", values).convention == ""
    assert (
        FeatureStats(
            "observation.images.cam",
            "VISUAL",
            "IDENTITY",
            {},
        ).convention
        == ""
    )
