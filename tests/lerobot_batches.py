"""Observations as lerobot takes them."""

import torch

from sim.observation import Observation


def make_lerobot_batch(observation: Observation) -> dict:
    """Return what lerobot's dataloader makes of an observation: a batch of one, not normalised."""
    batch = {
        "observation.state": torch.from_numpy(observation.state)[None],
        "task": [observation.instruction],
    }
    for camera, image in observation.images.items():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        batch[f"observation.images.{camera}"] = pixels.float() / 255
    return batch
