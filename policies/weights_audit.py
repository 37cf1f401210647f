"""Do the weights of a network look as if they had been trained?"""

import torch

from policies.policy import WeightsAudit

# Of a layer that scales what it has normalised: trained, these move from the ones and zeros that
# they begin with. BatchNorm is left out: pretrained or frozen ones are often never touched.
_NORM_NAMES = ("LayerNorm", "RMSNorm", "GroupNorm")


@torch.inference_mode()
def audit_weights(network: torch.nn.Module) -> WeightsAudit:
    named = list(network.named_parameters())
    saved = network.state_dict(keep_vars=True)
    # A mask that is made in the constructor may hold infinities; what the file holds may not.
    buffers = [
        (name, b) for name, b in network.named_buffers() if name in saved and b.is_floating_point()
    ]
    norms = [m for m in network.modules() if _is_norm(m)]
    return WeightsAudit(
        n_parameters=sum(parameter.numel() for _, parameter in named),
        n_norms=len(norms),
        n_untouched_norms=sum(map(_is_untouched, norms)),
        # A sum is finite unless a part is not; in half precision it could overflow by itself.
        non_finite=tuple(
            name for name, p in named + buffers if not p.sum(dtype=torch.float32).isfinite()
        ),
        negative_variances=tuple(
            name for name, b in buffers if name.endswith("running_var") and (b < 0).any()
        ),
    )


def _is_norm(module: torch.nn.Module) -> bool:
    has_scale = isinstance(getattr(module, "weight", None), torch.Tensor)
    return has_scale and any(name in type(module).__name__ for name in _NORM_NAMES)


def _is_untouched(norm: torch.nn.Module) -> bool:
    shift = getattr(norm, "bias", None)
    is_constant = bool((norm.weight == norm.weight.flatten()[0]).all())
    return is_constant and (not isinstance(shift, torch.Tensor) or not bool(shift.any()))
