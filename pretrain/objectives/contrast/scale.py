"""The factor that multiplies cosines in CLIP's contrast (Radford et al., arXiv 2103.00020)."""

import math

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from pretrain.losses.precision import wide


class LearnedScale(nn.Module):
    """A positive factor, learned as its logarithm and held below a limit.

    SatCLIP's code learns it without the limit; CLOSP's keeps it at 1.

    Args:
        start: the factor at first.
        largest: that it may reach; None is no limit.
        learned: false keeps it at `start`.

    Raises:
        UsageError: `start` is above `largest`.
    """

    def __init__(self, start: float, largest: float | None, *, learned: bool = True) -> None:
        super().__init__()
        if largest is not None and start > largest:
            raise UsageError(
                f"objective.scale={start:g} is above largest_scale={largest:g}; lower one or raise "
                f"the other"
            )
        self.largest = math.inf if largest is None else largest
        # DeepSpeed takes no parameter without a dimension
        self.log = nn.Parameter(torch.tensor([math.log(start)]), requires_grad=learned)

    def forward(self) -> Tensor:
        """Return the factor, at most `largest`, with a gradient also from there."""
        most = math.log(self.largest)
        # the limit passes gradients on: beyond it a plain clamp would never come back
        held = self.log + (self.log.clamp(max=most) - self.log).detach()
        return wide(held).exp()[0]
