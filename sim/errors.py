"""The one base class of every error that a person is meant to read."""

import difflib
from collections.abc import Iterable


class WhiskerError(Exception):
    """Bad input, refused before anything ran. Commands print it without a traceback and exit with 2.

    The message says: subject, what was expected, what came, what to do.
    """

    def __init__(self, subject: str, *, expected: str = "", got: str = "", do: str = "") -> None:
        self.subject, self.expected, self.got, self.do = subject, expected, got, do
        finding = ", ".join(
            part for part in (f"expected {expected}" if expected else "", f"got {got}" if got else "") if part
        )
        head = f"{subject}: {finding}." if finding else f"{subject}."
        super().__init__(f"{head} {do}".rstrip())


class UnknownNameError(WhiskerError):
    """A name that is in no table; the message offers the closest ones, then all of them."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        did_you_mean = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
        super().__init__(
            f"{kind} {name!r}",
            expected=f"one of: {', '.join(known)}",
            do=f"{did_you_mean}Use a name from the list.",
        )


class WhiskerWarning(UserWarning):
    """Something that a person should know, though it runs. Commands print it in one line."""
