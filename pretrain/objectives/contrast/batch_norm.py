"""Batch norm over the whole global batch, on any backend.

A contrast over gathered rows is only the same on two ranks as on one when the statistics are those
of all rows too. torch's SyncBatchNorm wants CUDA; here the moments travel through
`pretrain.ranks.collective`, with their gradients. They are those of all ranks, so no row can be
told by the statistics of the few that were normalised with it, which is what MoCo shuffles its
batch for; `RankBatchNorm` is for those who shuffle.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from fm.hardware import full_precision
from pretrain.losses.precision import wide
from pretrain.ranks import collective

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class BatchNorm(_BatchNorm):
    """Batch norm of `[B, C]` or `[B, C, ...]`, in training with the moments of all ranks' rows.

    Parameters, buffers and results are those of torch's on one process that holds all rows. Ranks
    may hold different numbers of rows, also none; every rank must call it. A batch of one row has
    no variance: the result is the bias, and the running variance stays.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm takes [B, C] or [B, C, ...]; got {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; same shape and dtype."""
        self._check_input_dim(input)
        weight, bias = (None if x is None else wide(x) for x in (self.weight, self.bias))
        own = self.training or self.running_mean is None
        alone = input.numel() == input.shape[1]  # torch's refuses one row
        if own and (alone or collective.world_size() > 1):
            return self._over_ranks(input, weight, bias)
        share = self._share() if own else 0.0
        return functional.batch_norm(
            input, self.running_mean, self.running_var, weight, bias, own, share, self.eps
        )

    def _over_ranks(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        with full_precision(input.device):
            x = wide(input)
            axes = [axis for axis in range(x.ndim) if axis != 1]
            shape = (1, -1, *[1] * (x.ndim - 2))
            number = x.new_full((1,), x.numel() // x.shape[1])
            mean = x.sum(axes) / number.clamp(min=1)
            spread = (x - mean.view(shape)).square().sum(axes)
            # of moments about the ranks' own means, so that nothing is lost where means are large
            told = collective.gather_rows(torch.cat([number, mean, spread])[None])
            numbers, means, spreads = told[:, :1], *told[:, 1:].chunk(2, dim=1)
            number = numbers.sum()
            total = number.clamp(min=1)
            mean = (means * numbers).sum(dim=0) / total
            spread = (spreads + numbers * (means - mean).square()).sum(dim=0)
            variance = spread / (total - 1).clamp(min=1)
            self._move(torch.stack([mean, variance]), torch.stack([number, number - 1]))
            x = (x - mean.view(shape)) * torch.rsqrt(spread / total + self.eps).view(shape)
            if weight is not None and bias is not None:
                x = x * weight.view(shape) + bias.view(shape)
        return x.to(input.dtype)

    def _move(self, now: Tensor, known: Tensor) -> None:
        """Move the running statistics.

        Args:
            now: `[2, C]`, mean and variance of the batch.
            known: `[2]`, above zero where there were rows to make them of.
        """
        share = self._share()
        for kept, value, number in zip(
            (self.running_mean, self.running_var), now, known, strict=True
        ):
            if kept is not None:
                # past autograd: torch's own batch norm of several rows keeps them for its gradient
                value = value.detach().to(kept.dtype)
                kept.data.lerp_(torch.where(number > 0, value, kept), share)

    def _share(self) -> float:
        """Count a batch, and return its share of the running statistics."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum


class RankBatchNorm(BatchNorm):
    """Batch norm with the moments of each rank's own rows, as torch's under data parallelism.

    The running statistics are the mean of the ranks' by their rows: the same on all of them, so
    that any rank's are those of the checkpoint. A rank of one row has no variance: its result is
    the bias, and it has no share in the running one. Every rank must call it.
    """

    def _over_ranks(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        channels = input.shape[1]
        rows = input.numel() // channels
        mean, spread = torch.zeros((2, channels), dtype=wide(input[:0]).dtype, device=input.device)
        spreads = rows if rows > 1 else 0
        if rows > 1:
            made = functional.batch_norm(input, mean, spread, weight, bias, True, 1.0, self.eps)
        else:  # torch's refuses one, on this rank alone
            made = self._alone(input, weight, bias)
            mean = wide(input.detach()).reshape(rows, channels).sum(dim=0)
        told = torch.cat([mean.new_tensor([rows, spreads]), rows * mean, spreads * spread])
        numbers, sums = collective.all_reduce_sum(told).split([2, 2 * channels])
        self._move(sums.view(2, channels) / numbers.clamp(min=1)[:, None], numbers)
        return made

    def _alone(self, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Normalise at most one row by its own moments: the bias, with a gradient of zero."""
        x = wide(input)
        x = x - x
        if weight is not None and bias is not None:
            shape = (1, -1, *[1] * (x.ndim - 2))
            x = x * weight.view(shape) + bias.view(shape)
        return x.to(input.dtype)


def over_all_ranks(module: nn.Module) -> nn.Module:
    """Turn the batch norms of a module into `BatchNorm`, in place; their state stays.

    Raises:
        ValueError: a batch norm of a kind that does more than torch's.
    """
    for name, part in module.named_modules():
        if not isinstance(part, _BatchNorm) or isinstance(part, BatchNorm):
            continue
        if type(part) not in KINDS:
            raise ValueError(f"{name}: no batch norm over all ranks for {type(part).__name__}")
        # another class with the same state: names and references stay as they were
        part.__class__ = BatchNorm
    return module


def of_each_rank(module: nn.Module) -> bool:
    """Turn the batch norms of a module into `RankBatchNorm`, as `over_all_ranks`; say if any is."""
    found = [part for part in over_all_ranks(module).modules() if isinstance(part, BatchNorm)]
    for part in found:
        part.__class__ = RankBatchNorm
    return bool(found)
