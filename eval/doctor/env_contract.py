"""The doctor looks at an environment alone: whether it keeps the contract that every evaluation rests on."""

from collections.abc import Iterator
from dataclasses import fields
from functools import partial

from eval.config import DoctorConfig, SubjectConfig
from eval.doctor.finding import Finding, Level
from sim.check_env import check_env
from sim.errors import WhiskerError
from sim.registry import make_env

_LEVELS = {"ok": Level.OK, "failed": Level.ERROR, "unknown": Level.UNKNOWN}
_DO = "The contract is in sim/env.py, and that of capabilities in sim/capabilities.py."
# What a person can say of an environment without a policy.
_OF_AN_ENV = {"env", "control"}


def examine_env(config: DoctorConfig) -> Iterator[Finding]:
    """Put the environment through `sim.check_env`, in its first episode; one finding a check.

    Raises:
        WhiskerError: it cannot be made, or a flag is about a policy.
    """
    for field in fields(SubjectConfig):
        if field.name not in _OF_AN_ENV and getattr(config, field.name) != field.default:
            flag = "--" + field.name.replace("_", "-")
            hint = "Leave it out: without a policy the environment alone is checked."
            raise WhiskerError(flag, expected="together with --policy or --checkpoint", hint=hint)
    for check in check_env(partial(make_env, config.env, control=config.control)):
        level = _LEVELS[check.verdict]
        yield Finding(check.name, level, check.sentence, hint=_DO if level is Level.ERROR else "")
