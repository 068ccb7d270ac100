"""Simulated sensors: how a spectrum would look to a model through other band sets.

As augmentation each sample of a batch is seen through one of a bank of band sets, and the model
has to predict the components of the whole spectrum. A view is a matrix on the model's normalised
bands, so it costs one small product a pixel: it resamples (a Gaussian response of random centre
and width, or a subset of the bands) and goes on the way that other bands go at evaluation,
`SpectralBasis.estimate`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.models.embed.basis import SpectralBasis
from fm.sensors import Band, wavelengths
from fm.spectral import response, supported, widths

NARROW, WIDE = (1.0, 2.0), (1.0, 12.0)
"""Simulated widths over the model's own: of sensors with many bands, and with few."""
FEWEST = 3
VNIR_NM = 1000.0
"""A quarter of the simulated sensors see no farther."""


@dataclass(frozen=True)
class Views:
    """A bank of band sets, as what they leave of the model's normalised bands.

    Attributes:
        matrix: `[n, C, C]` float32.
        offset: `[n, C]` float32.
    """

    matrix: np.ndarray
    offset: np.ndarray


def make_views(basis: SpectralBasis, count: int, seed: int = 0) -> Views:
    """Draw band sets.

    A third are subsets of the model's bands, some of them treated as if they had never been seen;
    a third are sensors of 40 to 199 narrow bands; a third of 8 to 39 bands of any width.

    Args:
        basis: fitted.
        count: of views.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    matrices: list[np.ndarray] = []
    offsets: list[np.ndarray] = []
    while len(matrices) < count:
        made = (
            _subset(basis, generator) if generator.integers(3) == 0 else _sensor(basis, generator)
        )
        if made is not None:
            matrices.append(made[0])
            offsets.append(made[1])
    return Views(np.stack(matrices).astype(np.float32), np.stack(offsets).astype(np.float32))


def bank_of(basis: SpectralBasis, count: int) -> tuple[Tensor, Tensor]:
    """Return views as matrices on components, made once for each content of a basis.

    Returns:
        `[n, K, C]` and offsets `[n, K]`, float32, on the device of the basis.
    """
    if basis.matrix.is_meta:
        made_of = basis.matrix.new_empty
        return made_of(count, *basis.matrix.shape), made_of(count, len(basis.matrix))
    key = (count, *basis.content)
    if basis.bank is None or basis.bank[0] != key:
        made = make_views(basis, count)
        whitening = basis.matrix.double().cpu().numpy()
        matrices = (whitening @ made.matrix).astype(np.float32)
        offsets = (made.offset @ whitening.T).astype(np.float32)
        device = basis.matrix.device
        basis.bank = (
            key,
            torch.from_numpy(matrices).to(device),
            torch.from_numpy(offsets).to(device),
        )
    return basis.bank[1:]


def _subset(
    basis: SpectralBasis, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    total = len(basis.bands)
    size = int(generator.integers(min(8, total), total + 1))
    chosen = np.sort(generator.choice(total, size, replace=False))
    novel = generator.random(size) < generator.choice([0.0, 0.5, 1.0])
    rows = np.eye(total)[chosen]
    noise = np.zeros(size)
    rows[novel] = basis.left_out()[chosen[novel]]
    noise[novel] = basis.errors(True)[chosen[novel]]
    bands = tuple(basis.bands[i] for i in chosen)
    return _through(basis, np.eye(total)[chosen], bands, rows, noise)


def _sensor(
    basis: SpectralBasis, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    own = np.array(wavelengths(basis.bands))
    usual = float(np.median(widths(basis.bands)))
    few = bool(generator.integers(2))
    low, high = WIDE if few else NARROW
    width = float(usual * np.exp(generator.uniform(np.log(low), np.log(high))))
    number = int(generator.integers(8, 40)) if few else int(generator.integers(40, 200))
    end = VNIR_NM if generator.random() < 0.25 and own.min() < VNIR_NM < own.max() else own.max()
    centres = np.sort(generator.uniform(own.min(), end, number))
    bands = tuple(Band(str(i), float(c), width, 0.0, "") for i, c in enumerate(centres))
    kept = supported(basis.bands, bands)
    if len(kept) < FEWEST:
        return None
    bands = tuple(bands[i] for i in kept)
    return _through(basis, response(basis.bands, bands, quiet=True), bands, None, None)


def _through(
    basis: SpectralBasis,
    truth: np.ndarray,
    bands: tuple[Band, ...],
    rows: np.ndarray | None,
    noise: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure with `truth` [m, C], normalise by own statistics, estimate the model's bands."""
    scale = np.array(basis.normalisation.scale)
    mean, second = basis.mean.cpu().numpy(), basis.second.cpu().numpy()
    measured = truth * scale
    centre = measured @ mean
    spread = np.sqrt(
        np.maximum(np.einsum("ij,jk,ik->i", measured, second, measured) - centre**2, 1e-12)
    )
    estimate = basis.estimate(bands, True, rows=rows, noise=noise)
    return estimate @ (measured / spread[:, None]), -estimate @ (centre / spread)
