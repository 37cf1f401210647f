"""Wraps an environment and changes only what the policy is shown, for branches in the viewers."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from sim.env import Env
from sim.observation import Observation
from sim.wrapper import EnvWrapper


class ObservationOverride(EnvWrapper):
    """An environment with another instruction, or with cameras that are black."""

    def __init__(
        self, env: Env, instruction: str | None = None, blinded: Collection[str] = ()
    ) -> None:
        """Args:
        instruction: what the policy is told; None: the environment's own.
        blinded: cameras that are black.
        """
        super().__init__(env)
        self._instruction, self._blinded = instruction, frozenset(blinded)

    def observe(self) -> Observation:
        seen = self._env.observe()
        images = {
            camera: np.zeros_like(image) if camera in self._blinded else image
            for camera, image in seen.images.items()
        }
        return replace(seen, images=images, instruction=self._instruction or seen.instruction)
