"""Tests the names of policies, and the table of lerobot's types against other lists of them."""

import pytest

from policies.embeddings import EMBEDDING_POINTS
from policies.lerobot_types import ALIASES, LEROBOT_TYPES
from policies.native.native_types import NATIVE_TYPES
from policies.registry import BASELINE_NAMES, resolve_policy_name, shipped_checkpoints
from sim.errors import UnknownNameError, WhiskerError


def test_every_type_has_its_row_everywhere_and_a_name_of_its_own():
    assert LEROBOT_TYPES.keys() | NATIVE_TYPES.keys() == EMBEDDING_POINTS.keys()
    names = [
        *LEROBOT_TYPES,
        *NATIVE_TYPES,
        *BASELINE_NAMES,
        *(alias for row in LEROBOT_TYPES.values() for alias in row.aliases),
    ]
    assert len(names) == len(set(names))
    assert {row.shipped for row in LEROBOT_TYPES.values() if row.shipped} <= set(
        shipped_checkpoints()
    )


def test_a_type_by_an_older_name_is_todays():
    assert (
        resolve_policy_name("sac") == "gaussian_actor"
        and resolve_policy_name("pi0fast") == "pi0_fast"
    )
    assert all(resolve_policy_name(name) == name for name in (*LEROBOT_TYPES, *BASELINE_NAMES))
    assert not ALIASES.keys() & LEROBOT_TYPES.keys()


def test_an_import_string_is_taken_as_it_is_and_only_if_it_reads_as_one():
    assert resolve_policy_name("my_package.my_module:factory") == "my_package.my_module:factory"
    with pytest.raises(
        WhiskerError, match=r"--policy my module:f: expected package\.module:attribute"
    ):
        resolve_policy_name("my module:f")
    with pytest.raises(UnknownNameError, match="Did you mean 'smolvla'"):
        resolve_policy_name("smolvlm")
