"""The module that DeepSpeed wraps: an objective under the run's precision."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective, Panel
from pretrain.settings.engine import Precision


class Forward(nn.Module):
    """An objective under the run's precision.

    Args:
        objective: whose loss is learned.
        precision: see `EngineConfig`.

    Attributes:
        touched: parameters that get the gradient zero from samples that do not use them.
        pictures: of the last batch that was drawn.
    """

    def __init__(self, objective: Objective, precision: Precision) -> None:
        super().__init__()
        self.objective, self.precision = objective, precision
        self.touched: Sequence[nn.Parameter] = ()
        self.pictures: list[list[Panel]] = []

    def forward(
        self, batch: MicroBatch, draw: bool = False
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, its weight and metrics, all in float32.

        With `draw` make its pictures instead: under ZeRO 3 weights are whole only in here.
        """
        with _autocast(batch.weight.device, self.precision):
            if draw:
                self.pictures = self.objective.panels(batch, batch.rng)
                return batch.weight.sum(), batch.weight.sum(), {}
            out = self.objective(batch, batch.rng)
        loss = out.loss_sum.float()
        if self.touched and torch.is_grad_enabled():
            loss = _Touch.apply(loss, *self.touched)
        return loss, out.weight.float(), out.metrics


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class _Touch(torch.autograd.Function):
    """A number as it is; the parameters get the gradient zero on the way back.

    What no sample of a step used (the tokenizers of another part of a mixture) otherwise has no
    gradient: DeepSpeed then keeps that of the step before under offload and ZeRO 3, and AdamW of
    one process passes over the parameter.
    """

    @staticmethod
    def forward(ctx: Any, number: Tensor, *parameters: Tensor) -> Tensor:
        ctx.shapes = [(p.shape, p.dtype) for p in parameters]
        return number.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        (grad,) = grads
        zeros = (
            # one zero seen from everywhere: autograd adds to it, or copies it
            grad.new_zeros((), dtype=dtype).expand(shape)
            for shape, dtype in ctx.shapes
        )
        return (grad, *zeros)
