"""Makes a context for the doctor's checks of statistics, whose environment declares what a test asks for."""

from copy import copy

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.evaluation import Setup
from policies.baselines import BASELINES
from policies.normalisation import Normalisation
from sim.env import Env
from sim.flags import make_config
from sim.spec import EnvSpec


def make_check_context(
    env: Env, normalisation: Normalisation, spec: EnvSpec | None = None, **flags
) -> CheckContext:
    """A context that is not asked for plans.

    Args:
        env: shared; it stays as it is.
        spec: what the environment declares in place of its own.
    """
    if spec is not None:
        env = copy(env)
        env.spec = spec  # type: ignore[misc]
    setup = Setup(env, BASELINES["zero"](env), None, 1, 300, {})
    return CheckContext(make_config(SubjectConfig, **flags), setup, normalisation)
