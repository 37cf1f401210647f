"""Findings: what the doctor's checks return."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from sim.errors import WhiskerError


class Level(StrEnum):
    """Says how serious a finding is.

    OK: the check found nothing wrong.
    UNKNOWN: the check cannot decide.
    WARNING: a person should look at this.
    ERROR: the success rate would be wrong, so `eval` refuses to run.
    """

    OK = "fine"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """Holds the result of one check.

    Attributes:
        check: what was checked, e.g. "gripper".
        finding: the result in one sentence; it names the bug if there is one.
        evidence: the numbers that support it.
        hint: what to do about it; "" if nothing.
    """

    check: str
    level: Level
    finding: str
    evidence: str = ""
    hint: str = ""

    @property
    def is_problem(self) -> bool:
        """Return whether it is a warning or an error."""
        return self.level in (Level.WARNING, Level.ERROR)

    def __str__(self) -> str:
        evidence = f" ({self.evidence})" if self.evidence else ""
        return f"{self.check}: {self.finding}{evidence}. {self.hint}".rstrip()


type Findings = Iterator[Finding]


def _find(
    level: Level,
    check: str,
    finding: str,
    evidence: str = "",
    hint: str = "",
) -> Finding:
    return Finding(check, level, finding, evidence, hint)


# Findings of each level; the arguments are the check, the finding, its evidence and the hint.
fine = partial(_find, Level.OK)
unknown = partial(_find, Level.UNKNOWN)
warn = partial(_find, Level.WARNING)
fail = partial(_find, Level.ERROR)

# Recorded episodes show that something is wrong, but seldom why. These commands find the cause.
FIND_THE_CAUSE = (
    "Run eval-doctor with the flags of the run to find the cause, "
    "and whiskers to see what the policy planned."
)


def describe_failed_check(function: str, error: Exception) -> Finding:
    """Return the finding that replaces a check which raised.

    Args:
        function: name of the check's function, e.g. "check_gripper".
    """
    name = function.strip("_").removeprefix("check_").replace("_", " ")
    said = " ".join(str(error).split())
    hint = "The problems that it looks for may be there."
    # A policy server that has gone is no fault of ours, and its error says what to do.
    if not isinstance(error, WhiskerError):
        said = f"{type(error).__name__}: {said}"
        hint += " Please report it, with the command."
    return warn(name, "this check could not run", said.rstrip("."), hint)
