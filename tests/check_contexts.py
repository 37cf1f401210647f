"""Makes contexts for the doctor's checks, in environments with the spec that a test chooses."""

from copy import copy

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.evaluation import Setup
from policies.baselines import BASELINES
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
