"""Tests that `eval-doctor --env` without a policy checks the environment's contract."""

import json

import pytest

from tests.test_sim_check_env import ForgetsVelocity, Slider


def test_an_environment_is_examined_alone(doctor_here):
    done = doctor_here("--env so101/pick_place --json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0
    assert len(findings) == 14
    assert {finding["level"] for finding in findings} == {"fine"}
    (snapshot,) = [f["finding"] for f in findings if f["check"] == "snapshot"]
    assert "continues bit for bit" in snapshot


def test_a_broken_contract_is_an_error(doctor_here, monkeypatch):
    made = {"toy/good": Slider, "toy/broken": ForgetsVelocity}
    monkeypatch.setattr("eval.doctor.env_contract.make_env", lambda name, control: made[name]())
    good = doctor_here("--env toy/good")
    assert good.returncode == 0
    for part in ("environment toy/good", "13 fine", "1 unknown: drawable"):
        assert part in good.stdout
    broken = doctor_here("--env toy/broken")
    words = " ".join(broken.stdout.split())
    assert broken.returncode == 2
    assert "error: snapshot: after an immediate restore, the snapshot differs" in words
    assert "what to do: The contract is in sim/env.py" in words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "--env so101/pick_place --gripper-offset 3",
            "--gripper-offset: expected together with --policy or --checkpoint",
        ),
        (
            "--env so101/pick_place --gripper-offset 3",
            "without a policy the environment alone is checked",
        ),
        ("--env so101/pick_plaice", "so101/pick_place"),
    ],
)
def test_a_flag_of_a_policy_and_an_unknown_environment_are_refused(doctor_here, arguments, said):
    done = doctor_here(arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_policy_is_examined_as_before(doctor_here):
    done = doctor_here("--env so101/pick_place --policy zero")
    assert done.returncode == 0
    assert "zero in so101/pick_place" in done.stdout
    assert "environment so101" not in done.stdout
