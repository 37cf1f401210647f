"""Loads the user's own code, by import string or as an entry point of an installed package."""

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
    """Raise unless the name has the form `package.module:attribute`."""
    if not _IMPORT_STRING.fullmatch(name):
        raise WhiskerError(
            subject,
            expected="package.module:attribute",
            got=repr(name),
            hint="Write the module as in `import`, a colon, and the name of the attribute.",
        )


def find_entry_points(group: str) -> dict[str, str]:
    """Return name → import string of the entry points of installed packages in a group."""
    return {point.name: point.value for point in entry_points(group=group)}


def import_attribute(subject: str, name: str) -> Any:
    """Return the object that `package.module:attribute` names.

    Args:
        subject: begins the error message.

    Raises:
        WhiskerError: the module or attribute does not exist, or the import of the module fails.
    """
    check_import_string(subject, name)
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except WhiskerError:
        raise
    except Exception as error:
        hint = "The module itself fails when it is imported."
        # The module or a package above it does not exist.
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            hint = _explain_missing(module_name.partition(".")[0])
        raise WhiskerError(
            subject,
            expected=f"a module {module_name!r} that can be imported",
            got=describe_error(error),
            hint=hint,
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = ", ".join(sorted(each for each in vars(found) if not each.startswith("_")))
            owner = repr(getattr(found, "__name__", type(found).__name__))
            kind = "module " if inspect.ismodule(found) else ""
            raise WhiskerError(
                subject,
                expected=f"an attribute {part!r} of {kind}{owner}",
                got=f"none of that name; it has {public or 'no public names'}",
            )
        found = getattr(found, part)
    return found


def _explain_missing(package: str) -> str:
    """Return what to do about a package of which a module is missing."""
    found = source_file(package)
    is_another = found is not None and Path.cwd() not in found.resolve().parents
    if is_another and Path(package).is_dir():
        return (
            f"An installed package is also called {package!r} and comes first: give your folder "
            "another name."
        )
    return f"Start the command in the folder that has {package!r}, or install it."


def call_factory(subject: str, factory: object, **arguments: Any) -> Any:
    """Call a factory of the user and return its result.

    Raises:
        WhiskerError: the factory does not accept these arguments, or fails. A `WhiskerError` that
            it raises itself passes unchanged.
    """
    expected = f"a function of ({', '.join(arguments)})"
    if not callable(factory):
        raise WhiskerError(
            subject,
            expected=expected,
            got=f"a {type(factory).__name__}",
        )
    try:
        signature = inspect.signature(factory)
        signature.bind(**arguments)
    except TypeError as error:
        raise WhiskerError(
            subject,
            expected=expected,
            got=f"one of {signature}",
        ) from error
    try:
        return factory(**arguments)
    except WhiskerError:
        raise
    except Exception as error:
        raise WhiskerError(
            subject,
            expected="a factory that does not fail",
            got=describe_error(error),
        ) from error


def source_file(name: str) -> Path | None:
    """Return the file of the imported module in `package.module:attribute`; None if it has none."""
    file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    return Path(file) if file else None


def look_in_current_directory() -> None:
    """Make modules of the current directory importable, which installed commands do not do.

    The directory is searched last, so that it hides no installed package.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def describe_error(error: BaseException) -> str:
    """Return an exception in one line: type, message, and the file and line that raised it."""
    message = " ".join(str(error).split()).rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    # The first frame is the caller in this package. Those of the import system say nothing.
    own = [frame for frame in frames[1:] if "importlib" not in frame.filename]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{where}"
