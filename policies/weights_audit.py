"""Check whether the weights of a network look trained."""

import torch

from policies.policy import WeightsAudit

# Names of normalisation layers whose scale and shift training moves away from the initial ones and
# zeros. BatchNorm is not among them, because pretrained or frozen ones often stay untouched.
_NORM_NAMES = ("LayerNorm", "RMSNorm", "GroupNorm")


@torch.inference_mode()
def audit_weights(network: torch.nn.Module) -> WeightsAudit:
    """Count the signs of untrained, missing or broken weights."""
    parameters = dict(network.named_parameters())
    buffers = _saved_buffers(network)
    norms = [module for module in network.modules() if _is_norm(module)]
    non_finite = []
    for name, tensor in (*parameters.items(), *buffers.items()):
        # The sum is finite exactly if all numbers are. In half precision it could overflow.
        if not tensor.sum(dtype=torch.float32).isfinite():
            non_finite.append(name)
    negative_variances = []
    for name, buffer in buffers.items():
        if name.endswith("running_var") and (buffer < 0).any():
            negative_variances.append(name)
    return WeightsAudit(
        n_parameters=sum(parameter.numel() for parameter in parameters.values()),
        n_norms=len(norms),
        n_untouched_norms=sum(map(_is_untouched, norms)),
        non_finite=tuple(non_finite),
        negative_variances=tuple(negative_variances),
    )


def _saved_buffers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the floating-point buffers that the weights file contains.

    Others, such as a mask made in the constructor, may be infinite.
    """
    saved = network.state_dict(keep_vars=True)
    buffers = {}
    for name, buffer in network.named_buffers():
        if name in saved and buffer.is_floating_point():
            buffers[name] = buffer
    return buffers


def _is_norm(module: torch.nn.Module) -> bool:
    has_scale = isinstance(getattr(module, "weight", None), torch.Tensor)
    return has_scale and any(name in type(module).__name__ for name in _NORM_NAMES)


def _is_untouched(norm: torch.nn.Module) -> bool:
    shift = getattr(norm, "bias", None)
    has_one_scale = bool((norm.weight == norm.weight.flatten()[0]).all())
    has_shift = isinstance(shift, torch.Tensor) and bool(shift.any())
    return has_one_scale and not has_shift
