"""SpectralEarth's adapter: convolutions along the spectral axis."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.embed.patch_size import How, resized_linear
from fm.models.embed.tokenizer import Tokenizer
from fm.models.layout import Member
from fm.sensors import Band

MINIMUM_BANDS = 75
"""Fewer leave the last convolution less than its kernel."""

MAPS = 128
"""Channels that come out of the adapter."""

Norm = Literal["affine", "batch"]


def spectral_layers(norm: Norm) -> nn.Sequential:
    """Build the three convolutions (1 -> 32, 32 -> 64, 64 -> 128) with 56,192 parameters.

    Kernels 7, 7, 5, strides 5, 5, 3 and padding 1 follow SpectralEarth (Braham et al., arXiv
    2408.08447, section on the spectral adapter). Numbers of the layers are those of the released
    files, `spectral_adapter.{0,1,3,4,6,7}`, whose convolutions have two more axes of length 1.

    Args:
        norm: `affine` is a learned scale and shift of each channel: a value depends neither on its
            batch mates nor on the number of ranks. `batch` is batch normalisation as in the paper:
            statistics of the pixels that are given (kept tokens only, of one rank) in training,
            the running ones in evaluation.

    Raises:
        UsageError: another norm.
    """
    kinds = {"affine": _Affine, "batch": nn.BatchNorm1d}
    if norm not in kinds:
        raise UsageError(f"spectral adapter: norm={norm!r}; give one of {', '.join(kinds)}")
    layers: list[nn.Module] = []
    for inside, outside, kernel, stride in ((1, 32, 7, 5), (32, 64, 7, 5), (64, MAPS, 5, 3)):
        layers += [nn.Conv1d(inside, outside, kernel, stride, padding=1), kinds[norm](outside)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def check_band_count(modality: str, bands: int) -> None:
    """Refuse a band list that is too short for the adapter.

    Raises:
        UsageError: fewer than `MINIMUM_BANDS`.
    """
    if bands < MINIMUM_BANDS:
        raise UsageError(
            f"{modality}: a spectral adapter needs at least {MINIMUM_BANDS} bands, this has "
            f"{bands}; use tokenizer linear, generator or tied"
        )


class SpectralAdapter(Tokenizer):
    """Convolutions along the spectral axis of each kept pixel, then a linear projection.

    The convolutions and the mean over what is left of the spectral axis mix no pixels, so they
    run on kept tokens only. Filters are tied to the band index: the band list is fixed.

    Args:
        member: at least 75 bands.
        width: D.
        norm: `affine`, or `batch` for SpectralEarth's weights; see `spectral_layers`.
    """

    def __init__(self, member: Member, width: int, norm: Norm = "affine") -> None:
        super().__init__()
        check_band_count(member.modality, len(member.bands))
        self.patch = member.patch
        self.spectral = spectral_layers(norm)
        self.proj = nn.Linear(MAPS * member.patch**2, width)

    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Embed normalised patches `[B, K, C, p, p]` as `[B, K, D]`."""
        del bands
        batch, kept = patches.shape[:2]
        spectra = rearrange(patches, "b k c p w -> (b k p w) 1 c")
        maps = self.spectral(spectra).mean(dim=-1)
        return self.proj(rearrange(maps, "(b k s) f -> b k (f s)", b=batch, k=kept))

    def resized(self, old: int, new: int, how: How) -> "SpectralAdapter":
        """Return the embedding of tokens with another number of pixels."""
        other = deepcopy(self)
        other.patch = new
        other.proj = resized_linear(self.proj, old, new, how)
        return other


class _Affine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None] + self.bias[:, None]
