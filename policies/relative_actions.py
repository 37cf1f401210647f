"""Read which processor steps of a checkpoint subtract the state from actions, or add it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policies.checkpoint_reading import find_settings, read_processor_steps
from sim.errors import WhiskerError


@dataclass(frozen=True)
class RelativeActions:
    """Describes the processor steps that turn targets into differences from the state, and back.

    Attributes:
        trained: the preprocessor subtracts the state from the training's actions
            (`relative_actions_processor`).
        added: the postprocessor adds the state to the unnormalised actions
            (`absolute_actions_processor`).
        excluded: parts of names, in lower case; actions whose name contains one stay targets.
        names: names of the actions, in lower case. Empty if the step does not have them; then no
            action is excluded.
    """

    trained: bool = False
    added: bool = False
    excluded: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def output(self) -> Literal["absolute", "delta"] | None:
        """The mode of the postprocessor's actions; None if these steps do not tell."""
        if self.added:
            return "absolute"
        return "delta" if self.trained else None

    def is_difference(self, index: int) -> bool:
        """Return whether the network plans this action as a difference.

        Like lerobot's step, this decides by the action's name.
        """
        name = self.names[index] if index < len(self.names) else ""
        is_excluded = any(part in name for part in self.excluded)
        return (self.trained or self.added) and not is_excluded


def load_relative_actions(folder: Path) -> RelativeActions:
    """Read these steps of a checkpoint.

    In the postprocessor, only steps after the unnormaliser count.

    Raises:
        WhiskerError: the postprocessor adds a state that no step of the preprocessor stores.
    """
    steps = read_processor_steps(folder, "preprocessor")
    relative_steps = find_settings(steps, "relative_actions_processor")
    added = _adds_state(read_processor_steps(folder, "postprocessor"))
    if added and not relative_steps:
        raise WhiskerError(
            f"checkpoint {str(folder)!r}",
            expected="a relative_actions_processor in policy_preprocessor.json",
            got=(
                "none, although an absolute_actions_processor in policy_postprocessor.json "
                "adds the state that it stores"
            ),
            hint="Save both processors of one training.",
        )
    settings = relative_steps[-1] if relative_steps else {}
    excluded = settings.get("exclude_joints") or ()
    return RelativeActions(
        trained=settings.get("enabled", False),
        added=added,
        excluded=tuple(str(part).lower() for part in excluded if part),
        names=tuple(str(name).lower() for name in settings.get("action_names") or ()),
    )


def _adds_state(postprocessor_steps: list[dict]) -> bool:
    """Return whether an enabled step after the (first) unnormaliser adds the state."""
    names = [step["registry_name"] for step in postprocessor_steps]
    if "unnormalizer_processor" in names:
        first = names.index("unnormalizer_processor") + 1
        postprocessor_steps = postprocessor_steps[first:]
    absolute_steps = find_settings(postprocessor_steps, "absolute_actions_processor")
    return any(settings.get("enabled", False) for settings in absolute_steps)
