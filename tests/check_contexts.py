"""Makes contexts for the doctor's checks, in environments with the spec that a test chooses."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from copy import copy

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding
from eval.evaluation import Setup, set_up
from policies.baselines import BASELINES
from policies.checkpoint_files import load_training_env
from policies.normalisation import Normalisation, load_normalisation
from sim.env import Env
from sim.flags import make_config
from sim.spec import EnvSpec


def make_check_context(
    env: Env, normalisation: Normalisation, spec: EnvSpec | None = None, **flags
) -> CheckContext:
    """Return a context for checks that need no plans.

    Args:
        env: a shared environment; it is not changed.
        spec: replaces the environment's own spec.
    """
    if spec is not None:
        env = copy(env)
        env.spec = spec  # type: ignore[misc]
    setup = Setup(
        env,
        BASELINES["zero"](env),
        None,
        1,
        300,
        {},
    )
    return CheckContext(make_config(SubjectConfig, **flags), setup, normalisation)


@contextmanager
def open_check_context(config: SubjectConfig, setup: Setup | None = None) -> Iterator[CheckContext]:
    """Yield the context of a policy with all that its files say, and close its environment.

    Args:
        setup: None: it is made from the config.
    """
    setup = setup or set_up(config)
    with closing(setup.env):
        if setup.checkpoint is None:
            yield CheckContext(config, setup)
        else:
            folder = setup.checkpoint.folder
            yield CheckContext(config, setup, load_normalisation(folder), load_training_env(folder))


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the findings by check; of several findings of a check, the last."""
    return {finding.check: finding for finding in findings}
