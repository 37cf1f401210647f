"""Observations of random pixels and states, for policies whose plans nobody executes."""

import numpy as np

from policies.policy import make_memory
from sim.observation import Observation


def make_random_memories(spec, instructions):
    """Return for each instruction a memory with as many observations as the policy looks at."""
    rng = np.random.default_rng(0)

    def observe(instruction):
        images = {}
        for camera, size in spec.image_sizes.items():
            images[camera] = rng.integers(
                0,
                256,
                (*size, 3),
                dtype=np.uint8,
            )
        return Observation(
            images,
            rng.normal(0, 15, 6).astype(np.float32),
            instruction,
        )

    memories = []
    for instruction in instructions:
        seen = [observe(instruction) for _ in range(spec.n_obs_steps)]
        memories.append(make_memory(*seen, n_obs_steps=spec.n_obs_steps))
    return memories
