"""Tests that a run is not resumed on another code path of the numerical libraries.

A difference of commit is reported.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from eval.code_path import check_code_path, describe_other_commit
from eval.doctor.recorded_run_checks import check_made_by
from eval.run import Run
from eval.run_description import Resumption
from eval.run_folder import RunFolder
from sim.cpu_code_path import SETTINGS, SWITCH
from sim.errors import WhiskerError
from tests.processes import only_run
from tests.runs import describe_run

ZERO = "--policy zero --episodes 1 --max-steps 3 --quiet --run-dir"
RECORDED = SETTINGS | {"torch": "AVX2", "processor": "any", "libc": "glibc 2.36"}


def run_eval(command_line, folder, **settings):
    inherited = {k: v for k, v in os.environ.items() if k not in {*SETTINGS, SWITCH}}
    command = [sys.executable, "-m", "eval", *command_line.split(), folder]
    return subprocess.run(
        command,
        env=inherited | settings,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_another_code_path_is_refused_and_the_advice_works(tmp_path):
    """The test uses OpenBLAS's oldest kernels, which run on every x86-64 processor."""
    run_eval(ZERO, tmp_path, OPENBLAS_CORETYPE="Nehalem")
    resume = ("--quiet --resume", only_run(tmp_path))
    refused = run_eval(*resume)
    assert refused.returncode == 2
    assert "code_path: expected OPENBLAS_CORETYPE Nehalem" in refused.stderr
    advised = re.search(r"machine with (.*) before the command", refused.stderr)[1]
    done = run_eval(
        *resume,
        **dict(part.split("=") for part in advised.split()),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (RECORDED | {"libc": "glibc 2.39"}, "expected libc glibc 2.39, got glibc 2.36"),
        (RECORDED | {"processor": "Xeon"}, "expected processor Xeon, got any"),
        (None, "got an older one"),
    ],
)
def test_what_differs_is_named(tmp_path, then, said):
    with pytest.raises(WhiskerError, match=said):
        check_code_path(tmp_path, then, RECORDED)
    check_code_path(tmp_path, dict(RECORDED), RECORDED)


def test_another_commit_is_said_and_kept(eval_succeeds, tmp_path):
    eval_succeeds(ZERO, tmp_path)
    run = only_run(tmp_path)
    file = run / "run.json"
    earlier = "a" * 40
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": earlier}))
    resumed = eval_succeeds("--quiet --resume", run)
    said = f"warning: resuming {str(run)!r}: its rows are of {earlier}, the ones to come of"
    assert said in resumed.stderr
    description = Run.open(run).description
    first, now = description.commits
    assert first == earlier
    assert description.resumed == (Resumption(now, n_rows_before=1),)
    RunFolder.reopen(run, now).close()
    assert Run.open(run).description.commits == description.commits


def test_the_doctor_says_who_made_the_rows(blind_env):
    described = describe_run(blind_env, commit="abc", code_path=RECORDED)
    one = check_made_by(described)
    two = check_made_by(
        replace(
            described,
            resumed=(Resumption("d", n_rows_before=4),),
        )
    )
    assert one.level == "fine"
    assert "commit abc; processor any" in one.evidence
    assert two.level == "warning"
    assert "commit abc, d" in two.evidence
    assert "older" in check_made_by(describe_run(blind_env)).evidence


def test_one_clean_commit_needs_no_word():
    assert describe_other_commit(["abc"], "abc") == ""
    assert "uncommitted changes" in describe_other_commit(["abc-dirty"], "abc-dirty")
    assert "no commit" in describe_other_commit([""], "abc")
