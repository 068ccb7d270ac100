"""A module's weights out of the engine, one tensor at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fm.tensors import Weights
from pretrain.ranks import collective


def weights_of(module: nn.Module) -> Weights:
    """Return a module's state on the CPU; every rank must take all of its values, in one order.

    Under ZeRO 3 a parameter is gathered when it is its turn, and let go after it. Weights that are
    trained in bfloat16 come from the optimiser's float32 copy.
    """
    own: dict[str, Any] = dict(module.state_dict(keep_vars=True))

    def values(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for name in names:
            yield name, _whole(own[name])

    return Weights({name: (_dtype(value), _shape(value)) for name, value in own.items()}, values)


def _rounded(value: Any) -> bool:
    return value.dtype == torch.bfloat16 and value.requires_grad


def _dtype(value: Any) -> torch.dtype:
    return torch.float32 if _rounded(value) else value.dtype


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.ds_shape if hasattr(value, "ds_id") else value.shape)


def _whole(value: Any) -> Tensor:
    if _rounded(value):
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(value).detach().to("cpu", copy=True)
    context: Any = nullcontext()
    if hasattr(value, "ds_id"):
        from deepspeed.runtime.zero import GatheredParameters

        context = GatheredParameters([value])
    with context:
        return value.detach().to("cpu", copy=True)


def written_by_first(weights: Weights, write: Callable[[Weights], None]) -> None:
    """Let the first rank write weights; call on every rank.

    All take part until the last, also when the first cannot write: none waits for another.

    Args:
        weights: of this rank (`weights_of`).
        write: takes weights whose values come in the order of their file.
    """
    values = weights.values(weights.order())
    try:
        if collective.rank() == 0:
            write(Weights(weights.layout, lambda names: values))
    finally:
        for _ in values:
            pass
