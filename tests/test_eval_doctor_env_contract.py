"""Tests that `eval-doctor --env` without a policy checks the environment's contract."""

import json

import pytest

from eval.cli import main_doctor
from tests.test_sim_check_env import ForgetsVelocity, Slider


@pytest.fixture
def doctor(monkeypatch, capsys):
    """Run `eval-doctor` in this process. Return its exit code and what it printed."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["eval-doctor", *arguments])
        code = main_doctor()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_an_environment_is_examined_alone(doctor):
    code, out, _ = doctor("--env", "so101/pick_place", "--json")
    findings = json.loads(out)
    assert code == 0 and len(findings) == 14
    assert {finding["level"] for finding in findings} == {"fine"}
    assert "continues bit for bit" in next(
        f["finding"] for f in findings if f["check"] == "snapshot"
    )


def test_a_broken_contract_is_an_error(doctor, monkeypatch):
    made = {"toy/good": Slider, "toy/broken": ForgetsVelocity}
    monkeypatch.setattr(
        "eval.doctor.env_contract.make_env",
        lambda name, control: made[name](),
    )
    code, out, _ = doctor("--env", "toy/good")
    assert code == 0 and "environment toy/good" in out and "13 fine" in out
    assert "1 unknown: drawable" in out
    code, out, _ = doctor("--env", "toy/broken")
    words = " ".join(out.split())
    assert (
        code == 2 and "error: snapshot: after an immediate restore, the snapshot differs" in words
    )
    assert "what to do: The contract is in sim/env.py" in words


def test_a_flag_of_a_policy_is_refused(doctor):
    code, _, err = doctor("--env", "so101/pick_place", "--gripper-offset", "3")
    assert code == 2 and "--gripper-offset: expected together with --policy or --checkpoint" in err
    assert "without a policy the environment alone is checked" in err


def test_what_cannot_be_made_is_refused(doctor):
    code, _, err = doctor("--env", "so101/pick_plaice")
    assert code == 2 and "so101/pick_place" in err


def test_a_policy_is_examined_as_before(doctor):
    code, out, _ = doctor("--env", "so101/pick_place", "--policy", "zero")
    assert code == 0 and "zero in so101/pick_place" in out and "environment so101" not in out
