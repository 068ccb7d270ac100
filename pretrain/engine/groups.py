"""Which parameters are decayed, how fast each learns, and which are matrices inside blocks."""

from typing import Any

from torch import nn

from fm.location import EncodedLinear
from fm.models import Backbone
from fm.models.layers import in_block, layer_numbers

MATRICES = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.MultiheadAttention, EncodedLinear)
"""Modules whose own parameters of two or more axes multiply what comes in: they are decayed.

A parameter that any other module holds is a norm, a position, a token, a query or a code.
"""


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    *,
    backbone: Backbone | None = None,
    layer_decay: float = 1.0,
    bias_scale: float = 1.0,
    all_decayed: bool = False,
    hidden_apart: bool = False,
) -> list[dict[str, Any]]:
    """Arrange the trained parameters for an optimiser.

    Args:
        module: all of whose parameters that need gradients are taken.
        weight_decay: of the matrices; biases, norms, positions, tokens and codes have none.
        backbone: the part of it that `layer_decay` is for.
        layer_decay: factor of the learning rate for each layer of the backbone between a
            parameter and its end.
        bias_scale: factor of the learning rate of all that is no matrix.
        all_decayed: decay that too.
        hidden_apart: put the matrices inside blocks into groups of their own.

    Returns:
        groups with `params`, `weight_decay`, `decayed`, `lr_scale` (factor of the learning rate),
        `matrices` and `hidden` (matrices inside blocks, when these are apart), always in the same
        order.

    Raises:
        UsageError: the backbone has no layers that can be numbered.
    """
    matrices = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, MATRICES)
        for parameter in part.parameters(recurse=False)
        if parameter.ndim > 1
    }
    scales = _scales(backbone, layer_decay) if backbone is not None and layer_decay < 1 else {}
    found: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = id(parameter) in matrices
        hidden = hidden_apart and matrix and in_block(name)
        scale = scales.get(id(parameter), 1.0) * (1.0 if matrix else bias_scale)
        found.setdefault((hidden, scale, matrix), []).append(parameter)
    return [
        {
            "params": found[hidden, scale, matrix],
            "weight_decay": weight_decay if matrix or all_decayed else 0.0,
            "decayed": matrix or all_decayed,
            "lr_scale": scale,
            "matrices": matrix,
            "hidden": hidden,
        }
        for hidden, scale, matrix in sorted(found, reverse=True)
    ]


def _scales(backbone: Backbone, layer_decay: float) -> dict[int, float]:
    """Return the factor of each of the backbone's parameters, by its id."""
    parameters = dict(backbone.named_parameters())
    numbers, top = layer_numbers(
        list(parameters), str(backbone.architecture.get("name")), "set optimizer.layer_decay=1"
    )
    pairs = zip(parameters.values(), numbers, strict=True)
    return {id(parameter): layer_decay ** (top - number) for parameter, number in pairs}
