"""Makes contexts for the doctor's checks, in environments with the spec that a test chooses."""

from contextlib import closing, contextmanager
from copy import copy

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.evaluation import Setup, set_up
from policies.baselines import BASELINES
from policies.checkpoint_files import load_training_env
from policies.normalisation import load_normalisation
from sim.flags import make_config


def make_check_context(env, normalisation, spec=None, **flags):
    """Return a context for checks that need no plans.

    Args:
        env: a shared environment; it is not changed.
        spec: replaces the environment's own spec.
    """
    if spec is not None:
        env = copy(env)
        env.spec = spec  # type: ignore[misc]
    setup = Setup(env, BASELINES["zero"](env), None, 1, 300, {})
    return CheckContext(make_config(SubjectConfig, **flags), setup, normalisation)


@contextmanager
def open_check_context(config, setup=None):
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


def by_check(findings):
    """Return the findings by check; of several findings of a check, the last."""
    return {finding.check: finding for finding in findings}
