"""What a model takes from unlabelled pixels before the first step: its spectral bases."""

import numpy as np

from fm.console import note
from fm.errors import FMError
from fm.models import Backbone
from fm.models.embed import Moments, SpectralBasis
from fm.models.layout import Member
from pretrain.data import RunData
from pretrain.pixels import ENOUGH, look


def fit_bases(backbone: Backbone, data: RunData) -> None:
    """Fit the spectral bases that are not fitted yet to the run's own samples.

    Only samples of the run's filter and split are read; pixels without data in a band are left
    out. Every rank reads the same and finds the same.

    Raises:
        FMError: no valid pixel, or fewer than the basis needs.
    """
    for member, basis in backbone.bases():
        if not basis.fitted:
            moments = _moments(member, basis, data)
            basis.fit(moments)
            note(f"{member.modality}: spectral basis fitted to {moments.count} pixels")


def _moments(member: Member, basis: SpectralBasis, data: RunData) -> Moments:
    count = len(member.bands)
    mean, second, seen = np.zeros(count), np.zeros((count, count)), 0
    datasets = [ds for ds in data.parts.values() if member.modality in ds.modalities]
    names = [band.name for band in member.bands]
    for dataset in datasets:
        share = ENOUGH // len(datasets)
        for physical, known in look(dataset, member.modality, names, enough=share):
            z = np.moveaxis(basis.normalisation(physical, band_axis=-3), -3, -1)
            pixels = z[known.all(axis=-3)].astype(np.float64)
            mean += pixels.sum(axis=0)
            second += pixels.T @ pixels
            seen += len(pixels)
    if not seen:
        raise FMError(
            f"{member.modality}: no pixel with data in all bands to fit the spectral basis"
        )
    return Moments(mean / seen, second / seen, seen)
