"""What the rows of a feature bank are, as JSON beside them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from policies.policy import HookablePolicy
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.observation import Observation

VERSION = 1
# The hook point of the policy type's own condition embedding.
EMBEDDING = "embedding"


@dataclass(frozen=True)
class AuditRow:
    """One hook point, as it was in one prediction.

    Attributes:
        name: "embedding" for the policy type's own, the path for one of the user's.
        paths: the modules.
        module_class: of the first.
        output_shape: of the first call, for one row of a batch.
        n_fired: calls of all modules in the prediction.
        n_used: of which these are in the feature: the ones before the plan is made, or the first.
        dim: numbers in the feature of one row.
        pooling: what makes one vector of it.
        mask: where it is known which tokens are padding; "" if that is not used.
        meaning: what the feature knows of; "" for a point of the user's.
        source: where lerobot calls it; "" likewise.
    """

    name: str
    paths: tuple[str, ...]
    module_class: str
    output_shape: tuple[int, ...]
    n_fired: int
    n_used: int
    dim: int
    pooling: str
    mask: str
    meaning: str
    source: str


@dataclass(frozen=True)
class BankDescription:
    """All that a score must say of where its features come from.

    Attributes:
        kind: "rollout": each policy saw what it brought about itself. "extracted": it was shown
            recorded observations.
        files_sha256: of the checkpoint, file → hash; which weights these are.
        reads_instruction: the words of the task are an input.
        looks_random: by its weights, the network was never trained.
        strange_inputs: what the network is given of the first observation, where that is far
            outside what it was trained on → "normalised <lowest> to <highest>".
        hooks: what was hooked; the policy type's own point is the first.
        source: the environment, or the recording that was shown.
        state_names: of the state beside the features; () where the recording does not say.
        every: of an extracted bank: the n-th of the recorded decisions, beginning with the first.
        resized: of an extracted bank: camera → "height x width" recorded and shown, where they
            differ.
    """

    kind: Literal["rollout", "extracted"]
    policy_type: str
    checkpoint: str
    files_sha256: dict[str, str]
    reads_instruction: bool
    hooks: tuple[AuditRow, ...]
    source: str
    looks_random: bool = False
    out_of_range_inputs: dict[str, str] = field(default_factory=dict)
    state_names: tuple[str, ...] = ()
    every: int = 1
    resized: dict[str, str] = field(default_factory=dict)
    version: int = VERSION


def describe_policy(policy: HookablePolicy, hooks: Sequence[AuditRow], first: Observation) -> dict:
    """The part of a description that the policy knows.

    Args:
        first: of the observations that the features are of, under the policy's names.
    """
    spec = policy.spec
    return {
        "policy_type": spec.type,
        "checkpoint": spec.checkpoint,
        "files_sha256": dict(spec.files_sha256),
        "reads_instruction": spec.reads_instruction,
        "looks_random": policy.audit().looks_random,
        "out_of_range_inputs": {
            name: f"normalised {low:.0f} to {high:.0f}"
            for name, (low, high) in policy.out_of_range_inputs(first).items()
        },
        "hooks": tuple(hooks),
    }


def save_description(path: Path, description: BankDescription) -> None:
    with atomic_write(path, sync=True) as file:
        file.write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")


def load_bank_description(path: Path) -> BankDescription:
    """Raises WhiskerError: no such file, one of a newer version, or one with parts missing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WhiskerError(
            f"bank {str(path)!r}", expected="a description of features", got=repr(error)
        ) from error
    if version > VERSION:
        hint = "Update whisker-eval."
        raise WhiskerError(
            f"bank {str(path)!r}", expected=f"version {VERSION}", got=str(version), hint=hint
        )
    try:
        hooks = tuple(
            AuditRow(**{k: _as_tuple(v) for k, v in row.items()}) for row in content.pop("hooks")
        )
        known = {
            f.name: _as_tuple(content[f.name]) for f in fields(BankDescription) if f.name in content
        }
        return BankDescription(hooks=hooks, **known)
    except (TypeError, KeyError, AttributeError) as error:
        raise WhiskerError(
            f"bank {str(path)!r}", expected="a whole description", got=repr(error)
        ) from error


def _as_tuple(value):
    """JSON has lists alone."""
    return tuple(value) if isinstance(value, list) else value
