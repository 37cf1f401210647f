"""Describes and compares the code path of the numerical libraries, and the commit, that made the rows of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sim.cpu_code_path import SETTINGS, SWITCH, describe_code_path
from sim.errors import WhiskerError


def describe_run_code_path(device: str, *, has_network: bool) -> dict[str, str]:
    """Return `sim.cpu_code_path.describe_code_path`, and the name of the GPU if the policy runs on one."""
    if not has_network:
        return describe_code_path()
    import torch

    described = describe_code_path(torch.backends.cpu.get_cpu_capability())
    return described | (
        {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    )


def check_code_path(run: Path, then: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Raise if the numerical libraries would compute other last bits than they did when the run began.

    Args:
        then: of `run.json`; None if the run is older than these descriptions.
        now: from `describe_run_code_path`.

    Raises:
        WhiskerError: they differ, or it is not known.
    """
    if then == now:
        return
    refused = "Rows of two code paths are not one result: start a new run"
    if then is None:
        expected, got = "a run.json that says how its numbers were computed", "an older one"
        raise WhiskerError(
            f"resuming {str(run)!r}, code_path", expected=expected, got=got, hint=f"{refused}."
        )
    differing = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    raise WhiskerError(
        f"resuming {str(run)!r}, code_path",
        expected=", ".join(f"{name} {then.get(name) or 'unset'}" for name in differing),
        got=", ".join(now.get(name) or "unset" for name in differing),
        hint=f"{refused}, or resume on such a machine with {_settings_of(then)} before the command.",
    )


def describe_other_commit(commits: Sequence[str], commit: str) -> str:
    """Return a sentence if the rows of a resumed run are not all of one known commit of the project; else "".

    Args:
        commits: of its rows so far, as in `RunDescription.commits`.
        commit: of now.
    """
    others = list(dict.fromkeys(commits))
    if others != [commit]:
        named = ", ".join(name or "no commit" for name in others)
        return f"its rows are of {named}, the ones to come of {commit or 'no commit'}; run.json keeps both"
    return (
        f"{commit} has uncommitted changes, which may not be those of its rows"
        if commit.endswith("-dirty")
        else ""
    )


def _settings_of(code_path: Mapping[str, str]) -> str:
    """Return the assignments that bring a code path about, as a shell takes them before a command."""
    given = [f"{name}={code_path[name]}" for name in SETTINGS if code_path.get(name)]
    return " ".join(given if len(given) == len(SETTINGS) else [f"{SWITCH}=native", *given])
