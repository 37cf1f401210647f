"""Explain why lerobot could not load a part of a checkpoint."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from policies.lerobot_types import Settings
from sim.errors import WhiskerError


@contextlib.contextmanager
def explained_processors(source: Path, settings: Sequence[Settings]) -> Iterator[None]:
    """Turn lerobot's errors from making the processors into errors that name the reason.

    Args:
        source: the folder of the checkpoint.
        settings: the settings that the processors are made from.

    Raises:
        WhiskerError: lerobot could not make the processors.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, ImportError, OSError) as error:
        subject = f"checkpoint {str(source)!r}, processors"
        refuse_absent_folder(subject, settings)
        raise WhiskerError(
            subject,
            expected="processors of lerobot 0.6",
            got=describe_error(error),
        ) from error


def refuse_absent_folder(subject: str, settings: Sequence[Settings]) -> None:
    """Raise if a setting names a local path that does not exist.

    transformers takes such a path for a hub id, and its own message is about the hub.
    """
    for part in settings:
        for setting, value in find_names(part).items():
            if _is_absent_path(value):
                raise WhiskerError(
                    subject,
                    expected=f"the folder {value!r}, which the settings name as {setting}",
                    got="none of that name on this machine",
                    hint="Copy it here, or correct the name in the checkpoint's JSON files.",
                )


def find_names(settings: Settings) -> dict[str, str]:
    """Return setting → value, for the settings that name a path or something on the hub."""
    names = {}
    for setting, value in settings.items():
        if setting.endswith(("_name", "_path")) and isinstance(value, str) and value:
            names[setting] = value
    return names


def _is_absent_path(name: str) -> bool:
    looks_like_path = name.startswith(("/", "./", "../", "~")) or name.count("/") > 1
    return looks_like_path and not Path(name).expanduser().exists()


def describe_error(error: BaseException) -> str:
    """Return the messages of an exception and its causes in one line.

    draccus gives the reason for refusing a value only in the cause.
    """
    messages = []
    cause: BaseException | None = error
    while cause is not None:
        messages.append(" ".join(str(cause).split()).rstrip("."))
        cause = cause.__cause__
    return ": ".join(dict.fromkeys(messages))
