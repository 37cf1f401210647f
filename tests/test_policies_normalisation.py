"""Tests normalisation against the raw tensors of the files and lerobot's own processors."""

import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.constants import IMAGENET_STATS
from safetensors.numpy import load_file, save_file

from policies.checkpoint_files import open_checkpoint
from policies.checkpoint_lookup import find_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.normalisation import FeatureStats, Normalisation, load_normalisation
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.small_checkpoints import (
    HOME,
    SPREAD,
    edit_statistics,
    save_small_checkpoint,
    shrunken_paligemma,
)

CAMERAS = ("overhead_cam", "wrist_cam")


@pytest.fixture(scope="module")
def pi05(tmp_path_factory):
    return save_small_checkpoint("pi05", tmp_path_factory.mktemp("checkpoints") / "pi05")


def raw(folder, part):
    (path,) = folder.glob(f"policy_{part}_step_*.safetensors")
    return load_file(path)


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
        np.testing.assert_array_equal(stats.values[name], value.reshape(-1))


def assert_files_read(folder, kinds):
    """Check the statistics of two cameras, a state and an action.

    Args:
        kinds: maps a feature type to its mode.
    """
    found = load_normalisation(folder)
    before = raw(folder, "preprocessor")
    after = raw(folder, "postprocessor")
    state = found.state
    assert state is not None and found.trained_action is not None and found.action is not None
    assert found.inputs.keys() == {
        "observation.state",
        *(f"observation.images.{c}" for c in CAMERAS),
    }
    assert found.images == {c: found.inputs[f"observation.images.{c}"] for c in CAMERAS}
    assert state is found.inputs["observation.state"]
    for stats in (*found.inputs.values(), found.trained_action):
        assert stats.mode == kinds[stats.kind]
        assert_values(stats, before)
    assert found.action.mode == kinds["ACTION"]
    assert_values(found.action, after)
    assert found.action.key == "action" and {s.kind for s in found.images.values()} == {"VISUAL"}
    assert (
        found.declared
        == kinds
        == json.loads((folder / "config.json").read_text())["normalization_mapping"]
    )
    return found


def test_the_shipped_act():
    folder = find_checkpoint("act")
    found = assert_files_read(
        folder,
        dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD"),
    )
    for stats, tensors in (
        (found.state, raw(folder, "preprocessor")),
        (found.action, raw(folder, "postprocessor")),
    ):
        low, high = stats.span
        np.testing.assert_array_equal(low, tensors[f"{stats.key}.min"])
        np.testing.assert_array_equal(high, tensors[f"{stats.key}.max"])
        middle, width = stats.typical
        np.testing.assert_array_equal(middle, tensors[f"{stats.key}.mean"])
        np.testing.assert_array_equal(width, tensors[f"{stats.key}.std"])
        assert (low <= middle).all() and (middle <= high).all() and (width > 0).all()
    for stats in found.images.values():
        assert (
            stats.values["mean"].shape == (3,)
            and stats.values["min"].min() >= 0
            and stats.values["max"].max() <= 1
        )


