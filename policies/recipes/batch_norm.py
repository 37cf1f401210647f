"""Batch normalisation that trains, in place of torchvision's frozen one, and is exported under the same names."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d


class ConcatenatedCameras(nn.Module):
    """The image backbone, run once for all cameras so that batch statistics are taken over all of them.

    ACT calls its backbone camera by camera; `prime` computes all feature maps, the calls hand them
    out.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._features: Iterator[Tensor] = iter(())

    def prime(self, images: list[Tensor]) -> Tensor:
        """Returns `(B, n_cameras · channels · h · w)`, what the auxiliary head reads."""
        stacked = torch.cat(images).contiguous(memory_format=torch.channels_last)
        maps = self.backbone(stacked)["feature_map"].chunk(len(images))
        self._features = iter(maps)
        return torch.cat([m.flatten(1) for m in maps], dim=1)

    def forward(self, _: Tensor) -> dict[str, Tensor]:
        return {"feature_map": next(self._features)}


def thaw_batch_norm(module: nn.Module) -> None:
    """Replace every `FrozenBatchNorm2d` by a trainable one of the same width and names."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(child.weight.shape[0], eps=child.eps))
        else:
            thaw_batch_norm(child)


def freeze_statistics(module: nn.Module) -> None:
    """Let batch normalisation use its running statistics from now on, as the exported policy will."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
