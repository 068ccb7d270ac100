"""Pixels to tokens: only the tokens that are kept are read, scaled, normalised and projected."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from fm.errors import UsageError, suggest
from fm.hardware import full_precision
from fm.models.embed.adapter import SpectralAdapter
from fm.models.embed.basis import SpectralBasis
from fm.models.embed.channel_attention import ChannelAttention
from fm.models.embed.generator import GeneratedEmbed
from fm.models.embed.linear import LinearEmbed
from fm.models.embed.patches import fill_invalid, gather_patches, to_physical
from fm.models.embed.spectral_views import bank_of
from fm.models.embed.tied import TiedEmbed
from fm.models.embed.tokenizer import Tokenizer
from fm.models.inputs import Inputs
from fm.models.layout import Group, Member
from fm.normalize import Normalisation
from fm.sensors import Band

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "linear": LinearEmbed,
    "spectral_adapter": SpectralAdapter,
    "channel_attention": ChannelAttention,
    "generator": GeneratedEmbed,
    "tied": TiedEmbed,
}


def channels_of(member: Member, inputs: Inputs) -> list[int] | None:
    """Return which channels of the given array the member takes; None for all of them.

    A member that takes some of its modality's bands finds them by name; the list is empty when
    none of them is given.
    """
    if member.channels is None:
        return None
    names = [band.name for band in inputs.bands[member.modality]]
    return [names.index(band.name) for band in member.bands if band.name in names]


class PatchEmbed(nn.Module):
    """The tokens of one group: a function of pixels, bands and of which tokens to keep.

    Each modality of the group is embedded from its own grid and the results are added, which is
    one projection of all the pixel values in the token's square of ground. An absent modality
    adds nothing.

    Args:
        group: its members.
        width: D.
        tokenizer: a name of `TOKENIZERS`.
        options: arguments of that tokenizer.
        basis: arguments of `SpectralBasis`, which then stands before the tokenizer of each member;
            None leaves it out.
        normalisation: modality to the normalisation of its bands, for the basis.
    """

    def __init__(
        self,
        group: Group,
        width: int,
        tokenizer: str,
        options: Mapping[str, Any] | None = None,
        *,
        basis: Mapping[str, Any] | None = None,
        normalisation: Mapping[str, Normalisation] | None = None,
    ) -> None:
        super().__init__()
        if tokenizer not in TOKENIZERS:
            raise UsageError(
                f"there is no tokenizer {tokenizer!r} (for {group.name}); "
                f"{suggest(tokenizer, TOKENIZERS)}"
            )
        build = TOKENIZERS[tokenizer]
        known = list(inspect.signature(build).parameters)[2:]
        if wrong := sorted(set(options or {}) - set(known)):
            raise UsageError(
                f"tokenizer {tokenizer} has no option {wrong[0]!r}; "
                f"{suggest(wrong[0], known) if known else 'it has none'}"
            )
        self.group, self.tokenizer = group, tokenizer
        self.basis = nn.ModuleDict()
        if basis is not None:
            given = normalisation or {}
            for member in group.members:
                own = given[member.modality]
                if member.channels is not None:
                    own = own.select(member.channels)
                self.basis[member.modality] = _basis(member, own, basis)
        self._seen = {m.modality: self._under_basis(m) for m in group.members}
        self.embed = nn.ModuleDict(
            {m.modality: build(self.seen(m), width, **(options or {})) for m in group.members}
        )

    def basis_of(self, modality: str) -> SpectralBasis | None:
        """Return the spectral basis in front of a modality's tokenizer, if it has one."""
        return cast(SpectralBasis, self.basis[modality]) if modality in self.basis else None

    def seen(self, member: Member) -> Member:
        """Return a member as its tokenizer sees it: with components for bands under a basis."""
        return self._seen[member.modality]

    def _under_basis(self, member: Member) -> Member:
        basis = self.basis_of(member.modality)
        if basis is None:
            return member
        gsd = member.bands[0].gsd_m
        parts = tuple(
            Band(f"component-{i + 1}", None, None, gsd, "") for i in range(basis.components)
        )
        return replace(member, bands=parts)

    def member_tokenizer(self, modality: str) -> Tokenizer:
        """Return what embeds one modality of the group."""
        return cast(Tokenizer, self.embed[modality])

    def patches(
        self, inputs: Inputs, index: Tensor | None, *, as_read: bool = False
    ) -> dict[str, Tensor]:
        """Cut, scale and normalise tokens.

        Args:
            inputs: the batch.
            index: `[B, K]` token numbers, None for all.
            as_read: where the tokenizer reads them (`Tokenizer.shift`), not where they lie.

        Returns:
            modality to `[B, K, C, p, p]` float32; under a basis C counts its components, and
            invalid values were filled before they were mixed.
        """
        result = {}
        for member in self.group.members:
            name = member.modality
            if name not in inputs.pixels:
                continue
            x, normalisation = inputs.pixels[name], inputs.normalisation[name]
            channels = channels_of(member, inputs)
            if channels is not None:
                x, normalisation = x[:, channels], normalisation.select(channels)
            with full_precision(x.device):
                shift = self.member_tokenizer(name).shift if as_read else 0
                cut = gather_patches(x, member.patch, index, shift)
                physical = to_physical(cut, *inputs.scaling[name])
                values = normalisation(physical, band_axis=2)
                basis = self.basis_of(name)
                if basis is not None:
                    if normalisation.kind != basis.normalisation.kind:
                        raise UsageError(
                            f"{name}: normalisation is {normalisation.kind}, the model's spectral "
                            f"basis was made for {basis.normalisation.kind}; give that kind"
                        )
                    mask = self._cut_valid(member, inputs, index, shift)
                    if mask is not None:
                        values = fill_invalid(values, mask)
                    bands = self._bands(member, inputs)
                    lost = _lost(member, inputs, bands)
                    view = (inputs.views or {}).get(name)
                    calibrated = name in inputs.calibrated
                    bank = bank_of(basis, inputs.view_count) if view is not None else None
                    values = basis(values, bands, calibrated, view, bank, lost)
                result[name] = values
        return result

    def _bands(self, member: Member, inputs: Inputs) -> tuple[Band, ...]:
        return inputs.bands[member.modality] if member.channels is None else member.bands

    def valid_patches(
        self, inputs: Inputs, index: Tensor | None, *, as_read: bool = False
    ) -> dict[str, Tensor]:
        """Cut validity masks like the pixels; arguments as `patches`.

        Returns:
            modality to `[B, K, 1 or C, p, p]` bool; under a basis, which mixes bands, a pixel is
            valid as a target where all its bands are, and to be read where at least half are.
        """
        result = {}
        for member in self.group.members:
            shift = self.member_tokenizer(member.modality).shift if as_read else 0
            mask = self._cut_valid(member, inputs, index, shift)
            if mask is not None:
                if self.basis_of(member.modality) is not None:
                    bands = mask.shape[2]
                    least = (bands + 1) // 2 if as_read else bands
                    mask = mask.sum(dim=2, keepdim=True) >= least
                result[member.modality] = mask
        return result

    def _cut_valid(
        self, member: Member, inputs: Inputs, index: Tensor | None, shift: int
    ) -> Tensor | None:
        name = member.modality
        if name not in inputs.pixels or inputs.valid is None or name not in inputs.valid:
            return None
        mask = inputs.valid[name]
        channels = channels_of(member, inputs)
        if mask.ndim == 3:
            mask = mask[:, None]
        elif channels is not None:
            mask = mask[:, channels]
        return gather_patches(mask, member.patch, index, shift)

    def forward(self, inputs: Inputs, index: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Embed tokens.

        Args:
            inputs: the batch, with at least one modality of the group. An invalid value takes the
                mean of its band's valid pixels in the token; under a basis, a band that a sample
            lacks altogether is estimated from the others.
            index: `[B, K]` tokens to keep, None for all.

        Returns:
            tokens `[B, K, D]`, and `[B, K]` bool, False for a token without any valid pixel (None
            when no mask was given).
        """
        masks = self.valid_patches(inputs, index, as_read=True)
        total: Tensor | None = None
        any_valid: Tensor | None = None
        members = {member.modality: member for member in self.group.members}
        for name, patches in self.patches(inputs, index, as_read=True).items():
            member = members[name]
            if name in masks:
                patches = fill_invalid(patches, masks[name])
                here = masks[name].flatten(2).any(dim=2)
                any_valid = here if any_valid is None else any_valid | here
            elif masks:
                here = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
                any_valid = here if any_valid is None else any_valid | here
            if shift := self.member_tokenizer(name).shift:
                image = inputs.pixels[name]
                inside = image.new_ones((image.shape[0], 1, *image.shape[-2:]), dtype=torch.bool)
                inside = gather_patches(inside, member.patch, index, shift)
                patches = torch.where(inside, patches, 0.0)
            seen = self.seen(member)
            bands = self._bands(member, inputs) if seen is member else seen.bands
            embedded = self.embed[name](patches, bands)
            total = embedded if total is None else total + embedded
        assert total is not None, "the caller asks only for groups that are present"
        return total, any_valid


def _lost(member: Member, inputs: Inputs, bands: tuple[Band, ...]) -> Tensor | None:
    """Say which bands each sample has no valid pixel of: `[B, C]` bool, None when it has all.

    Bands without a wavelength or a width cannot be estimated from others; they stay filled.
    """
    mask = (inputs.valid or {}).get(member.modality)
    if mask is None or mask.ndim == 3:
        return None
    if any(band.wavelength_nm is None or band.fwhm_nm is None for band in bands):
        return None
    channels = channels_of(member, inputs)
    seen = (mask if channels is None else mask[:, channels]).flatten(2).any(dim=2)
    return None if bool(seen.all()) else ~seen


def _basis(
    member: Member, normalisation: Normalisation, options: Mapping[str, Any]
) -> SpectralBasis:
    known = list(inspect.signature(SpectralBasis).parameters)[2:]
    if wrong := sorted(set(options) - set(known)):
        raise UsageError(f"basis has no option {wrong[0]!r}; {suggest(wrong[0], known)}")
    return SpectralBasis(member.bands, normalisation, **options)
