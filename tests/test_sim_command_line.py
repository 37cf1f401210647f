"""A command starts and ends as it should. The command is the test's own."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from sim.command_line import EXIT_DONE, EXIT_REFUSED, run_command
from sim.errors import WhiskerError


@dataclass(frozen=True)
class Config:
    """Do nothing."""


@pytest.mark.parametrize(
    ("subject", "printed"),
    [
        ("look", "look: expected one thing.\n"),
        ("look twice", "look twice: expected one thing.\n"),
        ("looking", "look: looking: expected one thing.\n"),
    ],
)
def test_the_command_is_named_once(subject, printed, monkeypatch, capsys):
    def refuse(config):
        raise WhiskerError(subject, expected="one thing")

    monkeypatch.setattr(sys, "argv", ["look"])
    assert run_command(refuse, Config, "look") == EXIT_REFUSED
    assert capsys.readouterr().err == printed


def test_a_reader_that_has_seen_enough_is_no_error():
    command = subprocess.Popen(
        [sys.executable, "-m", "eval", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    command.stdout.close()
    said = command.stderr.read()
    assert (command.wait(), said) == (EXIT_DONE, "")
