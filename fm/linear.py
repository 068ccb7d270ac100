"""Linear layers in float32 on a CPU, by oneDNN where torch's own product leaves half the speed.

torch multiplies float32 matrices by MKL, which uses the 512-bit registers of Intel's processors
alone. oneDNN, which torch carries too, uses those of any: twice as fast on a Zen 5 core (Intel's
were not at hand). It adds up in another order, so results differ by float32 rounding.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

M = TypeVar("M", bound=nn.Module)

_ROWS = 64
"""Fewer rows do not pay for bringing the weight into oneDNN's layout."""


class Linear(nn.Linear):
    """torch's linear layer, computed by `linear`; its state is torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute `[..., i]` to `[..., o]`."""
        return linear(input, self.weight, self.bias)


def quicken(module: M) -> M:
    """Let the linear layers inside a module be computed by `linear`, in place.

    Weights, names, hooks and the class that `isinstance` sees stay; layers of a class derived from
    torch's are left as they are.

    Returns:
        the module.
    """
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear
    return module


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `x @ weight.T + bias`; differentiable once where oneDNN serves.

    Args:
        x: `[..., i]`, any strides.
        weight: `[o, i]`, any strides.
        bias: `[o]`.

    Returns:
        `[..., o]`.
    """
    if not _serves(x, weight):
        return torch.nn.functional.linear(x, weight, bias)
    if x.ndim > 2:
        return linear(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    if torch.is_grad_enabled() and any(
        value is not None and value.requires_grad for value in (x, weight, bias)
    ):
        made: Tensor = _Linear.apply(x, weight, bias)
        return made
    return _product(x, weight, bias)


@cache
def _wide() -> bool:
    """Say whether oneDNN is here and has 512-bit registers to use."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and "AVX512" in torch.backends.cpu.get_cpu_capability()
    )


def _serves(x: Tensor, weight: Tensor) -> bool:
    """Say whether the product is one that oneDNN does as well, and faster."""
    return (
        not torch.compiler.is_compiling()  # first: `len` would fix what an export leaves open
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim >= 2
        and x.shape[:-1].numel() >= _ROWS
        and not torch.is_autocast_enabled("cpu")
        and torch._C._functorch.peek_interpreter_stack() is None  # torch.func knows no `_Linear`
        and _wide()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _operations(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        """Count two a multiply-add, as torch does for its own products."""
        return 2 * x[0] * weight[0] * weight[1]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        inputs, weights, biases = ctx.needs_input_grad
        return (
            linear(gradient, weight.T) if inputs else None,
            linear(gradient.T, x.T) if weights else None,
            gradient.sum(0) if biases else None,
        )
