"""SpectralEarth's adapter: convolutions along the spectral axis."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.embed.tokenizer import Tokenizer
from fm.models.layout import Member
from fm.sensors import Band


class SpectralAdapter(Tokenizer):
    """Convolutions along the spectral axis of each kept pixel, then a linear projection.

    The three convolutions (1 -> 32, 32 -> 64, 64 -> 128; kernels 7, 7, 5; strides 5, 5, 3;
    padding 1) and the mean over what is left of the spectral axis follow SpectralEarth (Braham
    et al., arXiv 2408.08447, section on the spectral adapter). They mix no pixels, so they run
    on kept tokens only. Where the paper has batch normalisation this has a learned scale and
    shift a channel: the same number of parameters (56,192), but a token's value does not depend
    on its batch mates or on the number of ranks. Filters are tied to the band index: the band
    list is fixed, and at least 75 bands are needed.
    """

    MINIMUM_BANDS = 75

    def __init__(self, member: Member, width: int) -> None:
        super().__init__()
        if len(member.bands) < self.MINIMUM_BANDS:
            raise UsageError(
                f"{member.modality}: a spectral adapter needs at least {self.MINIMUM_BANDS} bands, "
                f"this has {len(member.bands)}; use tokenizer linear"
            )
        self.patch = member.patch
        layers: list[nn.Module] = []
        for inside, outside, kernel, stride in ((1, 32, 7, 5), (32, 64, 7, 5), (64, 128, 5, 3)):
            layers += [nn.Conv1d(inside, outside, kernel, stride, padding=1), _Affine(outside)]
            layers.append(nn.ReLU())
        self.spectral = nn.Sequential(*layers)
        self.proj = nn.Linear(128 * member.patch**2, width)

    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Embed normalised patches `[B, K, C, p, p]` as `[B, K, D]`."""
        del bands
        batch, kept = patches.shape[:2]
        spectra = rearrange(patches, "b k c p w -> (b k p w) 1 c")
        maps = self.spectral(spectra).mean(dim=-1)
        return self.proj(rearrange(maps, "(b k s) f -> b k (f s)", b=batch, k=kept))


class _Affine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None] + self.bias[:, None]
