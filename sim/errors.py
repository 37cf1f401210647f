"""The base class of every error that a person is meant to read."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class WhiskerError(Exception):
    """Invalid input, rejected before anything ran. Commands print it without a traceback (exit 2).

    The message names the subject, what was expected, what was found, and what to do.
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
        stated = {"expected": expected, "got": got}
        findings = ", ".join(f"{word} {text}" for word, text in stated.items() if text)
        colon = ": " if findings else ""
        super().__init__(f"{subject}{colon}{findings}. {hint}".rstrip())

    def __reduce__(self) -> tuple:
        """Return how the error is made again in another process.

        By default, that would call its constructor with the finished message.
        """
        return _make_again, (type(self), self.args, vars(self))


class UnknownNameError(WhiskerError):
    """An unknown name. The message offers the closest known names first, then all others."""

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
    ) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, cutoff=0.4)
        others = ", ".join(one for one in known if one not in close)
        hints = []
        if close:
            hints.append(f"Did you mean {' or '.join(map(repr, close))}?")
        if others:
            hints.append(f"{'The others' if close else 'Known'} are: {others}.")
        super().__init__(
            f"{kind} {name!r}",
            expected="a known name",
            hint=" ".join(hints),
        )


def _make_again(
    error_type: type[WhiskerError],
    arguments: tuple[Any, ...],
    attributes: Mapping[str, Any],
) -> WhiskerError:
    error = error_type.__new__(error_type, *arguments)
    vars(error).update(attributes)
    return error


class WhiskerWarning(UserWarning):
    """Something worth knowing that does not stop a run. Commands print it in one line."""
