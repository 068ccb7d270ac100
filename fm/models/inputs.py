"""What a backbone is given, checked and in order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from fm.errors import UsageError
from fm.normalize import Normalisation
from fm.sensors import Band, wavelengths

Scaling = Mapping[str, tuple[float, float]]
"""Modality to (scale, offset): physical = stored * scale + offset."""


@dataclass(frozen=True)
class Inputs:
    """One batch as a backbone takes it; made by `Backbone.inputs`.

    Attributes:
        pixels: modality to `[B, C, H, W]`; of series `[B, C, T * H, W]`, the images one below the
            other (`fm.models.series`).
        bands: of each present modality, the bands of its channels.
        scaling: of each present modality, for integer pixels.
        normalisation: of each present modality, for its channels.
        calibrated: modalities whose normalisation was measured on the very bands that are given,
            not interpolated from the model's.
        valid: modality to `[B, H, W]` or `[B, C, H, W]` bool, of series strips too, False where a
            value must not be used; None when all are valid.
        gsd: modality to the sampling distance of its pixels in metres, where it is not the
            bands' own.
        lonlat: `[B, 2]` degrees, NaN where unknown; None when unknown for all.
        time: `[B]` seconds since 1970 UTC, NaN where unknown; None when unknown for all.
        images: T, number of images in a sample.
        times: `[B, T]` seconds since 1970 UTC of the images of a series, NaN where unknown; None
            for single images.
        views: modality to `[B]` int64, the simulated sensor that sees each sample (negative for
            none), for modalities under a spectral basis; augmentation in pretraining.
        view_count: size of the bank of simulated sensors.
    """

    pixels: dict[str, Tensor]
    bands: dict[str, tuple[Band, ...]]
    scaling: dict[str, tuple[float, float]]
    normalisation: dict[str, Normalisation]
    calibrated: frozenset[str] = frozenset()
    valid: Mapping[str, Tensor] | None = None
    gsd: Mapping[str, float] | None = None
    lonlat: Tensor | None = None
    time: Tensor | None = None
    images: int = 1
    times: Tensor | None = None
    views: Mapping[str, Tensor] | None = None
    view_count: int = 0

    @property
    def size(self) -> int:
        """Number of samples."""
        return next(iter(self.pixels.values())).shape[0]  # `len` would fix it in an export

    def select(self, channels: Mapping[str, Sequence[int]]) -> "Inputs":
        """Keep some channels of some modalities, the same in every sample.

        Args:
            channels: modality to channel numbers, in the new order.
        """
        pixels, bands = dict(self.pixels), dict(self.bands)
        normalisation = dict(self.normalisation)
        valid = dict(self.valid) if self.valid is not None else None
        for modality, kept in channels.items():
            chosen = list(kept)
            pixels[modality] = pixels[modality][:, chosen]
            bands[modality] = tuple(bands[modality][i] for i in chosen)
            normalisation[modality] = normalisation[modality].select(chosen)
            if valid is not None and modality in valid and valid[modality].ndim == 4:
                valid[modality] = valid[modality][:, chosen]
        return replace(self, pixels=pixels, bands=bands, normalisation=normalisation, valid=valid)


def check_scaling(scaling: Scaling, where: str) -> None:
    """Refuse a scale that is none: 0 makes all pixels alike.

    Args:
        scaling: modality to (scale, offset).
        where: for errors.

    Raises:
        UsageError: not two finite numbers, or a scale of 0.
    """
    for modality, pair in scaling.items():
        if len(pair) != 2 or not all(math.isfinite(x) for x in pair) or not pair[0]:
            raise UsageError(
                f"{where}{modality}: scaling {pair} is no scale and offset of stored integers"
            )


REACH_NM = 50.0
"""How far outside the known wavelengths a normalisation may be continued, as its end value."""


def normalisation_at(
    own: Normalisation, own_bands: Sequence[Band], bands: Sequence[Band], modality: str
) -> tuple[Normalisation, bool]:
    """Give bands that a model was not trained on the normalisation of their wavelength.

    A band of the same name, centre and width keeps its own numbers; the others are interpolated
    linearly in wavelength between the model's bands.

    Args:
        own: of the model's bands.
        own_bands: the model's bands.
        bands: the wanted ones.
        modality: for errors.

    Returns:
        the normalisation, and whether all its numbers are the model's own.

    Raises:
        UsageError: a band without a wavelength, or farther than `REACH_NM` outside.
    """
    place = {(b.name, b.wavelength_nm, b.fwhm_nm): i for i, b in enumerate(own_bands)}
    found = [place.get((b.name, b.wavelength_nm, b.fwhm_nm)) for b in bands]
    if all(i is not None for i in found):
        return own.select([i for i in found if i is not None]), True
    at = wavelengths(own_bands)
    order = sorted(range(len(at)), key=at.__getitem__)
    shift, scale = [], []
    for band, wanted, known in zip(bands, wavelengths(bands), found, strict=True):
        if known is not None:
            shift.append(own.shift[known])
            scale.append(own.scale[known])
            continue
        if not at[order[0]] - REACH_NM <= wanted <= at[order[-1]] + REACH_NM:
            raise UsageError(
                f"{modality}: band {band.name} at {wanted:g} nm lies outside the model's "
                f"{at[order[0]]:g} to {at[order[-1]]:g} nm; give encode(normalisation=...)"
            )
        below = max((i for i in order if at[i] <= wanted), key=at.__getitem__, default=order[0])
        above = min((i for i in order if at[i] >= wanted), key=at.__getitem__, default=order[-1])
        gap = at[above] - at[below]
        part = (wanted - at[below]) / gap if gap > 0 else 0.0
        shift.append((1 - part) * own.shift[below] + part * own.shift[above])
        scale.append((1 - part) * own.scale[below] + part * own.scale[above])
    return Normalisation(own.kind, tuple(shift), tuple(scale)), False
