"""One embedding of a single-channel patch, shared by all bands (LESS ViT)."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.embed.open_bands import centres_of
from fm.models.embed.patch_size import How, resized_linear
from fm.models.embed.tokenizer import Tokenizer
from fm.models.layout import Member
from fm.models.positions import sincos_1d
from fm.sensors import Band, wavelengths


class TiedChannelEmbed(nn.Module):
    """Embed each band of each token by itself, with the same weights for every band.

    LESS ViT (arXiv 2605.18541, section on the tied patch embedding): a convolution from one
    channel to 2D with kernel and stride p, ReLU, and a 1x1 convolution from 2D to D. On patches
    that are cut already the first is a linear map of their p*p values, so only kept bands of kept
    tokens are computed.

    Args:
        patch: p, pixels along one side of a token.
        width: D.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Sequential(
            nn.Linear(patch**2, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Embed `[B, K, C, p, p]` normalised values as `[B, K, C, D]`."""
        return self.proj(patches.flatten(-2))

    def resized(self, new: int, how: How) -> "TiedChannelEmbed":
        """Return the embedding of patches with another number of pixels."""
        other = deepcopy(self)
        first = self.proj[0]
        assert isinstance(first, nn.Linear)
        other.patch, other.proj[0] = new, resized_linear(first, self.patch, new, how)
        return other


class TiedEmbed(Tokenizer):
    """The tied embedding for a plain ViT: the bands of a token are pooled into one vector.

    To each band's embedding comes the code of its wavelength (sines and cosines of nanometres, as
    LESS ViT's channel code). Learned queries then score the normalised bands, one softmax over
    bands a head, and the heads' means are projected. A plain mean would add values and codes
    apart and could not tell which band a value is of.

    Args:
        member: every band with a wavelength.
        width: D.
        heads: queries.
    """

    flexible = True

    def __init__(self, member: Member, width: int, heads: int = 4) -> None:
        super().__init__()
        if heads < 1:
            raise UsageError(f"{member.modality}: tokenizer tied needs heads >= 1, got {heads}")
        wavelengths(member.bands)
        self.width = width
        self.embed = TiedChannelEmbed(member.patch, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, heads, bias=False)  # a bias moves all bands alike
        self.proj = nn.Linear(heads * width, width)

    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Embed `[B, K, C, p, p]` as `[B, K, D]`.

        Raises:
            UsageError: a band without a wavelength.
        """
        codes = sincos_1d(self.width, centres_of(bands, patches.device)).float()
        seen = self.norm(self.embed(patches) + codes)
        share = self.query(seen).softmax(dim=2)
        # values are projected after the mean over bands, once a token instead of once a band
        read = torch.einsum("bkch,bkcd->bkhd", share.to(seen.dtype), seen)
        return self.proj(read.flatten(2))

    def select(self, channels: list[int], member: Member) -> "TiedEmbed":
        """Return the same embedding; `member` has the chosen bands."""
        del channels
        wavelengths(member.bands)
        return deepcopy(self)

    def resized(self, old: int, new: int, how: How) -> "TiedEmbed":
        """Return the embedding of tokens with another number of pixels."""
        del old
        other = deepcopy(self)
        other.embed = self.embed.resized(new, how)
        return other
