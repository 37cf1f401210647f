"""Reads the weights of an open-pi-zero checkpoint.

A published checkpoint is a single file, written by `torch.save`, whose "model" holds the tensors.
Nothing in it is run: torch reads tensors only (`weights_only`).
"""

from collections.abc import Mapping
from pickle import UnpicklingError

import torch

from policies.native.native_checkpoint import NativeCheckpoint
from policies.native.pi_zero_network import PiZeroNetwork, PiZeroSizes
from policies.native.weights import load_weights
from sim.errors import WhiskerError

type Tensors = dict[str, torch.Tensor]

_COMPILED = "_orig_mod."
_MIXTURES = {
    "joint_model.mixtures.vlm.": "prefix.",
    "joint_model.mixtures.proprio.": "state.",
    "joint_model.mixtures.action.norm.": "norm.",
    "joint_model.mixtures.action.": "actions.",
}
# The state's last output is not used.
_UNUSED = ("state.norm.weight",)


def read_tensors(checkpoint: NativeCheckpoint) -> Tensors:
    """Return the tensors of the network, under the names of `PiZeroNetwork`.

    Raises:
        WhiskerError: there is more than one file, or it is damaged, or holds other things.
    """
    subject = f"checkpoint {checkpoint.name!r}"
    if len(checkpoint.weights) > 1:
        names = ", ".join(path.name for path in checkpoint.weights)
        raise WhiskerError(subject, expected="one .pt file", got=names, hint="Name the file.")
    (path,) = checkpoint.weights
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise WhiskerError(
            subject,
            expected="tensors only",
            got="a file that torch does not read without running code of it",
            hint="Save its tensors alone: torch.save({'model': model.state_dict()}, path).",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise WhiskerError(
            subject,
            expected="a whole file of torch.save",
            got=f"{path.stat().st_size} bytes that cannot be read",
            hint="It was cut short or damaged on the way: copy or download it again.",
        ) from error
    tensors = saved.get("model") if isinstance(saved, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        got = f"one with {', '.join(map(repr, saved))}" if isinstance(saved, dict) else "another"
        raise WhiskerError(subject, expected="a file of open-pi-zero with 'model'", got=got)
    return {rename(name): tensor for name, tensor in tensors.items()}


def rename(name: str) -> str:
    """Return the name in `PiZeroNetwork` of a tensor of the checkpoint."""
    name = name.removeprefix(_COMPILED)
    for theirs, ours in _MIXTURES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def read_sizes(name: str, tensors: Mapping[str, torch.Tensor], vision_heads: int) -> PiZeroSizes:
    """Return the sizes of the network, which the shapes of its weights show.

    Args:
        name: of the checkpoint, for messages.

    Raises:
        WhiskerError: a tensor is missing.
    """

    def shape(tensor: str) -> torch.Size:
        if tensor not in tensors:
            raise WhiskerError(
                f"checkpoint {name!r}",
                expected=f"the weights of open-pi-zero, with {tensor!r}",
                got=f"{len(tensors)} tensors without it",
            )
        return tensors[tensor].shape

    layer = "vision_tower.vision_model.encoder.layers."
    patch = shape("vision_tower.vision_model.embeddings.patch_embedding.weight")
    n_patches, vision_width = shape(
        "vision_tower.vision_model.embeddings.position_embedding.weight"
    )
    vocabulary, prefix_width = shape("embed_tokens.weight")
    head_dim, _ = shape("prefix.layers.0.self_attn.k_proj.weight")
    queries, _ = shape("prefix.layers.0.self_attn.q_proj.weight")
    expert_mlp, expert_width = shape("actions.layers.0.mlp.up_proj.weight")
    return PiZeroSizes(
        vocabulary=vocabulary,
        prefix_width=prefix_width,
        prefix_mlp=shape("prefix.layers.0.mlp.up_proj.weight")[0],
        expert_width=expert_width,
        expert_mlp=expert_mlp,
        n_layers=_count_layers(tensors, "prefix.layers."),
        n_heads=queries // head_dim,
        head_dim=head_dim,
        vision_width=vision_width,
        vision_mlp=shape(f"{layer}0.mlp.fc1.weight")[0],
        vision_layers=_count_layers(tensors, layer),
        image_px=round(n_patches**0.5) * patch[-1],
        patch_px=patch[-1],
        state_dim=shape("proprio_encoder.weight")[1],
        action_dim=shape("action_decoder.weight")[0],
        vision_heads=vision_heads,
    )


def _count_layers(tensors: Mapping[str, torch.Tensor], prefix: str) -> int:
    names = (name.removeprefix(prefix) for name in tensors if name.startswith(prefix))
    return 1 + max(int(name.partition(".")[0]) for name in names)


def make_network(
    checkpoint: NativeCheckpoint,
    tensors: Tensors,
    device: str,
    vision_heads: int = 16,
) -> PiZeroNetwork:
    """Return the network with these weights.

    Args:
        tensors: see `read_tensors`.
        vision_heads: attention heads of SigLIP, which the weights do not show.

    Raises:
        WhiskerError: weights are missing, surplus or of another size.
    """
    tensors = {key: tensor for key, tensor in tensors.items() if key not in _UNUSED}
    sizes = read_sizes(checkpoint.name, tensors, vision_heads)
    with torch.device("meta"):
        network = PiZeroNetwork(sizes)
    # The published file holds the expert's weights twice, under two names; they stay shared.
    load_weights(checkpoint, "open-pi-zero", network, tensors, device)
    network.vision_tower.vision_model.embeddings.position_ids = torch.arange(
        (sizes.image_px // sizes.patch_px) ** 2, device=device
    )[None]
    return network.eval().requires_grad_(False)
