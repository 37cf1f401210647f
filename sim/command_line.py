"""How every command of the project is started, and how it ends."""

import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from sim.errors import WhiskerError, WhiskerWarning

EXIT_DONE, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 2, 130


def run_command(
    command: Callable[[Any], int],
    config_type: Any,
    name: str,
    check_arguments: Callable[[Sequence[str], Any], None] = lambda arguments, config_type: None,
) -> int:
    """Parse the command line, do it, and turn what went wrong into one line and an exit code.

    Args:
        config_type: a class whose docstrings are the help; of a command with subcommands, their union.
        check_arguments: raises a `WhiskerError` for arguments that it knows to be meant for another program.
    """
    description = inspect.cleandoc(config_type.__doc__ or "").partition("Attributes:")[0]
    print_warning = warnings.showwarning

    def show_warning(message, category, *where):
        if issubclass(category, WhiskerWarning):
            print(f"{name}: warning: {message}", file=sys.stderr)
        else:
            print_warning(message, category, *where)

    try:
        check_arguments(sys.argv[1:], config_type)
        config = tyro.cli(config_type, prog=name, description=description)
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            return command(config)
    except WhiskerError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
