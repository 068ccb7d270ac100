"""Channel cross-attention: one token from any bands, and radar polarisations beside them."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.embed.open_bands import OpenBands
from fm.models.embed.patch_size import How, resized_linear
from fm.models.embed.tokenizer import Tokenizer
from fm.models.layout import Member
from fm.models.positions import sincos_1d
from fm.sensors import Band

POLARISATIONS = ("VV", "VH", "HH", "HV")


class ChannelAttention(Tokenizer):
    """Panopticon's patch embedding (Waldmann et al., arXiv 2503.10845, section 3.1).

    Each band of a token is projected by itself with shared weights, gets a code of what it is
    (sines and cosines of the wavelength in nanometres; learned vectors of sent and received
    polarisation and orbit for radar), and one learned query attends over the bands. The query and
    the result of the attention have no projections of their own, as in the released weights, whose
    keys (`conv3d`, `chnfus`, `proj`) these are up to the axis of length 1.

    Wavelengths are rounded down to whole nanometres, as the released weights were trained. Radar
    bands are taken as of unknown orbit direction: the mean of its two vectors.

    Args:
        member: bands with a wavelength or a polarisation.
        width: D.
        attention_width: width in which channels are compared.
        heads: of the attention; must divide `attention_width`.
    """

    flexible = True

    def __init__(
        self, member: Member, width: int, attention_width: int | None = None, heads: int = 16
    ) -> None:
        super().__init__()
        inside = 3 * width if attention_width is None else attention_width
        if heads < 1 or inside % heads or inside % 2:
            raise UsageError(
                f"{member.modality}: attention_width {inside} must be a multiple of 2 and of heads "
                f"{heads}"
            )
        self.heads = heads
        self.conv3d = nn.Linear(member.patch**2, inside)
        third = inside // 3
        self.embed_transmit = nn.Parameter(torch.randn(2, third) * 0.02)
        self.embed_receive = nn.Parameter(torch.randn(2, third) * 0.02)
        self.embed_orbit = nn.Parameter(torch.randn(2, inside - 2 * third) * 0.02)
        self.query = nn.Parameter(torch.randn(1, 1, inside))
        self.inproj_k = nn.Linear(inside, inside, bias=False)
        self.inproj_v = nn.Linear(inside, inside, bias=False)
        self.proj = nn.Linear(inside, width)
        self.band_codes(member.bands)

    def band_codes(self, bands: Sequence[Band]) -> Tensor:
        """Encode what each band measures: `[C, attention_width]`.

        Raises:
            UsageError: a band with neither a wavelength nor a known polarisation.
        """
        if isinstance(bands, OpenBands):
            whole = bands.centres.to(self.query.device).trunc().float()
            return sincos_1d(self.query.shape[-1], whole)
        codes = []
        for band in bands:
            if band.wavelength_nm is not None:
                centre = torch.tensor([float(int(band.wavelength_nm))], device=self.query.device)
                codes.append(sincos_1d(self.query.shape[-1], centre)[0])
            elif band.polarisation in POLARISATIONS:
                sent, got = ("VH".index(letter) for letter in band.polarisation)
                parts = (self.embed_transmit[sent], self.embed_receive[got])
                codes.append(torch.cat([*parts, self.embed_orbit.mean(dim=0)]))
            else:
                raise UsageError(
                    f"band {band.name!r} has neither a wavelength nor a polarisation of "
                    f"{', '.join(POLARISATIONS)}; give one or leave the band out"
                )
        return torch.stack(codes)

    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Embed `[B, K, C, p, p]` as `[B, K, D]`."""
        batch, kept = patches.shape[:2]
        x = self.conv3d(patches.flatten(3))
        x = (x + self.band_codes(bands).to(x.dtype)).flatten(0, 1)
        query = self.query.expand(x.shape[0], -1, -1).to(x.dtype)
        split = [
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (query, self.inproj_k(x), self.inproj_v(x))
        ]
        seen = nn.functional.scaled_dot_product_attention(*split)
        return self.proj(seen.transpose(1, 2).flatten(2)[:, 0]).unflatten(0, (batch, kept))

    def select(self, channels: list[int], member: Member) -> "ChannelAttention":
        """Return the same embedding; `member` has the chosen bands."""
        del channels
        self.band_codes(member.bands)
        return deepcopy(self)

    def resized(self, old: int, new: int, how: How) -> "ChannelAttention":
        """Return the embedding of tokens with another number of pixels."""
        other = deepcopy(self)
        other.conv3d = resized_linear(self.conv3d, old, new, how)
        return other
