"""Lightweight temporal attention over the features of a series' dates.

After Garnot and Landrieu, "Lightweight Temporal Self-Attention for Classifying Satellite Images
Time Series" (arXiv 2007.00586), section 3, from its formulas: the channels of a date are shared out
among the heads, each head has one learned query for all samples, and values are the inputs
themselves.
"""

import math

import torch
from torch import Tensor, nn


def positions(days: Tensor, width: int, longest: float) -> Tensor:
    """Sines and cosines of the day of the year, [..., width] of days [...].

    Channels 2i and 2i + 1 are the sine and cosine of day / longest^(2i / width).
    """
    rate = longest ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = days.double()[..., None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()


class TemporalAttention(nn.Module):
    """Scores of series of any length.

    A date's features go linearly to E channels, E / H for each of H heads, to which the position of
    its day is added: e. In head h the key is k = W_h e + b_h, the weight of a date the softmax over
    the dates of q_h k / sqrt(K) with a learned query q_h, and the output the weighted sum of e. The
    outputs of all heads go through a layer norm, one hidden layer and a linear layer.

    What differs from the paper: no convolution before it, and no batch norm, so that a sample does
    not depend on its batch; days are those of the year, so dates of several years share positions.

    Args:
        width: D of a date's features.
        outputs: K of the task.
        heads: H.
        channels: E, an even number for each head.
        keys: K of a key.
        hidden: units of the hidden layer.
        longest: see `positions`.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        heads: int,
        channels: int,
        keys: int,
        hidden: int,
        longest: float,
    ) -> None:
        super().__init__()
        self.heads, self.each, self.longest = heads, channels // heads, longest
        self.enter = nn.Linear(width, channels)
        self.key = nn.Parameter(torch.empty(heads, keys, self.each))
        self.offset = nn.Parameter(torch.zeros(heads, keys))
        self.query = nn.Parameter(torch.randn(heads, keys) * math.sqrt(2 / keys))
        self.norm = nn.LayerNorm(channels)
        self.hidden = nn.Linear(channels, hidden)
        self.read = nn.Linear(hidden, outputs)
        bound = math.sqrt(3 / self.each)
        nn.init.uniform_(self.key, -bound, bound)

    def weights(self, x: Tensor, days: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [B, H, T] of the dates, and what they weigh, [B, T, H, E / H].

        Args:
            x: [B, T, D].
            days: [B, T] day of the year.
            mask: [B, T] bool, False where a place holds no date; each sample has one.
        """
        e = self.enter(x).unflatten(2, (self.heads, self.each))
        e = e + positions(days, self.each, self.longest)[:, :, None]
        keys = torch.einsum("bthe,hke->bthk", e, self.key) + self.offset
        logits = torch.einsum("bthk,hk->bht", keys, self.query) / math.sqrt(keys.shape[-1])
        return logits.masked_fill(~mask[:, None], -math.inf).softmax(-1), e

    def forward(self, x: Tensor, days: Tensor, mask: Tensor) -> Tensor:
        """Scores [B, K]; arguments as `weights`."""
        share, e = self.weights(x, days, mask)
        found = torch.einsum("bht,bthe->bhe", share, e).flatten(1)
        scores: Tensor = self.read(torch.relu(self.hidden(self.norm(found))))
        return scores
