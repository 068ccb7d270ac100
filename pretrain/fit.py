"""What a model takes from unlabelled pixels before the first step: its spectral bases."""

import numpy as np

from fm.console import note
from fm.errors import FMError
from fm.models import Backbone
from fm.models.embed import Moments, SpectralBasis
from fm.models.layout import Member
from pretrain.data import RunData
from pretrain.pixels import look


def fit_bases(backbone: Backbone, data: RunData) -> None:
    """Fit the spectral bases that are not fitted yet to the run's own samples.

    Only samples of the run's filter and split are read; pixels without data in a band are left
    out. The parts of a mixture count by their share of the steps. Every rank reads the same and
    finds the same.

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
    mean, second, seen = np.zeros(count), np.zeros((count, count)), 0.0
    taken = 0
    names = [band.name for band in member.bands]
    for dataset, share in data.reading(member.modality):
        own_mean, own_second, own = np.zeros(count), np.zeros((count, count)), 0
        bad = data.config.max_bad
        for physical, known in look(dataset, member.modality, names, max_bad=bad):
            z = basis.normalisation(physical, band_axis=0)
            pixels = z[:, known.all(axis=0)].T.astype(np.float64)
            own_mean += pixels.sum(axis=0)
            own_second += pixels.T @ pixels
            own += len(pixels)
        if own:
            mean, second = mean + share * own_mean / own, second + share * own_second / own
            seen, taken = seen + share, taken + own
    if not seen:
        raise FMError(
            f"{member.modality}: no pixel with data in all bands to fit the spectral basis"
        )
    return Moments(mean / seen, second / seen, taken)
