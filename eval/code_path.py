"""Describes and compares the numerical code path and the commit that made the rows of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sim.cpu_code_path import SETTINGS, SWITCH, describe_code_path
from sim.errors import WhiskerError


def describe_run_code_path(device: str, *, has_network: bool) -> dict[str, str]:
    """Return `sim.cpu_code_path.describe_code_path`, and the GPU's name if the policy uses one."""
    if not has_network:
        return describe_code_path()
    import torch

    described = describe_code_path(torch.backends.cpu.get_cpu_capability())
    if device.startswith("cuda"):
        return described | {"gpu": torch.cuda.get_device_name(device)}
    return described


def check_code_path(
    run: Path,
    then: Mapping[str, str] | None,
    now: Mapping[str, str],
) -> None:
    """Check that the numerical libraries compute the same last bits as when the run began.

    Args:
        then: code path in `run.json`; None if the run is older than these descriptions.
        now: code path of `describe_run_code_path`.

    Raises:
        WhiskerError: they differ, or the first is not known.
    """
    if then == now:
        return
    subject = f"resuming {str(run)!r}, code_path"
    refused = "Rows of two code paths are not one result: start a new run"
    if then is None:
        raise WhiskerError(
            subject,
            expected="a run.json that says how its numbers were computed",
            got="an older one",
            hint=f"{refused}.",
        )
    names = sorted(then.keys() | now.keys())
    differing = [name for name in names if then.get(name) != now.get(name)]
    raise WhiskerError(
        subject,
        expected=", ".join(f"{name} {then.get(name) or 'unset'}" for name in differing),
        got=", ".join(now.get(name) or "unset" for name in differing),
        hint=f"{refused}, or resume on such a machine with {_settings_of(then)} before the "
        "command.",
    )


def describe_other_commit(commits: Sequence[str], commit: str) -> str:
    """Return a sentence if the rows of a resumed run are not all of one known commit; else "".

    Args:
        commits: commits of its rows so far, as in `RunDescription.commits`.
        commit: the present commit.
    """
    others = list(dict.fromkeys(commits))
    if others != [commit]:
        named = ", ".join(name or "no commit" for name in others)
        return (
            f"its rows are of {named}, the ones to come of {commit or 'no commit'}; run.json keeps "
            "both"
        )
    if commit.endswith("-dirty"):
        return f"{commit} has uncommitted changes, which may not be those of its rows"
    return ""


def _settings_of(code_path: Mapping[str, str]) -> str:
    """Return the shell assignments that, before a command, bring a code path about."""
    given = [f"{name}={code_path[name]}" for name in SETTINGS if code_path.get(name)]
    if len(given) < len(SETTINGS):
        given.insert(0, f"{SWITCH}=native")
    return " ".join(given)
