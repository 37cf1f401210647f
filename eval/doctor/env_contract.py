"""Checks that an environment alone keeps the contract that every evaluation relies on."""

from functools import partial

from eval.config import DoctorConfig, SubjectConfig
from eval.doctor.finding import Finding, Findings, Level
from sim.check_env import check_env
from sim.errors import WhiskerError
from sim.flags import find_flags
from sim.registry import make_env

_LEVELS = {"ok": Level.OK, "failed": Level.ERROR, "unknown": Level.UNKNOWN}
_HINT = "The contract is in sim/env.py, and that of capabilities in sim/capabilities.py."


def run_env_checks(config: DoctorConfig) -> Findings:
    """Run `sim.check_env` on the environment in its first episode, and yield a finding per check.

    Raises:
        WhiskerError: the environment cannot be made, or a flag describes a policy.
    """
    for flag in find_flags(SubjectConfig):
        if flag.group != "env" and flag.value_in(config) != flag.field.default:
            hint = "Leave it out: without a policy the environment alone is checked."
            raise WhiskerError(
                flag.spelling,
                expected="together with --policy or --checkpoint",
                hint=hint,
            )
    for check in check_env(partial(make_env, config.env.name, control=config.env.control)):
        level = _LEVELS[check.verdict]
        yield Finding(
            check.name,
            level,
            check.sentence,
            hint=_HINT if level is Level.ERROR else "",
        )
