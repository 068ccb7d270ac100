"""Weights made from wavelengths: one embedding for any band list (DOFA)."""

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models.embed.open_bands import centres_of
from fm.models.embed.patch_size import How, resized_kernel
from fm.models.embed.tokenizer import Tokenizer
from fm.models.layout import Member
from fm.models.positions import sincos_1d
from fm.sensors import Band


class GeneratedEmbed(Tokenizer):
    """A linear projection whose kernel for each band is computed from the band's wavelength.

    DOFA (Xiong et al., arXiv 2403.15356, section on the dynamic weight generator): sines and
    cosines of the wavelength in nanometres pass a residual layer and one transformer layer, in
    which bands see each other and learned tokens; a linear head turns each into p*p*D weights, and
    a bias token into D. Nothing knows the place of a band in the list, so bands may come in any
    order and number. The kernels are made once a forward pass and only kept tokens meet them.

    `weight_generator.*` and `fclayer.*` are DOFA's keys; with `shift=1` they compute what DOFA does
    (released weights since the order of the kernels was corrected, torchgeo 0.8).

    Args:
        member: every band with a wavelength.
        width: D.
        codes: length of a band's code; even, a multiple of 4.
        learned: number of learned tokens beside the bands.
        scale: factor of kernels and bias.
        bandwidth: add a code of the bands' full width at half maximum.
        shift: pixels by which tokens are read further up and left, zeros outside: DOFA's
            convolution has a padding of 1.
        mixed: lay the generated numbers `[C, p p D]` out as if they were `[D, C, p, p]`, as DOFA's
            first release does (torchgeo's pull request 2256 mended it). A kernel's numbers then
            come from several bands and depend on the order of the list, to which it is tied.
    """

    flexible = True

    def __init__(
        self,
        member: Member,
        width: int,
        codes: int = 128,
        learned: int = 128,
        scale: float = 0.01,
        bandwidth: bool = False,
        shift: int = 0,
        mixed: bool = False,
    ) -> None:
        super().__init__()
        if codes % HEADS or codes <= 0 or learned < 0:
            raise UsageError(
                f"{member.modality}: tokenizer generator needs codes, a multiple of {HEADS}, and "
                f"learned >= 0; got {codes} and {learned}"
            )
        if not 0 <= shift < member.patch:
            raise UsageError(
                f"{member.modality}: shift {shift} must lie in the {member.patch} px of a token"
            )
        self.patch, self.codes, self.scale, self.shift = member.patch, codes, scale, shift
        self.mixed, self.flexible = mixed, not mixed
        self.fclayer = _Residual(codes)
        self.bandwidth = nn.Linear(codes, codes) if bandwidth else None
        self.weight_generator = _Generator(codes, learned, member.patch**2 * width, width)
        self.band_codes(member.bands)

    def band_codes(self, bands: Sequence[Band]) -> Tensor:
        """Encode what the bands measure: `[C, codes]` float32.

        Raises:
            UsageError: a band without a wavelength, or without a width where it is used.
        """
        device = self.fclayer.w1.weight.device
        made: Tensor = self.fclayer(sincos_1d(self.codes, centres_of(bands, device)).float())
        if self.bandwidth is None:
            return made
        if missing := [band.name for band in bands if band.fwhm_nm is None]:
            raise UsageError(
                f"band {missing[0]!r} has no width (fwhm_nm); give it or use bandwidth=false"
            )
        widths = torch.tensor([b.fwhm_nm for b in bands], dtype=torch.float64, device=device)
        return made + self.bandwidth(sincos_1d(self.codes, widths).float())

    def kernels(self, bands: Sequence[Band]) -> tuple[Tensor, Tensor]:
        """Generate the projection of a band list.

        Args:
            bands: C of them.

        Returns:
            weights `[C * p * p, D]`, rows in the order of a patch `[C, p, p]`, and bias `[D]`,
            float32.
        """
        with full_precision(self.fclayer.w1.weight.device):
            weight, bias = self.weight_generator(self.band_codes(bands))
            if self.mixed:
                weight = weight.reshape(-1, len(bands) * self.patch**2).T
            else:
                weight = weight.unflatten(1, (self.patch**2, -1)).flatten(0, 1)
        return weight * self.scale, bias * self.scale

    def forward(self, patches: Tensor, bands: Sequence[Band]) -> Tensor:
        """Project `[B, K, C, p, p]` to `[B, K, D]` with the kernels of `bands`."""
        weight, bias = self.kernels(bands)
        return functional.linear(patches.flatten(2), weight.T, bias)

    def select(self, channels: list[int], member: Member) -> "GeneratedEmbed":
        """Return the same embedding; `member` has the chosen bands.

        Raises:
            UsageError: its kernels are mixed over the bands.
        """
        if self.mixed:
            return cast(GeneratedEmbed, super().select(channels, member))
        self.band_codes(member.bands)
        return deepcopy(self)

    @torch.no_grad()
    def add_constant(self, vector: Tensor) -> None:
        """Add `[D]` to every token, by way of the generated bias; see `Tokenizer`."""
        self.weight_generator.fc_bias.bias.add_(vector / self.scale)

    @torch.no_grad()
    def resized(self, old: int, new: int, how: How) -> "GeneratedEmbed":
        """Return the embedding of tokens with another number of pixels.

        Raises:
            UsageError: tokens are read from beside their place, by pixels of the old size, or the
                kernels are mixed over the bands.
        """
        if self.mixed:
            return cast(GeneratedEmbed, super().resized(old, new, how))
        if self.shift:
            raise UsageError(
                f"the tokenizer reads its tokens {self.shift} px beside their place, as DOFA's "
                f"convolution does; such tokens keep their {old} px"
            )
        other = deepcopy(self)
        other.patch = new
        made = other.weight_generator.fc_weight
        layer = nn.Linear(made.in_features, made.out_features // old**2 * new**2).to(made.weight)

        def fitted(value: Tensor) -> Tensor:  # rows are pixels, then widths: [p * p * D, n]
            kernel = value.unflatten(0, (old, old, -1)).permute(2, 3, 0, 1)
            return resized_kernel(kernel, new, how).permute(2, 3, 0, 1).flatten(0, 2)

        layer.weight.copy_(fitted(made.weight))
        layer.bias.copy_(fitted(made.bias[:, None])[:, 0])
        other.weight_generator.fc_weight = layer
        return other


HEADS = 4


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w2(self.w1(x).relu()).relu()


class _Generator(nn.Module):
    """Codes `[C, E]` to kernels `[C, kernel]` and bias `[width]`."""

    def __init__(self, codes: int, learned: int, kernel: int, width: int) -> None:
        super().__init__()
        self.weight_tokens = nn.Parameter(torch.randn(learned, codes) * 0.02)
        self.bias_token = nn.Parameter(torch.randn(1, codes) * 0.02)
        layer = nn.TransformerEncoderLayer(
            codes, HEADS, dropout=0.0, activation="gelu", batch_first=True
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight, self.fc_bias = nn.Linear(codes, kernel), nn.Linear(codes, width)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        sequence = torch.cat([self.weight_tokens, codes, self.bias_token])
        seen = self.transformer_encoder(sequence[None])[0]
        bands = seen[len(self.weight_tokens) : -1]
        return self.fc_weight(bands + codes), self.fc_bias(seen[-1])
