"""The steps by which a checkpoint plans differences from the state and returns targets, read from its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sim.errors import WhiskerError


@dataclass(frozen=True)
class RelativeActions:
    """Describes the processor steps that turn targets into differences from the state, and back.

    Attributes:
        trained: the preprocessor subtracts the state from the training's actions
            (`relative_actions_processor`).
        added: the postprocessor adds the state to the actions that it has un-normalised
            (`absolute_actions_processor`).
        excluded: parts of the names of the actions that stay targets, in lower case.
        names: of the actions, in lower case; empty if the step does not know them, and excludes
            none.
    """

    trained: bool = False
    added: bool = False
    excluded: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def output(self) -> Literal["absolute", "delta"] | None:
        """Return whether targets or differences leave the postprocessor; None if these steps do not say."""
        if self.added:
            return "absolute"
        return "delta" if self.trained else None

    def is_difference(self, index: int) -> bool:
        """Return whether the network plans this action as a difference; lerobot's step decides by its name."""
        name = self.names[index] if index < len(self.names) else ""
        return (self.trained or self.added) and not any(part in name for part in self.excluded)


def load_relative_actions(folder: Path) -> RelativeActions:
    """Read those steps of a checkpoint. In the postprocessor they count after its un-normaliser alone.

    Raises:
        WhiskerError: the postprocessor adds a state that no step of the preprocessor keeps.
    """
    before = {
        step["registry_name"]: step.get("config", {})
        for step in _read_steps(folder, "preprocessor")
    }
    after = _read_steps(folder, "postprocessor")
    names = [step["registry_name"] for step in after]
    begin = names.index("unnormalizer_processor") + 1 if "unnormalizer_processor" in names else 0
    added = any(
        step["registry_name"] == "absolute_actions_processor"
        and step.get("config", {}).get("enabled", False)
        for step in after[begin:]
    )
    if added and "relative_actions_processor" not in before:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}",
            expected="a relative_actions_processor in policy_preprocessor.json",
            got="none, and an absolute_actions_processor in policy_postprocessor.json that adds the state it keeps",
            hint="Save both processors of one training.",
        )
    step = before.get("relative_actions_processor", {})
    return RelativeActions(
        trained=step.get("enabled", False),
        added=added,
        excluded=tuple(str(part).lower() for part in step.get("exclude_joints") or () if part),
        names=tuple(str(name).lower() for name in step.get("action_names") or ()),
    )


def _read_steps(folder: Path, part: str) -> list[dict]:
    return json.loads((folder / f"policy_{part}.json").read_text(encoding="utf-8"))["steps"]
