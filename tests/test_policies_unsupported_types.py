"""Tests that lerobot's other types are refused with a reason, and that the reasons are true."""

import json
import os
import subprocess
import sys

import pytest
from lerobot.configs.policies import PreTrainedConfig

from policies.checkpoint_files import open_checkpoint
from policies.lean_lerobot import load_all
from policies.lerobot_types import LEROBOT_TYPES
from policies.registry import resolve_policy_name
from policies.unsupported_types import UNSUPPORTED_TYPES
from sim.errors import WhiskerError

# Builds a policy of each type from its default config, and prints the error that stops it.
BUILD = """
import sys
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config
images = {"observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 224, 224))}
inputs = images | {"observation.state": PolicyFeature(FeatureType.STATE, (8,))}
for name in sys.argv[1:]:
    try:
        config = make_policy_config(
            name,
            input_features=inputs,
            output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
            device="cpu",
        )
        get_policy_class(name)(config)
        print(name, "was built")
    except Exception as error:
        print(name, type(error).__name__, str(error).splitlines()[0])
"""
# The defaults of fastwam and lingbot_va have five billion parameters, too many for this test.
MISSING = {
    "molmoact2": "LocalEntryNotFoundError",
    "wall_x": "torchdiffeq",
}


def test_every_type_of_lerobot_is_loaded_or_refused():
    load_all()
    import lerobot.policies  # noqa: F401  registers the types

    assert set(PreTrainedConfig.get_known_choices()) == {*LEROBOT_TYPES, *UNSUPPORTED_TYPES}
    assert not LEROBOT_TYPES.keys() & UNSUPPORTED_TYPES.keys()


@pytest.mark.parametrize("name", UNSUPPORTED_TYPES)
def test_a_type_is_refused_by_its_name_and_by_its_checkpoint(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"type": name}), encoding="utf-8")
    said = f"got '{name}', which {UNSUPPORTED_TYPES[name]}"
    with pytest.raises(WhiskerError, match="--policy: expected") as by_name:
        resolve_policy_name(name)
    with pytest.raises(WhiskerError, match="checkpoint") as by_checkpoint:
        open_checkpoint(None, str(tmp_path))
    assert said in str(by_name.value)
    assert said in str(by_checkpoint.value)


@pytest.mark.slow
def test_types_cannot_be_built_without_what_they_are_said_to_need():
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *MISSING],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    errors = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert errors.keys() == MISSING.keys()
    for name, missing in MISSING.items():
        assert missing in errors[name], name
