"""One learned projection of all the pixel values of a token."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from einops import rearrange
from torch import Tensor, nn

from fm.models.embed.patch_size import How, resized_linear
from fm.models.embed.tokenizer import Tokenizer
from fm.models.layout import Member
from fm.sensors import Band


class LinearEmbed(Tokenizer):
    """A linear map of all values: what a strided convolution does (arXiv 2010.11929, eq. 1)."""

    def __init__(self, member: Member, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(member.values, width)

    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Project `[B, K, C, p, p]` to `[B, K, D]`."""
        del bands
        return self.proj(patches.flatten(2))

    def select(self, channels: list[int], member: Member) -> "LinearEmbed":
        """Return the embedding of some of the channels, with their weights."""
        other = LinearEmbed(member, self.proj.out_features)
        weight = rearrange(self.proj.weight, "d (c p) -> d c p", p=member.patch**2)
        with torch.no_grad():
            other.proj.weight.copy_(weight[:, channels].flatten(1))
            other.proj.bias.copy_(self.proj.bias)
        return other

    def resized(self, old: int, new: int, how: How) -> "LinearEmbed":
        """Return the embedding of tokens with another number of pixels."""
        other = deepcopy(self)
        other.proj = resized_linear(self.proj, old, new, how)
        return other

    def kernel(self, patch: int) -> Tensor:
        """Return the weights as those of a convolution, `[D, C, patch, patch]`."""
        return self.proj.weight.unflatten(1, (-1, patch, patch))
