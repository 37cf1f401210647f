"""The visit goes on when one check fails, and says nothing of plans that are no numbers."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from eval.cli import main
from eval.config import SubjectConfig
from eval.doctor import examination
from eval.doctor.finding import Finding, Level
from eval.evaluation import set_up


def check_of_nothing(patient):
    """Says something, then stumbles over its own numbers."""
    yield Finding("beginning", Level.FINE, "said before it failed", patient.env.name)
    raise np.linalg.LinAlgError("a matrix\nthat is singular")


@pytest.fixture
def failing_check(monkeypatch):
    """The doctor with one check more, which raises, in the middle of the others."""
    checks = examination._OF_EVERY_POLICY
    monkeypatch.setattr(examination, "_OF_EVERY_POLICY", (*checks[:2], check_of_nothing, *checks[2:]))


def examine(config):
    setup = set_up(config)
    try:
        return examination.examine(config, setup)
    finally:
        setup.env.close()


def test_a_check_that_raises_is_a_finding_and_the_others_are_made(failing_check):
    found = {finding.check: finding for finding in examine(SubjectConfig(policy="zero"))}
    finding = found["of nothing"]
    assert finding.level is Level.WARNING and finding.finding == "this check could not be made"
    assert finding.evidence == "LinAlgError: a matrix that is singular" and finding.do
    assert {"beginning", "disk space", "start", "scene at rest", "reset"} <= found.keys()


@pytest.mark.parametrize("flags", [[], ["--no-doctor"]])
def test_a_check_that_raises_ends_no_evaluation(failing_check, monkeypatch, capsys, tmp_path, flags):
    command = ["eval", "--policy", "zero", "--episodes", "1", "--horizon", "5", "--quiet", "--run-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command + flags)
    assert main() == 0
    assert "warning: of nothing: this check could not be made (LinAlgError" in capsys.readouterr().err
    (run,) = tmp_path.iterdir()
    assert "of nothing" in {finding["check"] for finding in json.loads((run / "run.json").read_text())["doctor"]}


@pytest.mark.parametrize(
    ("buffer", "number", "words"),
    [("running_mean", np.nan, "NaN or infinite"), ("running_var", -1.0, "negative variances")],
)
def test_running_statistics_that_make_no_numbers_are_found_before_the_run(small_act, tmp_path, buffer, number, words):
    folder = shutil.copytree(small_act, tmp_path / "act")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith(f"bn1.{buffer}"))
    weights[name] = np.where(np.arange(weights[name].size) == 0, np.float32(number), weights[name])
    save_file(weights, folder / "model.safetensors")
    found = {finding.check: finding for finding in examine(SubjectConfig(policy="act", checkpoint=str(folder)))}
    assert found["weights"].level is Level.ERROR and words in found["weights"].finding
    assert found["weights"].evidence == name
    plan = found["planned actions"]
    assert plan.level is Level.ERROR and "NaN" in plan.finding and "100% of the first plan" in plan.evidence
    # Nothing that compares plans says that they are fine, or of what they would differ.
    assert not {"reset", "agreement", "sensitivity"} & found.keys()
    assert not any("nan" in finding.evidence for finding in found.values())
