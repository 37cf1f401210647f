"""Tests whether an environment keeps its contract (`sim.env.Env` and `sim.capabilities`).

Every promise is checked bit for bit in one episode under random actions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sim.contract_checks import CHECKS
from sim.contract_trial import BrokenError, InconclusiveError, Readings, Trial, play, random_actions
from sim.env import Env

Verdict = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True)
class ContractCheck:
    """The result of one check.

    Attributes:
        name: of the checked part, e.g. "reset".
        verdict: "unknown" if the check cannot tell.
        sentence: says what holds or what is wrong, without a full stop.
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
        episode_index: of the episode in which it is tested. The next episode is also started, or
            the previous one if there is no next.

    Raises:
        WhiskerError: whenever `make` raises one.
    """
    first = make()
    alone: list[Readings] | Exception
    try:
        alone = play(first, episode_index, random_actions(first, episode_index))
    except Exception as error:
        alone = error
    close_check = _judge("close", partial(_close_twice, first))
    env = make()
    try:
        trial = Trial(env, episode_index, alone)
        for name, check in CHECKS.items():
            yield _judge(name, partial(check, trial))
    finally:
        env.close()
    yield close_check


def _judge(
    name: str,
    check: Callable[[], str],
) -> ContractCheck:
    """Run one check. Any exception that it raises counts as a broken contract."""
    try:
        return ContractCheck(name, "ok", check())
    except InconclusiveError as inconclusive:
        return ContractCheck(name, "unknown", str(inconclusive))
    except BrokenError as broken:
        return ContractCheck(name, "failed", str(broken))
    except Exception as error:
        message = " ".join(str(error).split())
        return ContractCheck(name, "failed", f"it raised {type(error).__name__}: {message}")


def _close_twice(env: Env) -> str:
    env.close()
    env.close()
    return f"can be closed twice, and its spec ({env.spec.name!r}) can still be read"
