"""Puts the tensors of a checkpoint into a network, all of them and no others."""

from collections.abc import Mapping

import torch

from policies.native.native_checkpoint import NativeCheckpoint
from sim.errors import WhiskerError


def load_weights(
    checkpoint: NativeCheckpoint,
    network_name: str,
    network: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    device: str,
) -> None:
    """Let a network use these tensors, in the checkpoint's number format and on the device.

    Args:
        network_name: whose weights they should be, for messages.
        network: its own weights need no memory (the device meta).
        tensors: name → tensor. Tensors with the same memory stay shared.

    Raises:
        WhiskerError: weights are missing, surplus or of another size.
    """
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    got = {key: tensor.shape for key, tensor in tensors.items()}
    differing = sorted(key for key in expected | got if expected.get(key) != got.get(key))
    if differing:
        first = differing[0]
        raise WhiskerError(
            f"checkpoint {checkpoint.name!r}",
            expected=f"the weights of {network_name}: {first!r} {_describe(expected.get(first))}",
            got=f"{_describe(got.get(first))} ({len(differing)} such tensors)",
            hint="It is of another network or of another size.",
        )
    dtype = getattr(torch, checkpoint.dtype)
    moved: dict[tuple[int, torch.Size], torch.Tensor] = {}
    loaded = {}
    for key, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in moved:
            moved[place] = tensor.to(device, dtype if tensor.is_floating_point() else None)
        loaded[key] = moved[place]
    network.load_state_dict(loaded, assign=True)


def compute_convolutions_in_float32(network: torch.nn.Module) -> None:
    """Let the convolutions of a bfloat16 network sum in float32, and round what they return.

    oneDNN computes them so on a CPU with instructions for bfloat16. The code path that
    `sim.cpu_code_path` selects has none. There, PyTorch takes 59 to 78 times as long as in float32
    (`tests.benchmarks.bfloat16_convolutions`).
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.dtype == torch.bfloat16:
            module.float()
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
            module.register_forward_hook(lambda _, inputs, output: output.bfloat16())


def _describe(shape: torch.Size | None) -> str:
    """Return a shape in words."""
    if shape is None:
        return "absent"
    return f"of {'×'.join(map(str, shape)) or 'one number'}"
