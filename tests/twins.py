"""Small checkpoints that the public originals wrote and ran, beside the repository."""

from pathlib import Path

import pytest
import torch

from policies.config import PolicyConfig
from policies.loading import load_policy
from policies.native.native_checkpoint import open_native_checkpoint

TWINS = Path(__file__).parents[2] / "shared" / "data" / "twins"


def find_twin(name):
    """Return the folder of a twin, or skip the test."""
    folder = TWINS / name
    if not folder.is_dir():
        pytest.skip(f"the outputs of the original are not here: {folder}")
    return folder


def load_expected(name):
    """Return what the original computed."""
    return torch.load(find_twin(name) / "expected.pt", weights_only=True)


def load_twin(policy_type, path, dtype=None):
    """Return the policy of a native checkpoint, on the CPU."""
    named = PolicyConfig(policy_type, str(path), dtype=dtype)
    return load_policy(policy_type, checkpoint=open_native_checkpoint(named), device="cpu")
