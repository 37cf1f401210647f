"""Trainable batch normalisation that replaces torchvision's frozen one, under the same names."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d


class ConcatenatedCameras(nn.Module):
    """Runs the image backbone once for all cameras, so that batch statistics cover all of them.

    ACT calls its backbone camera by camera: `prime` computes all feature maps, and each call
    returns the next one.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._features: Iterator[Tensor] = iter(())

    def prime(self, images: list[Tensor]) -> Tensor:
        """Return the input of the auxiliary head, `(B, n_cameras · channels · h · w)`."""
        all_cameras = torch.cat(images).contiguous(memory_format=torch.channels_last)
        feature_map = self.backbone(all_cameras)["feature_map"]
        maps = feature_map.chunk(len(images))
        self._features = iter(maps)
        return torch.cat([camera_map.flatten(1) for camera_map in maps], dim=1)

    def forward(self, _: Tensor) -> dict[str, Tensor]:
        return {"feature_map": next(self._features)}


def thaw_batch_norm(module: nn.Module) -> None:
    """Replace every `FrozenBatchNorm2d` by a trainable one of the same width and names."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            (n_channels,) = child.weight.shape
            setattr(module, name, nn.BatchNorm2d(n_channels, eps=child.eps))
        else:
            thaw_batch_norm(child)


def freeze_statistics(module: nn.Module) -> None:
    """Make batch normalisation use its running statistics, as the exported policy does."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
