"""Describes the rows of a feature bank, as JSON beside them."""

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
        name: "embedding" for the policy type's own point, the module path for one of the user's.
        paths: paths of the modules.
        module_class: class of the first module.
        output_shape: shape of the first call's output, for a batch of one row.
        n_fired: calls of all modules in the prediction.
        n_used: number of calls in the feature: those before the plan is made, or the first.
        dim: numbers in the feature of one row.
        pooling: how the outputs become one vector.
        mask: where the padding mask comes from; "" if none is used.
        meaning: what the feature encodes; "" for a point of the user's.
        source: where lerobot calls it; "" for a point of the user's.
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
    """The origin of a bank's features, as far as a score depends on it.

    Attributes:
        kind: "rollout": each policy saw the states that its own actions led to. "extracted": the
            policy was shown recorded observations.
        files_sha256: file of the checkpoint → hash, which identifies the weights.
        reads_instruction: whether the words of the task are an input.
        looks_random: the weights look as if the network was never trained.
        out_of_range_inputs: inputs of the first observation that are far outside the training
            data → "normalised <lowest> to <highest>".
        hooks: the hook points; the policy type's own is the first.
        source: the environment, or the recording that was shown.
        state_names: names of the state beside the features; () if the recording does not say.
        every: in an extracted bank, every n-th recorded decision was used, from the first on.
        resized: in an extracted bank, camera → "height x width" recorded and shown, if they differ.
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


def describe_policy(
    policy: HookablePolicy,
    hooks: Sequence[AuditRow],
    first: Observation,
) -> dict:
    """Return the fields of a description that the policy determines.

    Args:
        first: the first observation that the features are of, under the policy's names.
    """
    spec = policy.spec
    out_of_range = {
        name: f"normalised {low:.0f} to {high:.0f}"
        for name, (low, high) in policy.out_of_range_inputs(first).items()
    }
    return {
        "policy_type": spec.type,
        "checkpoint": spec.checkpoint,
        "files_sha256": dict(spec.files_sha256),
        "reads_instruction": spec.reads_instruction,
        "looks_random": policy.audit().looks_random,
        "out_of_range_inputs": out_of_range,
        "hooks": tuple(hooks),
    }


def save_description(path: Path, description: BankDescription) -> None:
    """Write the description of a bank, whole or not at all."""
    with atomic_write(path, sync=True) as file:
        text = json.dumps(asdict(description), indent=2)
        file.write_text(text + "\n", encoding="utf-8")


def load_bank_description(path: Path) -> BankDescription:
    """Load a description.

    Raises:
        WhiskerError: the file is absent, is of a newer version, or has fields missing.
    """
    subject = f"bank {str(path)!r}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WhiskerError(
            subject,
            expected="a description of features",
            got=repr(error),
        ) from error
    if version > VERSION:
        raise WhiskerError(
            subject,
            expected=f"version {VERSION}",
            got=str(version),
            hint="Update whisker-eval.",
        )
    try:
        hooks = tuple(AuditRow(**_with_tuples(row)) for row in content.pop("hooks"))
        names = {field.name for field in fields(BankDescription)} & content.keys()
        return BankDescription(hooks=hooks, **_with_tuples({name: content[name] for name in names}))
    except (TypeError, KeyError, AttributeError) as error:
        raise WhiskerError(
            subject,
            expected="a whole description",
            got=repr(error),
        ) from error


def _with_tuples(row: dict) -> dict:
    """Return a copy with tuples, which JSON does not have, in place of lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
