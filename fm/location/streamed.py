"""A linear layer on encoded places whose features are never held all at once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fm.hardware import full_precision
from fm.linear import linear
from fm.location.encoding import Encoding, block_of, check


class EncodedLinear(nn.Module):
    """`linear(encoding(lonlat))`, block by block.

    At L = 40 the features of a place are 6.4 kB; a batch's would not stay in any cache. Features
    that depend on no parameter are made again in the backward pass instead of kept, block by
    block, straight into the products. The layer is computed in the encoding's float32 (or float64)
    whatever the autocast: rounded to bfloat16, features of high degree are noise, and a SIREN
    multiplies this layer's output by 30.

    Args:
        encoding: of places.
        width: outputs.
    """

    def __init__(self, encoding: Encoding, width: int) -> None:
        super().__init__()
        self.encoding = encoding
        made = nn.Linear(encoding.dim, width)
        self.weight, self.bias = made.weight, made.bias

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode and multiply.

        Args:
            lonlat: `[N, 2]` degrees.

        Returns:
            `[N, width]` in the encoding's dtype. Differentiable once in all three; for second
            derivatives in the coordinates write `linear(encoding(lonlat))`.

        Raises:
            FMError: see `Encoding.forward`.
        """
        check(lonlat)
        with full_precision(lonlat.device):
            dtype = self.encoding.dtype
            weight, bias = self.weight.to(dtype), self.bias.to(dtype)
            if not self.encoding.fixed or torch.compiler.is_compiling():
                return linear(self.encoding(lonlat), weight, bias)
            places = lonlat.to(weight.device, torch.float64)
            return _Streamed.apply(places, weight, bias, self.encoding)


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, lonlat: Tensor, weight: Tensor, bias: Tensor, encoding: Encoding
    ) -> Tensor:
        ctx.encoding = encoding
        ctx.save_for_backward(lonlat, weight)
        out = weight.new_empty((len(lonlat), len(weight)))
        for rows in _blocks(lonlat, encoding):
            out[rows] = linear(encoding.encode(lonlat[rows]), weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        lonlat, weight = ctx.saved_tensors
        places, weights, biases, _ = ctx.needs_input_grad
        of_places = torch.empty_like(lonlat) if places else None
        of_weight = torch.zeros_like(weight) if weights else None
        with full_precision(lonlat.device):
            for rows in _blocks(lonlat, ctx.encoding):
                block, of_block = lonlat[rows].detach(), gradient[rows]
                with torch.set_grad_enabled(places):
                    features = ctx.encoding.encode(block.requires_grad_(places))
                if of_places is not None:
                    of_features = linear(of_block, weight.T)
                    (of_places[rows],) = torch.autograd.grad(features, block, of_features)
                if of_weight is not None:
                    of_weight += linear(of_block.T, features.detach().T)
        return of_places, of_weight, gradient.sum(0) if biases else None, None


def _blocks(lonlat: Tensor, encoding: Encoding) -> list[slice]:
    step = block_of(encoding)
    return [slice(start, start + step) for start in range(0, len(lonlat), step)]
