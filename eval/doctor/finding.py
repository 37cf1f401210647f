"""What the doctor says."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """FINE: checked and good. UNKNOWN: this check cannot tell. WARNING: look at it.

    ERROR: the number would be wrong, so `eval` refuses.
    """

    OK = "fine"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was looked at, e.g. "gripper".
        finding: what is so, in one sentence; names the bug.
        evidence: the numbers it rests on.
        hint: what to do; "" if nothing.
    """

    check: str
    level: Level
    finding: str
    evidence: str = ""
    hint: str = ""

    @property
    def is_ill(self) -> bool:
        return self.level in (Level.WARNING, Level.ERROR)

    def __str__(self) -> str:
        evidence = f" ({self.evidence})" if self.evidence else ""
        return f"{self.check}: {self.finding}{evidence}. {self.hint}".rstrip()


# Recorded episodes show that something is wrong, and seldom what: these commands look for the
# cause.
TELL_APART = "eval-doctor with the flags of the run looks for the cause, and whiskers shows what was planned."


def describe_failed_check(function: str, error: Exception) -> Finding:
    """Return the finding that stands for a check which raised.

    Args:
        function: its name, e.g. "check_gripper".
    """
    name = function.strip("_").removeprefix("check_").replace("_", " ")
    evidence = " ".join(f"{type(error).__name__}: {error}".split())
    hint = "Nothing is known of what it looks for. Please report it, with the command."
    return Finding(name, Level.WARNING, "this check could not be made", evidence, hint)
