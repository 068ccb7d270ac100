"""What a model takes from unlabelled pixels before the first step: its spectral bases."""

import numpy as np

import shards
from fm.console import note
from fm.errors import FMError
from fm.models import Backbone
from fm.models.embed import Moments, SpectralBasis
from fm.models.layout import Member
from pretrain.data import RunData

ENOUGH = 400_000
"""Pixels after which no more are read; moments of 200 bands are then good to a third of a per cent
of a standard deviation."""


def fit_bases(backbone: Backbone, data: RunData) -> None:
    """Fit the spectral bases that are not fitted yet to the run's own samples.

    Only the samples of the run's filter and split are read, evenly spread over them; pixels without
    data in a band are left out. Every rank reads the same and finds the same.

    Raises:
        FMError: no valid pixel, or fewer than the basis needs.
    """
    for member, basis in backbone.bases():
        if basis.fitted:
            continue
        found = [ds for ds in data.parts.values() if member.modality in ds.modalities]
        moments = _moments(member, basis, found)
        basis.fit(moments)
        note(f"{member.modality}: spectral basis fitted to {moments.count} pixels")


def _moments(member: Member, basis: SpectralBasis, datasets: list[shards.Dataset]) -> Moments:
    count = len(member.bands)
    mean, second, seen = np.zeros(count), np.zeros((count, count)), 0
    for dataset in datasets:
        info = dataset.modalities[member.modality]
        places = [info.bands.index(band.name) for band in member.bands]
        own = 0
        for i in _spread(len(dataset)):
            pixels = dataset.read(i, [member.modality])[member.modality]
            z = _normalised(pixels[..., places, :, :], places, info, basis)
            mean += z.sum(axis=0)
            second += z.T @ z
            own += len(z)
            if own >= ENOUGH // len(datasets):
                break
        seen += own
    if not seen:
        raise FMError(
            f"{member.modality}: no pixel with data in all bands to fit the spectral basis"
        )
    return Moments(mean / seen, second / seen, seen)


def _spread(count: int) -> list[int]:
    """Return 0 to count - 1 so that any first part is spread over the whole (van der Corput)."""
    bits = max(count - 1, 1).bit_length()
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in reversed_bits if i < count]


def _normalised(
    pixels: np.ndarray, places: list[int], info: shards.ModalityInfo, basis: SpectralBasis
) -> np.ndarray:
    """Return the valid pixels of one sample as `[N, C]` float64."""
    if pixels.dtype.kind == "f":
        known = np.isfinite(pixels)
        physical = pixels.astype(np.float32)
    else:
        codes = info.nodata or (None,) * len(info.bands)
        known = np.ones(pixels.shape, bool)
        for band, place in enumerate(places):
            if codes[place] is not None:
                known[..., band, :, :] = pixels[..., band, :, :] != codes[place]
        physical = pixels.astype(np.float32) * np.float32(info.scale) + np.float32(info.offset)
    z = basis.normalisation(np.where(known, physical, 0.0), band_axis=-3)
    whole = known.all(axis=-3)
    return np.moveaxis(z, -3, -1)[whole].astype(np.float64)
