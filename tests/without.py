"""Environments without some capabilities, to test what works without them."""

from sim.capabilities import CAPABILITIES, capability_methods
from sim.env import Env
from sim.wrapper import EnvWrapper
from tests.point_env import Point


class Without(EnvWrapper):
    """Wraps an environment, and removes some of its capabilities."""

    def __init__(self, env: Env, *lost: type) -> None:
        super().__init__(env)
        for capability in lost:
            for name in capability_methods(capability):
                delattr(self, name)


def make_bare_point() -> Env:
    """Return an environment with the core methods alone."""
    return Without(Point(), *CAPABILITIES)
