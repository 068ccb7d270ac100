"""Which parameters are decayed."""

from typing import Any

from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters: matrices are decayed; biases, norms and codes are not."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        code = name.endswith(("_token", "_tokens"))
        code = code or "group_code." in name or "group_embed." in name
        (plain if parameter.ndim < 2 or code else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
