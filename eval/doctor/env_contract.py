"""The doctor looks at an environment alone: whether it keeps the contract that every evaluation rests on."""

from collections.abc import Iterator
from functools import partial

from eval.config import DoctorConfig, SubjectConfig
from eval.doctor.finding import Finding, Level
from sim.check_env import check_env
from sim.errors import WhiskerError
from sim.flags import find_flags
from sim.registry import make_env

_LEVELS = {"ok": Level.OK, "failed": Level.ERROR, "unknown": Level.UNKNOWN}
_DO = "The contract is in sim/env.py, and that of capabilities in sim/capabilities.py."


def examine_env(config: DoctorConfig) -> Iterator[Finding]:
    """Put the environment through `sim.check_env`, in its first episode; one finding a check.

    Raises:
        WhiskerError: it cannot be made, or a flag is about a policy.
    """
    for flag in find_flags(SubjectConfig):
        if flag.group != "env" and flag.value_in(config) != flag.field.default:
            hint = "Leave it out: without a policy the environment alone is checked."
            raise WhiskerError(
                flag.spelling, expected="together with --policy or --checkpoint", hint=hint
            )
    for check in check_env(partial(make_env, config.env.name, control=config.env.control)):
        level = _LEVELS[check.verdict]
        yield Finding(check.name, level, check.sentence, hint=_DO if level is Level.ERROR else "")
