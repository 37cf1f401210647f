"""The help of every command, and how the parser understands what it shows."""

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import tyro
from tyro.conf import Positional

from cknna.cli import Command
from cknna.config import AuditConfig, ExtractConfig, ScoreConfig
from eval.compare_config import CompareConfig
from eval.config import DemoConfig, DoctorConfig, EvalConfig
from sim.command_line import EXIT_DONE, run_command
from sim.help_text import format_help
from viz.config import WhiskersConfig
from viz.report.config import ReportConfig

COMMANDS = {
    "eval": EvalConfig,
    "eval-doctor": DoctorConfig,
    "eval-compare": CompareConfig,
    "eval-demos": DemoConfig,
    "eval-report": ReportConfig,
    "whiskers": WhiskersConfig,
}
SUBCOMMANDS = {"score": ScoreConfig, "extract": ExtractConfig, "audit": AuditConfig}


@dataclass(frozen=True)
class BaseConfig:
    """Attributes:
    size: of the thing.
    """

    size: int = 1


@dataclass(frozen=True)
class Config(BaseConfig):
    """Do one thing.

    Examples:
      do --size 2

    And nothing else.

    Attributes:
        path: where, in a sentence that is far too long for one line of a narrow terminal, so that
            it goes on.
        mode: which one. Default: the fast one.
        names: some.
        loud: say it.
        safe: ask first; --no-safe does not.
        pair: two of them.
    """

    help_groups: ClassVar = {"first": ("path", "size")}
    path: Positional[Path | None] = None
    mode: Literal["slow", "fast"] | None = None
    names: tuple[str, ...] = ()
    loud: bool = False
    safe: bool = True
    pair: tuple[float, float] | None = None


def test_groups_come_in_order_and_what_is_in_none_comes_last(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert (
        format_help(Config, "do")
        == """\
usage: do [PATH] [--flag value ...]

Do one thing.

first:
  PATH                    where, in a sentence that is far
                          too long for one line of a narrow
                          terminal, so that it goes on.
  --size N                of the thing. Default: 1.

more:
  --mode slow|fast        which one. Default: the fast one.
  --names [TEXT ...]      some.
  --loud                  say it.
  --no-safe               ask first; --no-safe does not.
  --pair X X              two of them.

Examples:
  do --size 2

And nothing else."""
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal_and_begins_with_six_flags(command, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    assert run_command(lambda config: 1, COMMANDS[command], command) == EXIT_DONE
    printed = capsys.readouterr().out
    before_examples = printed.partition("Examples:")[0]
    assert max(map(len, before_examples.splitlines())) <= min(columns, 100)
    n_flags = len(fields(COMMANDS[command]))
    title = "most used:" if n_flags > 6 else "what to read and write:"
    first_group = printed.partition(title)[2].partition("\n\n")[0]
    assert len(re.findall(r"^  \S", first_group, re.MULTILINE)) == min(6, n_flags)


@pytest.mark.parametrize("command", [*COMMANDS, *SUBCOMMANDS])
def test_every_flag_is_shown_once_as_the_parser_takes_it(command):
    """The parser is tyro's, which knows nothing of the help."""
    config_type = (COMMANDS | SUBCOMMANDS)[command]
    printed = format_help(config_type, command)
    shown = re.findall(
        r"^  (--[\w-]+|[A-Z]+)(?: (\S.*?))?(?:  |$)",
        printed.partition("Examples:")[0],
        re.MULTILINE,
    )
    assert len(shown) == len(set(shown)) == len(fields(config_type))
    values = {
        "N": ["3"],
        "X": ["0.5"],
        "X X": ["0", "1"],
        "TEXT": ["a"],
        "[TEXT ...]": ["a", "b"],
        "PATH": ["p"],
    }
    values |= {"[N ...]": ["3"], "[PATH ...]": ["p"]}
    for flag, value in shown:
        given = values.get(value, value.split("|")[-1:] if value else [])
        arguments = [flag, *given] if flag.startswith("--") else ["p"]
        required = ["--output", "p"] if config_type is DemoConfig and flag != "--output" else []
        config = tyro.cli(config_type, args=required + arguments)
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_").lower()
        assert getattr(config, name) != (False if flag == f"--{name}" else None)


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["-h", "extract"]])
def test_a_command_with_subcommands_shows_those_or_the_help_of_one(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cknna", *arguments])
    assert run_command(lambda config: 1, Command, "cknna") == EXIT_DONE
    printed = capsys.readouterr().out
    named = set(arguments) & SUBCOMMANDS.keys()
    for subcommand in SUBCOMMANDS:
        assert (f"\n  {subcommand} " in printed) == (not named)
    for subcommand in named:
        assert printed == format_help(SUBCOMMANDS[subcommand], f"cknna {subcommand}") + "\n"
