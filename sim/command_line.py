"""Starts every command of the project, and turns its end into one line and an exit code."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import partial
from typing import Any, get_args

import tyro

from sim.errors import WhiskerError, WhiskerWarning
from sim.help_text import format_help, format_subcommands

EXIT_DONE, EXIT_REFUSED, EXIT_INTERRUPTED = 0, 2, 130


def run_command(
    command: Callable[[Any], int],
    config_type: Any,
    name: str,
    check_arguments: Callable[[Sequence[str], Any], None] = lambda arguments, config_type: None,
    find_defaults: Callable[[Any], Any] = lambda config: None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Parse the command line, do it, and turn what went wrong into one line and an exit code.

    Args:
        config_type: a class whose docstrings are the help (`sim.help_text`), or of a command with
            subcommands the union of theirs, each annotated with `tyro.conf.subcommand`.
        check_arguments: raises a `WhiskerError` for arguments that it knows to be meant for another
            program.
        find_defaults: returns the settings that flags are taken from if they are not typed, given
            the settings as they were parsed first; None: they keep the defaults of the class.
        arguments: of the command line, without the program. Default: those of this process.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    print_warning = warnings.showwarning

    def show_warning(message, category, *where):
        if issubclass(category, WhiskerWarning):
            print(f"{name}: warning: {message}", file=sys.stderr)
        else:
            print_warning(message, category, *where)

    try:
        if {"-h", "--help"} & set(arguments):
            print(_find_help(config_type, name, arguments), flush=True)
            return EXIT_DONE
        check_arguments(arguments, config_type)
        parse = partial(
            tyro.cli,
            config_type,
            prog=name,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        config = parse()
        defaults = find_defaults(config)
        if defaults is not None:
            config = parse(default=defaults)
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            return command(config)
    except WhiskerError as error:
        message = str(error)
        # Some messages begin with the command's name already.
        prefix = "" if message.startswith((f"{name}: ", f"{name} ")) else f"{name}: "
        print(f"{prefix}{message}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever reads it, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _find_help(
    config_type: Any,
    name: str,
    arguments: Sequence[str],
) -> str:
    """Return the help of the command, or of the subcommand that the arguments name."""
    if is_dataclass(config_type):
        return format_help(config_type, name)
    subcommands = {each.__metadata__[0].name: each.__origin__ for each in get_args(config_type)}
    for argument in arguments:
        if argument in subcommands:
            return format_help(subcommands[argument], f"{name} {argument}")
    return format_subcommands(subcommands, name)


def say_progress(message: str) -> None:
    """Say on a terminal what takes long now. Pipes and log files get nothing."""
    if sys.stderr.isatty():
        print(message, file=sys.stderr, flush=True)