def test_pi05_normalises_by_quantiles(pi05):
    found = assert_files_read(
        pi05, {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"}
    )
    low, high = found.action.span
    np.testing.assert_allclose(
        [low, high],
        [np.float32(HOME) - SPREAD, np.float32(HOME) + SPREAD],
    )
    np.testing.assert_allclose(found.state.typical, [HOME, [SPREAD] * 6])


def test_the_modes_are_what_lerobot_does(pi05, small_act):
    """The modes have the same effect as in lerobot.

    MEAN_STD is checked by the policy's own inputs, and QUANTILES by the un-normalised values of -1,
    0 and 1.
    """
    found = load_normalisation(small_act)
    policy = load_lerobot_policy(open_checkpoint("act", str(small_act)), "cpu")
    state = np.float32(HOME) + np.float32([1, -2, 3, -4, 5, -6])
    image = np.random.default_rng(0).integers(
        0,
        256,
        (32, 32, 3),
        dtype=np.uint8,
    )
    inputs = policy.network_inputs(Observation(dict.fromkeys(CAMERAS, image), state, "pick"))
    values = found.state.values
    expected = (state - values["mean"]) / values["std"]
    np.testing.assert_allclose(inputs["observation.state"], expected[None], atol=1e-5)
    values = found.images["wrist_cam"].values
    expected = (image / 255 - values["mean"]) / values["std"]
    np.testing.assert_allclose(
        inputs["observation.images.wrist_cam"][0], expected.transpose(2, 0, 1), atol=1e-5
    )

    with shrunken_paligemma():
        config = load_lerobot_policy(
            open_checkpoint("pi05", str(pi05)),
            "cpu",
        ).network.config
    _, postprocessor = make_pre_post_processors(config, pretrained_path=str(pi05))
    values = load_normalisation(pi05).action.values
    for normalised, expected in (
        (-1.0, values["q01"]),
        (0.0, (values["q01"] + values["q99"]) / 2),
        (1.0, values["q99"]),
    ):
        np.testing.assert_allclose(
            postprocessor(torch.full((1, 6), normalised))[0], expected, atol=1e-4
        )


def test_groot_normalises_in_a_step_of_its_own_and_comes_out_empty(tmp_path):
    found = load_normalisation(save_small_checkpoint("groot", tmp_path / "groot"))
    assert found == Normalisation({}, None, None, found.declared)
    assert found.state is None and found.images == {}


def test_a_camera_without_a_name(tmp_path):
    """TD-MPC's camera is read, although its key `observation.image` contains no name."""
    found = load_normalisation(save_small_checkpoint("tdmpc", tmp_path / "tdmpc"))
    assert (
        found.images.keys() == {"image"}
        and found.action.mode == "MIN_MAX"
        and found.state.mode == "IDENTITY"
    )


def test_features_whose_names_begin_alike_are_told_apart(small_act, tmp_path):
    folder = shutil.copytree(small_act, tmp_path / "alike")
    for part in ("preprocessor", "postprocessor"):
        tensors = raw(folder, part)
        (path,) = folder.glob(f"policy_{part}_step_*.safetensors")
        save_file(
            tensors
            | {
                "observation.state_of_mind.mode": np.ones(3),
                "action_mask.mean": np.ones(1),
            },
            path,
        )
    found = load_normalisation(folder)
    assert_values(found.state, raw(small_act, "preprocessor"))
    assert_values(found.action, raw(small_act, "postprocessor"))


def stats(**values):
    return FeatureStats(
        "action", "ACTION", "MEAN_STD", {name: np.float64([v]) for name, v in values.items()}
    )


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
    for found, expected in ((stats(**given).span, span), (stats(**given).typical, typical)):
        assert (found is None) == (expected is None)
        assert found is None or [part.tolist() for part in found] == [
            [expected[0]],
            [expected[1]],
        ]


@pytest.fixture
def copied(small_act, tmp_path):
    return shutil.copytree(small_act, tmp_path / "act")


def at(index, number):
    """Return a function that puts a number into one place of a statistic."""
    return lambda value: np.where(np.arange(value.size) == index, np.float32(number), value)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "observation.state.mean",
            lambda v: v + np.inf,
            r"finite numbers.*mean \[inf.*placeholders",
        ),
        ("observation.state.std", lambda v: v * np.nan, r"finite numbers.*std \[nan"),
        ("action.mean", at(2, np.nan), r"finite numbers.*mean \[0, -46, nan"),
        ("action.std", at(0, -1), r"no negative std.*-1, 15"),
        ("action.std", lambda v: v * 0, "numbers that varied"),
    ],
)
def test_statistics_that_are_no_numbers_are_refused_at_opening(copied, name, change, words):
    """Invalid statistics are refused in one line, before anything is imported to load the weights.

    lerobot would plan NaN with them.
    """
    edit_statistics(
        copied,
        lambda own, value: change(value) if own == name else value,
    )
    with pytest.raises(WhiskerError, match=words) as refusal:
        open_checkpoint("act", str(copied))
    assert repr(name.rpartition(".")[0]) in str(refusal.value) and "\n" not in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "action.q99",
            None,
            r"q01 and q99, which QUANTILES needs, got max, mean, min, q01, std",
        ),
        ("observation.state.q01", lambda v: v + 1000, "no q01 above its q99"),
        ("observation.state.q01", lambda v: v - np.inf, "finite numbers"),
        ("action.q01", lambda v: v + 2 * SPREAD, "numbers that varied"),
    ],
)
def test_the_keys_of_the_mode_are_those_that_are_asked_for(pi05, tmp_path, name, change, words):
    folder = shutil.copytree(pi05, tmp_path / "pi05")
    for path in folder.glob("policy_*processor_step_*.safetensors"):
        tensors = load_file(path)
        value = tensors.pop(name, None)
        if value is not None and change is not None:
            tensors[name] = change(value).astype(np.float32)
        save_file(tensors, path)
    with pytest.raises(WhiskerError, match=words) as refusal:
        open_checkpoint("pi05", str(folder))
    assert repr(name.rpartition(".")[0]) in str(refusal.value)


