"""Wraps an environment and changes only its observations, for branches in the viewers."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from sim.env import Env
from sim.observation import Observation
from sim.wrapper import EnvWrapper


class ObservationOverride(EnvWrapper):
    """Wraps an environment and replaces its instruction, or blacks out some of its cameras."""

    def __init__(
        self,
        env: Env,
        instruction: str | None = None,
        blinded: Collection[str] = (),
    ) -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            instruction: the instruction in every observation; None: the environment's own.
            blinded: the names of the cameras whose images are black.
        """
        super().__init__(env)
        self._instruction = instruction
        self._blinded = frozenset(blinded)

    def observe(self) -> Observation:
        """Return the environment's observation with the overrides applied."""
        observation = self._env.observe()
        images = dict(observation.images)
        for camera in self._blinded & images.keys():
            images[camera] = np.zeros_like(images[camera])
        instruction = self._instruction or observation.instruction
        return replace(observation, images=images, instruction=instruction)
