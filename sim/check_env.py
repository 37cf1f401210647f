"""The contract of environments as a test that any of them can be put through.

What `sim.env.Env` and `sim.capabilities` promise is tried out in one episode under random actions,
to the last bit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sim.contract_checks import CHECKS
from sim.contract_trial import BrokenError, Moment, Trial, UntoldError, play, random_actions
from sim.env import Env

Verdict = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True)
class ContractCheck:
    """The result of one check.

    Attributes:
        name: of what was checked, e.g. "reset".
        verdict: "unknown" where the check cannot tell.
        sentence: says what is so, without a full stop.
    """

    name: str
    verdict: Verdict
    sentence: str


def check_env(
    make: Callable[[], Env],
    episode_index: int = 0,
) -> Iterator[ContractCheck]:
    """Put an environment through every check. Two copies are made, one after the other.

    Args:
        make: makes the environment.
        episode_index: of the episode in which it is tried out. The next one, or the one before
            where there is none, is begun besides.

    Raises:
        WhiskerError: whatever of that kind `make` raises.
    """
    first = make()
    try:
        alone: list[Moment] | Exception = play(
            first, episode_index, random_actions(first, episode_index)
        )
    except Exception as error:
        alone = error
    closing = _judge("close", partial(_close_twice, first))
    env = make()
    try:
        trial = Trial(env, episode_index, alone)
        for name, check in CHECKS.items():
            yield _judge(name, partial(check, trial))
    finally:
        env.close()
    yield closing


def _judge(
    name: str,
    check: Callable[[], str],
) -> ContractCheck:
    """Make one check, which returns what is so. An exception is a broken contract too."""
    try:
        return ContractCheck(name, "ok", check())
    except UntoldError as untold:
        return ContractCheck(name, "unknown", str(untold))
    except BrokenError as broken:
        return ContractCheck(name, "failed", str(broken))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return ContractCheck(name, "failed", f"it raised {said}")


def _close_twice(env: Env) -> str:
    env.close()
    env.close()
    return f"can be closed twice, and {env.spec.name!r} can still be read from its spec"
