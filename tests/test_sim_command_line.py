"""How a command begins and ends, on a command of the test's own."""

import sys
from dataclasses import dataclass

import pytest

from sim.command_line import EXIT_REFUSED, run_command
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
