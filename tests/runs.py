"""Descriptions of runs that tests put together by hand."""

from dataclasses import replace

from eval.config import EvalConfig
from eval.run_description import Resolved, RunDescription
from policies.baselines import BASELINES
from policies.policy import Policy
from sim.env import Env


def describe_run(env: Env, policy: Policy | str = "random", horizon: int = 5, **parts) -> RunDescription:
    """Return a description with what every version has written.

    Args:
        policy: or the name of a baseline.
        parts: others of the description.
    """
    spec = (BASELINES[policy](env) if isinstance(policy, str) else policy).spec
    config = EvalConfig(policy=spec.type, checkpoint=spec.checkpoint or None, env=env.spec.name)
    resolved = Resolved(n_action_steps=spec.n_action_steps, horizon=horizon)
    return replace(RunDescription(config=config, resolved=resolved, policy=spec, env=env.spec), **parts)
