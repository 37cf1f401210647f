"""A user's own policy in 30 lines: the arm nods, and reaches for red in its camera image."""

import numpy as np

from policies.simple_policy import SimplePolicy

SIZE_PX = 48


class Nodding(SimplePolicy):
    def plan(self, observation, rng):
        redness = observation.images["overhead_cam"].astype(np.float32) @ [1.0, -0.5, -0.5]
        red = redness.argmax() % SIZE_PX / SIZE_PX - 0.5
        plan = np.tile(observation.state, (8, 1))
        plan[:, 0] += 20 * red
        plan[:, 3] += np.linspace(0, 10, 8) + rng.normal()
        return plan


def make(env, checkpoint, device):
    return Nodding(
        "nodding",
        env,
        chunk_size=8,
        n_action_steps=4,
        stochastic=True,
        image_sizes={"overhead_cam": (SIZE_PX, SIZE_PX)},
        action_mode="absolute",
        rotation="none",
        gripper_range=(0.0, 100.0),
        camera_roles={"overhead_cam": "scene"},
    )
