"""The one base class of every error that a person is meant to read."""

import difflib
from collections.abc import Iterable


class WhiskerError(Exception):
    """Bad input, refused before anything ran. Commands print it without a traceback and exit with 2.

    The message says: subject, what was expected, what came, what to do.
    """

    def __init__(
        self,
        subject: str,
        *,
        expected: str = "",
        got: str = "",
        hint: str = "",
    ) -> None:
        self.subject = subject
        self.expected = expected
        self.got = got
        self.hint = hint
        finding = ", ".join(
            part
            for part in (f"expected {expected}" if expected else "", f"got {got}" if got else "")
            if part
        )
        head = f"{subject}: {finding}." if finding else f"{subject}."
        super().__init__(f"{head} {hint}".rstrip())


class UnknownNameError(WhiskerError):
    """A name that is in no table; the message offers the closest ones first, then all others."""

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
    ) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(
            name,
            known,
            n=3,
            cutoff=0.4,
        )
        others = ", ".join(one for one in known if one not in close)
        did_you_mean = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
        listed = f"{'The others' if close else 'Known'} are: {others}." if others else ""
        super().__init__(
            f"{kind} {name!r}",
            expected="a known name",
            hint=f"{did_you_mean}{listed}",
        )


class WhiskerWarning(UserWarning):
    """Something that a person should know, though it runs. Commands print it in one line."""
