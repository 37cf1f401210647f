"""Describes where the rows of a run come from, and checks that a run is resumed as it began."""

import dataclasses
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.code_path import check_code_path, describe_run_code_path
from eval.config import EvalConfig
from eval.evaluation import Setup
from eval.older_runs import update_description
from eval.outcome import OUTCOME_RULES
from eval.run import Run
from eval.run_description import (
    FREE_ON_RESUME,
    Machine,
    Resolved,
    RunDescription,
    load_as_written,
)
from eval.subject import name_policy, with_absolute_paths
from policies import loading
from policies.checkpoint_files import compute_sha256
from sim import registry
from sim.capabilities import NamesRenderer, provides
from sim.cpu_code_path import read_processor
from sim.errors import WhiskerError
from sim.flags import find_flags
from sim.registry import packages_of

# A version of any of these can change a number, as can those of the environments' packages.
_PACKAGES = ("whisker-eval", "lerobot", "torch", "transformers", "diffusers")

# What `run.json` says of when and where it was made: not compared on resume. Another commit is
# said.
_CIRCUMSTANCES = {
    "version",
    "started_utc",
    "commit",
    "machine",
    "doctor",
    "code_path",
    "resumed",
    "decision",
}


def describe(config: EvalConfig, setup: Setup) -> RunDescription:
    """Return the content of `run.json`: all that a number depends on, and the machine."""
    config = name_policy(config)
    kept = {name: getattr(EvalConfig, name) for name in FREE_ON_RESUME}
    processor = read_processor()
    _, _, scene = config.env.name.partition("@")
    env = setup.env
    gl_renderer = env.gl_renderer() if provides(env, NamesRenderer) else ""
    return RunDescription(
        config=dataclasses.replace(config, **kept),
        resolved=Resolved(
            n_action_steps=setup.n_action_steps,
            max_steps=setup.max_steps,
            success=setup.success,
            outcome_rules=OUTCOME_RULES,
            renamed_cameras=dict(setup.renamed_cameras),
            gl_backend=os.environ["MUJOCO_GL"],
            # What draws changes images; the version of Mesa or LLVM behind it does not, where it
            # was measured.
            gl_renderer=gl_renderer.partition(" (")[0],
        ),
        policy=setup.policy.spec,
        env=env.spec,
        tasks=dict(setup.tasks),
        scene_sha256=compute_sha256(Path(scene)) if scene else "",
        versions=_versions(next(iter(setup.tasks.values())), config.policy.name),
        code_path=describe_run_code_path(
            setup.policy.spec.device,
            has_network=setup.policy.spec.has_network,
        ),
        commit=_commit(),
        machine=Machine(
            platform=platform.platform(),
            python=platform.python_version(),
            processor=f"{platform.machine()} {processor['vendor_id']} {processor['model name']}",
            opengl=gl_renderer,
            cpus=os.cpu_count(),
        ),
    )


def refuse_changed_flags(config: EvalConfig) -> EvalConfig:
    """Return the config of a resumed run, with those flags of `config` that change no number.

    Raises:
        WhiskerError: another flag differs from the run's.
    """
    assert config.resume is not None
    stored = Run.open(config.resume).description.config
    absolute = with_absolute_paths(config)
    for flag in find_flags(EvalConfig):
        is_free = (flag.group or flag.name) in FREE_ON_RESUME
        as_run = flag.value_in(stored)
        if is_free or as_run in (flag.value_in(config), flag.value_in(absolute)):
            continue
        raise WhiskerError(
            f"{flag.spelling} with --resume",
            expected=f"{as_run!r}, as the run has it",
            got=repr(flag.value_in(config)),
            hint="Leave the flag out, or start a new run.",
        )
    free = {name: getattr(config, name) for name in FREE_ON_RESUME}
    return dataclasses.replace(stored, **free)


def check_same(run: Run, now: RunDescription) -> None:
    """Raise if what is here now would not continue the run as it began.

    What the run's file says is compared word for word: a field that this version does not know is a
    difference too.

    Args:
        now: from `describe`.
    """
    rules = run.description.resolved.outcome_rules
    if rules != OUTCOME_RULES:
        raise WhiskerError(
            f"resuming {str(run.path)!r}",
            expected=f"a run whose outcomes were made by rules {OUTCOME_RULES}",
            got=f"rules {rules}",
            hint="Labels of two rules are not one result: start a new run.",
        )
    check_code_path(run.path, run.description.code_path, now.code_path or {})
    written = _fill_in_later_fields(update_description(load_as_written(run.path)), now)
    present = now.to_json()
    for part in sorted(present.keys() - _CIRCUMSTANCES):
        before = flatten(part, written.get(part))
        after = flatten(part, present[part])
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                raise WhiskerError(
                    f"resuming {str(run.path)!r}, {name}",
                    expected=str(before.get(name)),
                    got=str(after.get(name)),
                    hint="Rows of two versions are not one result: start a new run.",
                )


def _fill_in_later_fields(written: dict[str, Any], now: RunDescription) -> dict[str, Any]:
    """Return what a run's file says, with what did not exist when it was written.

    A flag was at its default then. What a policy's spec has learnt to say since is true of the same
    files then.
    """
    as_before = dataclasses.replace(now, config=EvalConfig()).to_json()
    config = as_before["config"] | written["config"]
    for name, group in as_before["config"].items():
        if isinstance(group, dict):
            config[name] = group | config[name]
    # Every episode ended with its first success then.
    resolved = {"success": "once"} | written["resolved"]
    policy = as_before["policy"] | written["policy"]
    return written | {"config": config, "policy": policy, "resolved": resolved}


def flatten(name: str, value: object) -> dict[str, object]:
    """Return nested dicts as one: "policy.files_sha256.config.json" → its value."""
    if not isinstance(value, dict):
        return {name: value}
    leaves: dict[str, object] = {}
    for key, nested in value.items():
        leaves |= flatten(f"{name}.{key}", nested)
    return leaves


def _versions(env_name: str, policy_name: str | None) -> dict[str, str]:
    """Return the version of each package and the hash of each file that can change a number.

    Raises:
        WhiskerError: the environment's family names a package that is not installed.
    """
    versions = {}
    for package in (*_PACKAGES, *packages_of(env_name)):
        try:
            versions[package] = version(package)
        except PackageNotFoundError as error:
            raise WhiskerError(
                f"packages of environment {env_name!r}",
                expected=f"{package!r}, which its family names",
                got="none",
            ) from error
    own = (registry.source_of(env_name), loading.source_of(policy_name) if policy_name else None)
    return versions | {file.name: f"sha256 {compute_sha256(file)}" for file in own if file}


def _commit() -> str:
    """Return the commit of the working tree that this package runs from, "" outside one.

    A package that is installed inside somebody else's working tree is not a part of it.
    """
    file = Path(__file__).resolve()
    git = ["git", "-C", str(file.parent)]
    try:
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", file.name],
            capture_output=True,
            check=True,
        )
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
