"""Every command's help describes what its parser accepts."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from cknna.cli import Command
from cknna.config import AuditConfig, ExtractConfig, ScoreConfig
from eval.compare_config import CompareConfig
from eval.config import DemoConfig, DoctorConfig, EvalConfig
from sim.command_line import EXIT_DONE, run_command
from sim.flags import find_flags, make_config, replace_flags
from sim.help_text import format_help
from viz.config import LiveConfig, WhiskersConfig
from viz.report.config import ReportConfig

COMMANDS = {
    "eval": EvalConfig,
    "eval-doctor": DoctorConfig,
    "eval-compare": CompareConfig,
    "eval-demos": DemoConfig,
    "eval-report": ReportConfig,
    "whiskers": WhiskersConfig,
    "whiskers live": LiveConfig,
}
SUBCOMMANDS = {"score": ScoreConfig, "extract": ExtractConfig, "audit": AuditConfig}


def parse(config_type, arguments):
    return tyro.cli(config_type, args=arguments, config=(OmitArgPrefixes,))


def ask(config_type, command, *arguments):
    """Run a command that would fail if it did more than print its help."""
    return run_command(lambda config: 1, config_type, command, arguments=arguments)


@dataclass(frozen=True)
class ToolConfig:
    """Names a tool.

    Attributes:
        name: of the tool.
        force: with which it is used.
    """

    name: Annotated[str | None, arg(name="tool")] = None
    force: Annotated[float, arg(aliases=["--strength"])] = 0.5


@dataclass(frozen=True)
class BaseConfig:
    """Says what is worked on.

    Attributes:
        size: of the thing.
        tool: the tool.
    """

    size: int = 1
    tool: ToolConfig = ToolConfig()


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


def test_groups_are_those_of_the_settings(monkeypatch):
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

the tool:
  --tool TEXT             of the tool.
  --force X               with which it is used. Default:
                          0.5.

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
def test_help_fits_the_terminal_and_leaves_no_flag_without_a_group(
    command, columns, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert ask(COMMANDS[command], command, "--help") == EXIT_DONE
    printed = capsys.readouterr().out
    before_examples = printed.partition("Examples:")[0]
    assert max(map(len, before_examples.splitlines())) <= min(columns, 100)
    assert "more:" not in printed and "None" not in printed


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
    flags = {flag.name: flag for flag in find_flags(config_type)}
    assert len(shown) == len(set(shown)) == len(flags)
    values = {
        "N": "3",
        "N | auto": "3",
        "[N ...]": "3",
        "X": "0.25",
        "X X": "0 1",
        "TEXT": "a",
        "[TEXT ...]": "a b",
        "PATH": "p",
        "[PATH ...]": "p",
    }
    for spelling, value in shown:
        given = values.get(value, value.rpartition("|")[2]).split()
        arguments = [spelling, *given] if spelling.startswith("--") else ["p"]
        if config_type is DemoConfig and spelling != "--output":
            arguments += ["--output", "p"]
        config = parse(config_type, arguments)
        name = spelling.removeprefix("--").removeprefix("no-").replace("-", "_").lower()
        is_no = spelling.startswith("--no-")
        expected = False if is_no else flags[name].field.default
        assert (flags[name].value_in(config) == expected) is is_no


@pytest.mark.parametrize(
    ("config_type", "old", "present"),
    [
        (EvalConfig, "--horizon 7", "--max-steps 7"),
        (EvalConfig, "--drafts", "--intermediate-plans"),
        (WhiskersConfig, "--show-flow", "--intermediate-plans"),
        (WhiskersConfig, "--png a.png", "--output a.png"),
        (WhiskersConfig, "--video a.mp4", "--output a.mp4"),
        (WhiskersConfig, "--export a.html", "--output a.html"),
    ],
)
def test_earlier_spellings_are_understood(config_type, old, present):
    assert parse(config_type, old.split()) == parse(config_type, present.split())


def test_settings_are_named_by_their_flags():
    config = make_config(Config, tool="saw", size=3)
    assert config == Config(size=3, tool=ToolConfig(name="saw"))
    assert replace_flags(config, force=2.0, loud=True) == Config(
        size=3, loud=True, tool=ToolConfig("saw", 2.0)
    )
    with pytest.raises(TypeError, match="colour"):
        make_config(Config, colour="red")
    with pytest.raises(TypeError, match="colour"):
        replace_flags(config, colour="red")


def test_what_is_not_typed_is_taken_from_the_settings_that_were_found():
    found = make_config(Config, tool="saw", size=3)
    parsed = []
    done = run_command(
        lambda config: parsed.append(config) or EXIT_DONE,
        Config,
        "do",
        find_defaults=lambda config: found if config.loud else None,
        arguments=["--loud", "--force", "2"],
    )
    assert done == EXIT_DONE and parsed == [replace_flags(found, loud=True, force=2.0)]


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["-h", "extract"]])
def test_a_command_with_subcommands_shows_those_or_the_help_of_one(arguments, capsys):
    assert ask(Command, "cknna", *arguments) == EXIT_DONE
    printed = capsys.readouterr().out
    named = set(arguments) & SUBCOMMANDS.keys()
    for subcommand in SUBCOMMANDS:
        assert (f"\n  {subcommand} " in printed) == (not named)
    for subcommand in named:
        assert printed == format_help(SUBCOMMANDS[subcommand], f"cknna {subcommand}") + "\n"
