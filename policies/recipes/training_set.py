"""The demonstrations as tensors on the device that trains, from which batches are gathered without a data loader."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from policies.lerobot_dataset import GOAL_POSITION_KEY, OBJECT_POSITION_KEY, DemonstrationFrames

_UNTOUCHED_M = 0.005


@dataclass(frozen=True)
class TrainingSet:
    """All frames. The frames of an episode are consecutive.

    Attributes:
        images: `(frame, camera, 3, height_px, width_px)` uint8.
        cameras: names, in the order of `images`.
        places: standardised position of the block, and of the goal where it is read, `(frame, 3 or
            6)`.
        instruction_index: of each frame, in `instructions`.
        first_of_episode, last_of_episode: index of the first and of the last frame of each frame's
            episode.
        weight: of each frame.
    """

    images: Tensor
    state: Tensor
    action: Tensor
    places: Tensor
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
        cls, frames: DemonstrationFrames, before_grasp_weight: float, reads_goal: bool = False
    ) -> "TrainingSet":
        episode = torch.from_numpy(frames.episode_index)
        first = torch.searchsorted(episode, episode)
        position = torch.from_numpy(frames.object_pos_world)
        untouched = (position - position[first]).norm(dim=-1) < _UNTOUCHED_M
        places = [_standardise(frames.object_pos_world, frames.stats[OBJECT_POSITION_KEY])]
        if reads_goal:
            places.append(_standardise(frames.goal_pos_world, frames.stats[GOAL_POSITION_KEY]))
        return cls(
            images=torch.stack(
                [torch.from_numpy(images) for images in frames.images.values()], dim=1
            ),
            state=torch.from_numpy(frames.state),
            action=torch.from_numpy(frames.action),
            places=torch.cat(places, dim=-1),
            instruction_index=torch.from_numpy(frames.instruction_index),
            first_of_episode=first,
            last_of_episode=torch.searchsorted(episode, episode, right=True) - 1,
            weight=torch.where(untouched, before_grasp_weight, 1.0),
            cameras=tuple(frames.images),
            instructions=tuple(frames.instructions),
        )

    def to(self, device: torch.device) -> "TrainingSet":
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, Tensor)})

    def share_memory(self) -> None:
        """Let other processes read the same memory."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                value.share_memory_()

    def batch(
        self,
        index: Tensor,
        observation_steps: Sequence[int],
        action_steps: Sequence[int],
        jitter: float = 0.0,
    ) -> dict[str, Tensor]:
        """Gather a raw lerobot batch: images 0..1, states and chunks of actions around the frames of `index`.

        Steps beyond an end of the episode repeat the frame at that end; `action_is_pad` marks them.

        Args:
            observation_steps: offsets of the observations; a single one gets no axis of its own.
            action_steps: offsets of the actions.
            jitter: standard deviation of a random gain of each image, and half of that of each
                pixel.
        """
        first, last = self.first_of_episode[index][:, None], self.last_of_episode[index][:, None]
        seen = index[:, None] + torch.tensor(observation_steps, device=index.device)
        seen = seen.clamp(first, last)
        steps = index[:, None] + torch.tensor(action_steps, device=index.device)
        if len(observation_steps) == 1:
            seen = seen[:, 0]
        images = self.images[seen].float() / 255
        if jitter:
            gain = 1 + jitter * torch.randn(*images.shape[:-3], 1, 1, 1, device=images.device)
            images = (images * gain + jitter / 2 * torch.randn_like(images)).clamp(0, 1)
        return {
            **{
                f"observation.images.{name}": images[..., i, :, :, :]
                for i, name in enumerate(self.cameras)
            },
            "observation.state": self.state[seen],
            "action": self.action[steps.clamp(first, last)],
            "action_is_pad": (steps < first) | (steps > last),
        }


def _standardise(position: np.ndarray, stats: dict[str, np.ndarray]) -> Tensor:
    """Return positions in standard deviations from their mean; a place that never changes is 0."""
    mean, std = (
        torch.as_tensor(np.asarray(stats[k]), dtype=torch.float32) for k in ("mean", "std")
    )
    return (torch.from_numpy(position) - mean) / torch.where(std > 1e-4, std, torch.inf)
