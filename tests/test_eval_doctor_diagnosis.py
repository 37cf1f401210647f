"""Tests that the doctor goes on when one check fails.

It also makes no comparison of plans that contain NaN or infinity.
"""

import io
import json
import shutil
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from eval.config import SubjectConfig
from eval.doctor import diagnosis, findings_output
from eval.doctor.finding import Finding, Level
from eval.evaluation import set_up
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.bug_plants import at, weights
from tests.check_contexts import by_check
from tests.processes import only_run


def check_of_nothing(context):
    """Yield a finding, then raise an error."""
    yield Finding("beginning", Level.OK, "said before it failed", context.env.name)
    raise np.linalg.LinAlgError("a matrix\nthat is singular")


def check_of_another(context):
    """Raise an error that is meant to be read."""
    raise WhiskerError("policy server", expected="a server", got="none", hint="Start it first.")


@pytest.fixture
def failing_check(monkeypatch):
    """Add a check that raises between the doctor's other checks."""
    first, second, *others = diagnosis._FOR_EVERY_POLICY
    checks = (first, second, check_of_nothing, check_of_another, *others)
    monkeypatch.setattr(diagnosis, "_FOR_EVERY_POLICY", checks)


def run_checks(**flags):
    config = make_config(SubjectConfig, **flags)
    with closing((setup := set_up(config)).env):
        return by_check(diagnosis.run_checks(config, setup))


def test_a_check_that_raises_is_a_finding_and_the_others_are_made(failing_check):
    found = run_checks(policy="zero")
    finding = found["of nothing"]
    assert finding.level == "warning"
    assert finding.finding == "this check could not run"
    assert finding.evidence == "LinAlgError: a matrix that is singular"
    assert finding.hint.endswith("Please report it, with the command.")
    finding = found["of another"]
    assert finding.finding == "this check could not run"
    assert finding.evidence == "policy server: expected a server, got none. Start it first"
    assert finding.hint == "The problems that it looks for may be there."
    assert {"beginning", "disk space", "start", "scene at rest", "reset"} <= found.keys()


@pytest.mark.parametrize("flags", ["", "--no-doctor"])
def test_a_check_that_raises_ends_no_evaluation(failing_check, eval_succeeds, tmp_path, flags):
    command = f"--policy zero --episodes 1 --max-steps 5 --quiet {flags} --run-dir"
    said = eval_succeeds(command, tmp_path).stderr
    assert "warning: of nothing: this check could not run (LinAlgError" in said
    findings = json.loads((only_run(tmp_path) / "run.json").read_text())["doctor"]
    assert "of nothing" in {finding["check"] for finding in findings}


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("model.backbone.bn1.running_mean", np.nan, "NaN or infinite"),
        ("model.backbone.bn1.running_var", -1.0, "negative variances"),
    ],
)
def test_running_statistics_that_make_no_numbers_are_found_before_the_run(
    small_act, tmp_path, name, number, words
):
    folder = shutil.copytree(small_act, tmp_path / "act")
    weights(lambda n, value: at(0, number)(value) if n == name else value)(folder)
    found = run_checks(policy="act", checkpoint=str(folder))
    finding = found["weights"]
    assert finding.level == "error"
    assert words in finding.finding
    assert finding.evidence == name
    plan = found["planned actions"]
    assert plan.level == "error"
    assert "NaN" in plan.finding
    assert "100% of the first plan" in plan.evidence
    # No check that compares plans reports that they agree or how they differ.
    assert not {"reset", "agreement", "sensitivity"} & found.keys()
    assert not any("nan" in finding.evidence for finding in found.values())


FINDINGS = [
    Finding("gripper", Level.ERROR, "the sign is turned", "0.9 of 1", "Say --gripper-range 1 -1."),
    Finding("horizon", Level.WARNING, "too short"),
    Finding("inputs", Level.UNKNOWN, "no expert to compare with", "none"),
    Finding("disk space", Level.OK, "enough", "9 GB"),
    Finding("weights", Level.OK, "trained", "14 M"),
]


def print_findings(findings, **options):
    console = Console(width=80, record=True, file=io.StringIO())
    findings_output.print_findings(console, "act in so101/pick_place", findings, **options)
    return console.export_text()


def test_what_is_wrong_is_shown_whole_and_the_rest_is_counted_in_a_verdict():
    printed = print_findings(FINDINGS)
    for part in (
        "error: gripper: the sign is turned",
        "0.9 of 1",
        "Say --gripper-range 1 -1.",
        "warning: horizon",
        "1 unknown: inputs\n",
    ):
        assert part in printed
    for part in ("9 GB", "weights", "no expert"):
        assert part not in printed
    verdict = printed.splitlines()[-1]
    assert verdict == "The number would be wrong: 1 error (gripper), 1 warning (horizon), 2 fine."


def test_all_shows_every_finding_with_its_evidence():
    printed = print_findings(FINDINGS, shows_all=True)
    for finding in FINDINGS:
        assert finding.finding in printed
        assert finding.evidence in printed


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (FINDINGS[1:], "The number may be wrong: 1 warning (horizon), 2 fine."),
        (FINDINGS[2:], "Nothing was found that would make the number wrong: 2 fine."),
        ([FINDINGS[1]] * 2, "The number may be wrong: 2 warnings (horizon), 0 fine."),
    ],
)
def test_the_verdict_says_the_worst(findings, verdict):
    assert print_findings(findings).splitlines()[-1] == verdict
