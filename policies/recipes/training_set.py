"""The demonstrations as tensors on the training device, and batches gathered from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.lerobot_dataset import GOAL_POSITION_KEY, OBJECT_POSITION_KEY, DemonstrationFrames

_UNTOUCHED_M = 0.005


@dataclass(frozen=True)
class TrainingSet:
    """All frames of the demonstrations. The frames of an episode are consecutive.

    Attributes:
        images: `(frame, camera, 3, height_px, width_px)` uint8.
        cameras: names, in the order of `images`.
        positions: standardised position of the block, and of the goal if the recipe reads it,
            `(frame, 3 or 6)`.
        instruction_index: index of each frame's instruction in `instructions`.
        first_of_episode, last_of_episode: index of the first and of the last frame of each frame's
            episode.
        weight: weight of each frame.
    """

    images: Tensor
    state: Tensor
    action: Tensor
    positions: Tensor
    instruction_index: Tensor
    first_of_episode: Tensor
    last_of_episode: Tensor
    weight: Tensor
    cameras: tuple[str, ...]
    instructions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def from_frames(
        cls,
        frames: DemonstrationFrames,
        before_grasp_weight: float,
        reads_goal: bool = False,
    ) -> "TrainingSet":
        """Convert frames to tensors.

        Args:
            before_grasp_weight: weight of frames before the object moves; later frames have 1.
            reads_goal: add the goal to `positions`.
        """
        episode = torch.from_numpy(frames.episode_index)
        first = torch.searchsorted(episode, episode)
        object_position = torch.from_numpy(frames.object_pos_world)
        moved_m = (object_position - object_position[first]).norm(dim=-1)
        positions = [_standardise(frames.object_pos_world, frames.stats[OBJECT_POSITION_KEY])]
        if reads_goal:
            positions.append(_standardise(frames.goal_pos_world, frames.stats[GOAL_POSITION_KEY]))
        images = [torch.from_numpy(of_camera) for of_camera in frames.images.values()]
        return cls(
            images=torch.stack(images, dim=1),
            state=torch.from_numpy(frames.state),
            action=torch.from_numpy(frames.action),
            positions=torch.cat(positions, dim=-1),
            instruction_index=torch.from_numpy(frames.instruction_index),
            first_of_episode=first,
            last_of_episode=torch.searchsorted(episode, episode, right=True) - 1,
            weight=torch.where(moved_m < _UNTOUCHED_M, before_grasp_weight, 1.0),
            cameras=tuple(frames.images),
            instructions=tuple(frames.instructions),
        )

    def to(self, device: torch.device) -> "TrainingSet":
        """Return a copy on a device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors()}
        return replace(self, **moved)

    def share_memory(self) -> None:
        """Let other processes read the same memory."""
        for _, tensor in self._tensors():
            tensor.share_memory_()

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                yield name, value

    def batch(
        self,
        index: Tensor,
        observation_steps: Sequence[int],
        action_steps: Sequence[int],
        jitter: float = 0.0,
    ) -> dict[str, Tensor]:
        """Gather a raw lerobot batch: images in 0..1, states and action chunks of some frames.

        Steps beyond an end of the episode repeat the frame at that end; `action_is_pad` marks them.

        Args:
            index: the frames.
            observation_steps: offsets of the observations from the frame; a single offset gets no
                axis of its own.
            action_steps: offsets of the actions.
            jitter: standard deviation of a random gain of each image; the noise of each pixel has
                half of it.
        """
        first = self.first_of_episode[index][:, None]
        last = self.last_of_episode[index][:, None]
        observed = index[:, None] + torch.tensor(observation_steps, device=index.device)
        observed = observed.clamp(first, last)
        if len(observation_steps) == 1:
            observed = observed[:, 0]
        planned = index[:, None] + torch.tensor(action_steps, device=index.device)
        images = self.images[observed].float() / 255
        if jitter:
            images = _jitter(images, jitter)
        batch = {
            "observation.state": self.state[observed],
            "action": self.action[planned.clamp(first, last)],
            "action_is_pad": (planned < first) | (planned > last),
        }
        for i, camera in enumerate(self.cameras):
            batch[f"observation.images.{camera}"] = images[..., i, :, :, :]
        return batch


def _jitter(images: Tensor, std: float) -> Tensor:
    """Return images `(..., 3, height, width)` with a random gain each and noise on each pixel."""
    gain = 1 + std * torch.randn(*images.shape[:-3], 1, 1, 1, device=images.device)
    noise = std / 2 * torch.randn_like(images)
    return (images * gain + noise).clamp(0, 1)


def _standardise(position: np.ndarray, stats: dict[str, np.ndarray]) -> Tensor:
    """Return positions in standard deviations from their mean; one that never changes is 0."""
    mean = torch.as_tensor(np.asarray(stats["mean"]), dtype=torch.float32)
    std = torch.as_tensor(np.asarray(stats["std"]), dtype=torch.float32)
    varying_std = torch.where(std > 1e-4, std, torch.inf)
    return (torch.from_numpy(position) - mean) / varying_std