def test_statistics_that_the_mode_does_not_use_may_be_anything(copied):
    """Statistics that the mode does not use may hold anything.

    They normalise nothing, and no span is computed from them.
    """
    edit_statistics(
        copied,
        lambda name, value: value * np.nan if name.rpartition(".")[2] in ("min", "q01") else value,
    )
    edit_statistics(
        copied,
        lambda name, value: at(0, 0)(value) if name == "action.std" else value,
    )
    open_checkpoint("act", str(copied))
    found = load_normalisation(copied)
    assert "min" not in found.action.values and "q01" not in found.state.values
    low, high = found.action.span
    np.testing.assert_allclose(high - low, 6 * found.action.values["std"])


def test_bfloat16_statistics_are_read_as_lerobot_reads_them(copied):
    from safetensors.torch import load_file as load_torch_file
    from safetensors.torch import save_file as save_torch_file

    for path in copied.glob("policy_*processor_step_*.safetensors"):
        save_torch_file(
            {name: value.bfloat16() for name, value in load_torch_file(path).items()}, path
        )
    found = load_normalisation(copied)
    assert_values(
        found.action, {f"action.{n}": np.float64(v) for n, v in found.action.values.items()}
    )
    np.testing.assert_allclose(found.action.values["mean"], HOME, rtol=2**-8)
    policy = load_lerobot_policy(open_checkpoint("act", str(copied)), "cpu")
    _, postprocessor = make_pre_post_processors(policy.network.config, pretrained_path=str(copied))
    np.testing.assert_array_equal(
        postprocessor(torch.zeros(1, 6))[0], np.float32(found.action.values["mean"])
    )
    image = np.zeros((32, 32, 3), np.uint8)
    seen = make_memory(Observation(dict.fromkeys(CAMERAS, image), np.float32(HOME), "pick"))
    assert np.isfinite(policy.predict([seen], [np.random.default_rng(0)]).actions).all()


@pytest.mark.parametrize("checkpoint", ["small_act", "pi05"])
def test_the_scale_is_how_far_a_normalised_unit_moves_an_action(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    with shrunken_paligemma():
        config = load_lerobot_policy(
            open_checkpoint(None, str(folder)),
            "cpu",
        ).network.config
    _, postprocessor = make_pre_post_processors(config, pretrained_path=str(folder))
    moved = postprocessor(torch.ones(1, 6)) - postprocessor(torch.zeros(1, 6))
    np.testing.assert_allclose(
        load_normalisation(folder).action.affine[1],
        moved[0],
        rtol=1e-5,
    )


IMAGENET = [np.ravel(IMAGENET_STATS[name]) for name in ("mean", "std")]


@pytest.mark.parametrize(
    ("mean", "std", "convention"),
    [
        (*IMAGENET, "ImageNet's"),
        (*(np.float64(torch.tensor(v).bfloat16().float()) for v in IMAGENET), "ImageNet's"),
        ([0.5] * 3, [0.5] * 3, "mean 0.5 and std 0.5"),
        ([0.0] * 3, [1.0] * 3, "mean 0 and std 1"),
        ([0.74, 0.67, 0.56], [0.2] * 3, ""),
        # These are a measured grey, and ImageNet's means with another spread.
        ([0.5] * 3, [0.21] * 3, ""),
        (IMAGENET[0], [0.2, 0.2, 0.2], ""),
        ([0.485] * 3, [0.229] * 3, ""),
    ],
)
def test_image_statistics_by_convention_are_told_from_measurements(mean, std, convention):
    values = {
        "mean": np.float64(mean),
        "std": np.float64(std),
    }
    assert (
        FeatureStats("observation.images.cam", "VISUAL", "MEAN_STD", values).convention
        == convention
    )
    assert FeatureStats("observation.state", "STATE", "MEAN_STD", values).convention == ""
    assert FeatureStats("observation.images.cam", "VISUAL", "IDENTITY", {}).convention == ""
