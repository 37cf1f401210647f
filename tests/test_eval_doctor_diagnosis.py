"""Tests that the doctor goes on when one check fails.

It also makes no comparison of plans that contain NaN or infinity.
"""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

from eval.cli import main
from eval.config import SubjectConfig
from eval.doctor import diagnosis, findings_output
from eval.doctor.finding import Finding, Level
from eval.evaluation import set_up
from sim.flags import make_config


def check_of_nothing(context):
    """Yield a finding, then raise an error."""
    yield Finding(
        "beginning",
        Level.OK,
        "said before it failed",
        context.env.name,
    )
    raise np.linalg.LinAlgError("a matrix\nthat is singular")


@pytest.fixture
def failing_check(monkeypatch):
    """Add a check that raises between the doctor's other checks."""
    checks = diagnosis._FOR_EVERY_POLICY
    monkeypatch.setattr(
        diagnosis, "_FOR_EVERY_POLICY", (*checks[:2], check_of_nothing, *checks[2:])
    )


def run_checks(config):
    setup = set_up(config)
    try:
        return diagnosis.run_checks(config, setup)
    finally:
        setup.env.close()


def test_a_check_that_raises_is_a_finding_and_the_others_are_made(failing_check):
    found = {
        finding.check: finding for finding in run_checks(make_config(SubjectConfig, policy="zero"))
    }
    finding = found["of nothing"]
    assert finding.level is Level.WARNING and finding.finding == "this check could not run"
    assert finding.evidence == "LinAlgError: a matrix that is singular" and finding.hint
    assert {"beginning", "disk space", "start", "scene at rest", "reset"} <= found.keys()


@pytest.mark.parametrize(
    "flags",
    [[], ["--no-doctor"]],
)
def test_a_check_that_raises_ends_no_evaluation(
    failing_check, monkeypatch, capsys, tmp_path, flags
):
    command = [
        "eval",
        "--policy",
        "zero",
        "--episodes",
        "1",
        "--max-steps",
        "5",
        "--quiet",
        "--run-dir",
        str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", command + flags)
    assert main() == 0
    assert "warning: of nothing: this check could not run (LinAlgError" in capsys.readouterr().err
    (run,) = tmp_path.iterdir()
    assert "of nothing" in {
        finding["check"] for finding in json.loads((run / "run.json").read_text())["doctor"]
    }


@pytest.mark.parametrize(
    ("buffer", "number", "words"),
    [
        ("running_mean", np.nan, "NaN or infinite"),
        ("running_var", -1.0, "negative variances"),
    ],
)
def test_running_statistics_that_make_no_numbers_are_found_before_the_run(
    small_act, tmp_path, buffer, number, words
):
    folder = shutil.copytree(small_act, tmp_path / "act")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith(f"bn1.{buffer}"))
    weights[name] = np.where(
        np.arange(weights[name].size) == 0,
        np.float32(number),
        weights[name],
    )
    save_file(weights, folder / "model.safetensors")
    found = {
        finding.check: finding
        for finding in run_checks(
            make_config(
                SubjectConfig,
                policy="act",
                checkpoint=str(folder),
            )
        )
    }
    assert found["weights"].level is Level.ERROR and words in found["weights"].finding
    assert found["weights"].evidence == name
    plan = found["planned actions"]
    assert (
        plan.level is Level.ERROR
        and "NaN" in plan.finding
        and "100% of the first plan" in plan.evidence
    )
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
    console = Console(
        width=80,
        record=True,
        file=io.StringIO(),
    )
    findings_output.print_findings(console, "act in so101/pick_place", findings, **options)
    return console.export_text()


def test_what_is_wrong_is_shown_whole_and_the_rest_is_counted_in_a_verdict():
    printed = print_findings(FINDINGS)
    for part in (
        "error: gripper: the sign is turned",
        "0.9 of 1",
        "Say --gripper-range 1 -1.",
        "warning: horizon",
    ):
        assert part in printed
    assert "9 GB" not in printed and "weights" not in printed and "no expert" not in printed
    assert "1 unknown: inputs\n" in printed
    verdict = printed.splitlines()[-1]
    assert verdict == "The number would be wrong: 1 error (gripper), 1 warning (horizon), 2 fine."


def test_all_shows_every_finding_with_its_evidence():
    printed = print_findings(FINDINGS, shows_all=True)
    assert all(finding.finding in printed and finding.evidence in printed for finding in FINDINGS)


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
