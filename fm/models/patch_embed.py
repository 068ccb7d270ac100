"""Pixels to tokens: only the tokens that are kept are read, scaled, normalised and projected."""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from fm.errors import UsageError, suggest
from fm.models.layout import Group, Member
from fm.normalize import Normalisation


def gather_patches(x: Tensor, patch: int, index: Tensor | None) -> Tensor:
    """Cut tokens out of images without touching the pixels of the others.

    Args:
        x: `[B, C, H, W]` of any dtype; H and W are multiples of `patch`.
        patch: side of a token in pixels.
        index: `[B, K]` int64 token numbers, row-major; None for all of them in order.

    Returns:
        `[B, K, C, patch, patch]` of the same dtype.
    """
    cut = rearrange(x, "b c (r p) (q w) -> b r q c p w", p=patch, w=patch)
    if index is None:
        return cut.flatten(1, 2)
    rows = torch.arange(len(x), device=x.device)[:, None]
    columns = cut.shape[2]
    return cut[rows, index // columns, index % columns]


def to_physical(x: Tensor, scale: float, offset: float) -> Tensor:
    """Turn stored numbers into physical ones, float32.

    Integer tensors are stored numbers (`stored * scale + offset`); floating tensors are physical
    already.
    """
    if x.is_floating_point():
        return x.float()
    return x.to(torch.float32) * scale + offset


def _fill_invalid(patches: Tensor, mask: Tensor) -> Tensor:
    """Replace invalid pixels by the mean of the token's valid ones (0 where there are none).

    Args:
        patches: `[B, K, C, p, p]`.
        mask: `[B, K, 1, p, p]` bool.
    """
    kept = torch.where(mask, patches, 0.0)
    count = mask.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    return torch.where(mask, patches, kept.sum(dim=(-2, -1), keepdim=True) / count)


class LinearEmbed(nn.Module):
    """One learned projection of all the pixel values of a token."""

    def __init__(self, member: Member, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(member.values, width)

    def forward(self, patches: Tensor) -> Tensor:
        """Project normalised patches `[B, K, C, p, p]` to `[B, K, D]`."""
        return self.proj(patches.flatten(2))

    def select(self, channels: list[int], member: Member) -> "LinearEmbed":
        """Return the embedding of some of the channels, with their weights."""
        other = LinearEmbed(member, self.proj.out_features)
        weight = rearrange(self.proj.weight, "d (c p) -> d c p", p=member.patch**2)
        with torch.no_grad():
            other.proj.weight.copy_(weight[:, channels].flatten(1))
            other.proj.bias.copy_(self.proj.bias)
        return other


class SpectralAdapter(nn.Module):
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

    def forward(self, patches: Tensor) -> Tensor:
        """Embed normalised patches `[B, K, C, p, p]` as `[B, K, D]`."""
        batch, kept = patches.shape[:2]
        spectra = rearrange(patches, "b k c p w -> (b k p w) 1 c")
        maps = self.spectral(spectra).mean(dim=-1)
        return self.proj(rearrange(maps, "(b k s) f -> b k (f s)", b=batch, k=kept))

    def select(self, channels: list[int], member: Member) -> "SpectralAdapter":
        """Refuse: the filters are tied to the band index."""
        raise UsageError(
            f"{member.modality}: a spectral adapter is tied to its own band list; it cannot take "
            f"{len(channels)} chosen bands"
        )


class _Affine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None] + self.bias[:, None]


TOKENIZERS: dict[str, type[LinearEmbed] | type[SpectralAdapter]] = {
    "linear": LinearEmbed,
    "spectral_adapter": SpectralAdapter,
}


class PatchEmbed(nn.Module):
    """The tokens of one group: a function of pixels and of which tokens to keep.

    Each modality of the group is embedded from its own grid and the results are added, which is
    one projection of all the pixel values in the token's square of ground. An absent modality
    adds nothing.
    """

    def __init__(
        self,
        group: Group,
        width: int,
        tokenizer: str,
        normalisation: Mapping[str, Normalisation],
        scaling: Mapping[str, tuple[float, float]],
    ) -> None:
        super().__init__()
        if tokenizer not in TOKENIZERS:
            raise UsageError(
                f"there is no tokenizer {tokenizer!r} (for {group.name}); "
                f"{suggest(tokenizer, TOKENIZERS)}"
            )
        self.group, self.tokenizer = group, tokenizer
        self.normalisation = {m.modality: normalisation[m.modality] for m in group.members}
        self.scaling = {m.modality: scaling[m.modality] for m in group.members}
        build = TOKENIZERS[tokenizer]
        self.embed = nn.ModuleDict({m.modality: build(m, width) for m in group.members})

    def patches(
        self,
        pixels: Mapping[str, Tensor],
        index: Tensor | None,
        scaling: Mapping[str, tuple[float, float]] | None = None,
    ) -> dict[str, Tensor]:
        """Cut, scale and normalise tokens.

        Args:
            pixels: modality to `[B, C, H, W]`.
            index: `[B, K]` token numbers, None for all.
            scaling: scale and offset of integer pixels where they differ from the model's own.

        Returns:
            modality to `[B, K, C, p, p]` float32.
        """
        result = {}
        for member in self.group.members:
            name = member.modality
            if name not in pixels:
                continue
            scale, offset = (scaling or {}).get(name, self.scaling[name])
            with torch.autocast(pixels[name].device.type, enabled=False):
                cut = gather_patches(pixels[name], member.patch, index)
                physical = to_physical(cut, scale, offset)
                result[name] = self.normalisation[name](physical, band_axis=2)
        return result

    def valid_patches(
        self, valid: Mapping[str, Tensor], pixels: Mapping[str, Tensor], index: Tensor | None
    ) -> dict[str, Tensor]:
        """Cut validity masks `[B, H, W]` like the pixels: modality to `[B, K, 1, p, p]` bool."""
        result = {}
        for member in self.group.members:
            name = member.modality
            if name in pixels and name in valid:
                expected = (len(pixels[name]), *pixels[name].shape[-2:])
                if tuple(valid[name].shape) != expected:
                    raise UsageError(
                        f"valid[{name!r}]: expected {list(expected)}, got {list(valid[name].shape)}"
                    )
                result[name] = gather_patches(valid[name][:, None].bool(), member.patch, index)
        return result

    def forward(
        self,
        pixels: Mapping[str, Tensor],
        index: Tensor | None = None,
        valid: Mapping[str, Tensor] | None = None,
        scaling: Mapping[str, tuple[float, float]] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embed tokens.

        Args:
            pixels: modality to `[B, C, H, W]`; at least one of the group.
            index: `[B, K]` tokens to keep, None for all.
            valid: modality to `[B, H, W]`, False where a pixel must not be used: it takes the mean
                of the token's valid pixels.
            scaling: see `patches`.

        Returns:
            tokens `[B, K, D]`, and `[B, K]` bool, False for a token without any valid pixel (None
            when no mask was given).
        """
        masks = self.valid_patches(valid, pixels, index) if valid else {}
        total: Tensor | None = None
        any_valid: Tensor | None = None
        for name, patches in self.patches(pixels, index, scaling).items():
            if name in masks:
                patches = _fill_invalid(patches, masks[name])
                here = masks[name].flatten(2).any(dim=2)
                any_valid = here if any_valid is None else any_valid | here
            elif masks:
                here = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
                any_valid = here if any_valid is None else any_valid | here
            embedded = self.embed[name](patches)
            total = embedded if total is None else total + embedded
        assert total is not None, "the caller asks only for groups that are present"
        return total, any_valid
