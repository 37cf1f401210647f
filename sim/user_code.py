"""Code of the user's own, found by an import string or as the entry point of an installed package."""

import importlib
import inspect
import re
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sim.errors import WhiskerError

_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_import_string(subject: str, name: str) -> None:
    """Raise unless the name reads `package.module:attribute`."""
    if not _IMPORT_STRING.fullmatch(name):
        hint = (
            "It names a module as `import` does, and after the colon what is to be taken from it."
        )
        raise WhiskerError(
            subject,
            expected="package.module:attribute",
            got=repr(name),
            hint=hint,
        )


def find_entry_points(group: str) -> dict[str, str]:
    """Return name → import string of the entry points that installed packages have in a group."""
    return {point.name: point.value for point in entry_points(group=group)}


def import_attribute(subject: str, name: str) -> Any:
    """Return what `package.module:attribute` names.

    Args:
        subject: begins the message of an error.

    Raises:
        WhiskerError: no such module or attribute, or a module that fails when it is imported.
    """
    check_import_string(subject, name)
    module_name, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module_name)
    except WhiskerError:
        raise
    except Exception as error:
        is_absent = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        )
        hint = f"Start the command in the folder that has {module_name.partition('.')[0]!r}, or install it."
        hint = hint if is_absent else "The module itself fails when it is imported."
        expected = f"a module {module_name!r} that can be imported"
        raise WhiskerError(
            subject,
            expected=expected,
            got=describe_error(error),
            hint=hint,
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = ", ".join(sorted(each for each in vars(found) if not each.startswith("_")))
            got = f"none of that name; it has {public or 'no public names'}"
            raise WhiskerError(
                subject,
                expected=f"an attribute {part!r} of {_name_of(found)}",
                got=got,
            )
        found = getattr(found, part)
    return found


def call_factory(subject: str, factory: object, **arguments: Any) -> Any:
    """Return what a factory of the user's makes of these arguments.

    Raises:
        WhiskerError: it does not take these arguments, or fails. One that the factory itself raises
            passes.
    """
    taken = ", ".join(arguments)
    if not callable(factory):
        raise WhiskerError(
            subject,
            expected=f"a function of ({taken})",
            got=f"a {type(factory).__name__}",
        )
    try:
        signature = inspect.signature(factory)
        signature.bind(**arguments)
    except TypeError as error:
        raise WhiskerError(
            subject,
            expected=f"a function of ({taken})",
            got=f"one of {signature}",
        ) from error
    try:
        return factory(**arguments)
    except WhiskerError:
        raise
    except Exception as error:
        got = describe_error(error)
        raise WhiskerError(
            subject,
            expected="a factory that does not fail",
            got=got,
        ) from error


def source_file(name: str) -> Path | None:
    """Return the file of the module in `package.module:attribute`, once that is imported; None if it has none."""
    file = getattr(
        sys.modules.get(name.partition(":")[0]),
        "__file__",
        None,
    )
    return Path(file) if file else None


def look_in_current_directory() -> None:
    """Have the modules of the current directory found, which an installed command does not see by itself.

    They come last: they hide no installed package.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def describe_error(error: BaseException) -> str:
    """Return an exception in one line: type, message, and the file and line where it was raised."""
    said = " ".join(str(error).split()).rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    # The first is the call from here, the next ones are of the import system.
    own = [frame for frame in frames[1:] if "importlib" not in frame.filename]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if said else ''}{said}{where}"


def _name_of(found: Any) -> str:
    return f"{'module ' if inspect.ismodule(found) else ''}{getattr(found, '__name__', type(found).__name__)!r}"
