"""A front end that brings any band list to one set of decorrelated spectral components.

Neighbouring bands say nearly the same, so a projection or a reconstruction loss on normalised
bands is about brightness and little else. Here a pixel's normalised values z `[C]`, of the bands
the model was built with, become `A z`, `A = (E + eps)^(-1/2) U^T` with `E`, `U` the eigenvalues and
eigenvectors of their second moment over unlabelled training pixels: PCA whitening (Hyvarinen and
Oja, Neural Networks 13, 2000, section 5.2) with a floor eps that keeps noise small.

Other bands are first taken to the model's own by the conditional mean of a Gaussian whose moments
are those of the training pixels (Rasmussen and Williams, "Gaussian Processes for Machine
Learning", 2006, eq. A.6): y = H z + noise, z_hat = S H^T (H S H^T + N)^(-1) y. H follows from
centres and widths (`fm.spectral.observation`); N is what linear interpolation in wavelength gets
wrong on the training pixels when a band is left out. It is the identity for the model's own bands,
a linear function of the pixels, and does not depend on the order in which the bands come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fm.errors import FMError, UsageError
from fm.hardware import full_precision
from fm.normalize import Normalisation
from fm.sensors import Band, wavelengths
from fm.spectral import interpolation, observation

JITTER = 1e-6
NOISE_NM = 10.0
"""Interpolation errors of bands this far apart are correlated by 1/e."""
OUTSIDE = 4.0
"""Noise of a band outside the model's wavelengths, over the mean interpolation error."""
KEPT = 256
"""Matrices of other band lists that a basis remembers."""


@dataclass(frozen=True)
class Moments:
    """What is known of a modality's normalised values over unlabelled pixels.

    Attributes:
        mean: `[C]` float64.
        second: `[C, C]` float64, E[z z^T].
        count: pixels behind them.
    """

    mean: np.ndarray
    second: np.ndarray
    count: int

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Moments":
        """Take them from `[N, C]` normalised pixels."""
        z = np.asarray(pixels, np.float64)
        return cls(z.mean(axis=0), z.T @ z / len(z), len(z))


class SpectralBasis(nn.Module):
    """Whitened spectral components of any band list.

    Args:
        bands: the model's own, with wavelengths and widths when other bands are to come in.
        normalisation: of those bands; `fit` and other bands need `zscore`, whose values have mean 0
            and spread 1 in every band list.
        components: how many are kept, largest variance first; None keeps all.
        floor: eps, added to the eigenvalues (which sum to C for `zscore`).

    Attributes:
        bank: what `fm.models.embed.spectral_views.bank_of` made last.
        matrix: `[K, C]` whitening matrix A; zeros until `fit`.
    """

    matrix: Tensor
    mean: Tensor
    second: Tensor

    def __init__(
        self,
        bands: Sequence[Band],
        normalisation: Normalisation,
        *,
        components: int | None = None,
        floor: float = 0.03,
    ) -> None:
        super().__init__()
        count = len(bands)
        kept = count if components is None else components
        if not 1 <= kept <= count:
            raise UsageError(f"basis.components={components}: give 1 to {count}, or null for all")
        if floor < 0:
            raise UsageError(f"basis.floor={floor} is negative")
        self.bands, self.normalisation, self.floor = tuple(bands), normalisation, floor
        self.components = kept
        self.register_buffer("matrix", torch.zeros(kept, count))
        self.register_buffer("mean", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(count, count, dtype=torch.float64))
        self._known: dict[tuple[object, ...], Tensor] = {}
        self.bank: tuple[tuple[object, ...], Tensor, Tensor] | None = None
        self._fitted: tuple[tuple[object, ...], bool] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the moments have been set; looked up once for each content of the buffer."""
        if self.second.is_meta or torch.compiler.is_exporting():  # only sizes are asked for
            return True
        key = _content(self.second)
        if self._fitted is None or self._fitted[0] != key:
            self._fitted = key, bool(self.second.any())
        return self._fitted[1]

    def fit(self, moments: Moments) -> None:
        """Set the moments and the whitening matrix.

        Raises:
            FMError: they are of another number of bands, or of fewer pixels than bands.
            UsageError: the normalisation is not `zscore`.
        """
        self._needs_zscore()
        count = len(self.bands)
        if moments.second.shape != (count, count):
            raise FMError(f"moments of {len(moments.mean)} bands, the basis has {count}")
        if moments.count < 2 * count:
            raise FMError(
                f"{moments.count} valid pixels are too few for a basis of {count} bands; give more "
                f"data or take model.options.basis out"
            )
        values, vectors = np.linalg.eigh(moments.second)
        # the sign of an eigenvector is free; make its largest entry positive
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
        whitening = (vectors / np.sqrt(np.maximum(values, 0.0) + self.floor)).T[::-1]
        with torch.no_grad():
            self.matrix.copy_(torch.from_numpy(whitening[: self.components].copy()))
            self.mean.copy_(torch.from_numpy(moments.mean))
            self.second.copy_(torch.from_numpy(moments.second))
        self._known.clear()

    def _needs_zscore(self) -> None:
        if self.normalisation.kind != "zscore":
            raise UsageError(
                f"a spectral basis needs bands normalised by zscore, the model has "
                f"{self.normalisation.kind}; set model.normalisation=zscore or take "
                f"model.options.basis out"
            )

    @property
    def content(self) -> tuple[object, ...]:
        """What changes when the basis is fitted, loaded or moved; for what is made of it once."""
        return _content(self.matrix)

    def forward(
        self,
        patches: Tensor,
        bands: Sequence[Band],
        calibrated: bool,
        view: Tensor | None = None,
        bank: tuple[Tensor, Tensor] | None = None,
        lost: Tensor | None = None,
    ) -> Tensor:
        """Turn normalised values into components.

        Args:
            patches: `[B, K, C, p, p]` float32, normalised.
            bands: of the C channels.
            calibrated: the normalisation was measured on these very bands, not interpolated from
                the model's.
            view: `[B]` int64, the simulated sensor of the bank that sees each sample of the
                model's own bands; negative for none.
            bank: of `fm.models.embed.spectral_views.bank_of`, where there is a view.
            lost: `[B, C]` bool, bands that a sample does not have at all (their values are 0); the
                sample is then taken through the bands that it has, as if the others were not given.

        Returns:
            `[B, K, components, p, p]` float32.
        """
        matrix = self.matrix_for(tuple(bands), calibrated).to(patches.device)
        if lost is not None:
            matrix = self._without(tuple(bands), calibrated, matrix, lost)
        with full_precision(patches.device):
            values = patches.float()
            if view is None:
                which = "kc" if matrix.ndim == 2 else "bkc"
                return torch.einsum(f"{which},bncpq->bnkpq", matrix, values)
            assert bank is not None, "a view needs its bank"
            matrices, offsets = bank
            through = view.clamp(min=0)
            chosen = torch.where((view < 0)[:, None, None], matrix, matrices[through])
            offset = torch.where((view < 0)[:, None], 0.0, offsets[through])
            made = torch.einsum("bkc,bncpq->bnkpq", chosen, values)
            return made + offset[:, None, :, None, None]

    def matrix_for(self, bands: tuple[Band, ...], calibrated: bool) -> Tensor:
        """Return the matrix `[components, C]` of a band list.

        Raises:
            FMError: the basis was not fitted.
            UsageError: a band without wavelength or width.
        """
        if bands == self.bands:
            if not self.fitted:
                raise FMError(
                    "the spectral basis is not fitted: train the model, or call fit with the "
                    "moments of unlabelled pixels"
                )
            return self.matrix
        key = (bands, calibrated, *self.content)
        if key not in self._known:
            if len(self._known) >= KEPT:
                self._known.clear()
            estimate = self.estimate(bands, calibrated)
            whitening = self.matrix.double().cpu().numpy()
            made = torch.from_numpy(whitening @ estimate).float()
            self._known[key] = made.to(self.matrix.device)
        return self._known[key]

    def _without(
        self, bands: tuple[Band, ...], calibrated: bool, matrix: Tensor, lost: Tensor
    ) -> Tensor:
        """Return a matrix a sample `[B, components, C]`, with columns of 0 for lost bands."""
        patterns, which = torch.unique(lost, dim=0, return_inverse=True)
        found = []
        for pattern in patterns.tolist():
            kept = [i for i, gone in enumerate(pattern) if not gone]
            if not kept or len(kept) == len(pattern):  # nothing to see, or nothing lost
                found.append(matrix)
                continue
            part = self.matrix_for(tuple(bands[i] for i in kept), calibrated)
            made = torch.zeros_like(matrix)
            made[:, kept] = part.to(matrix.device)
            found.append(made)
        return torch.stack(found)[which]

    def estimate(
        self,
        bands: Sequence[Band],
        calibrated: bool,
        *,
        rows: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return M `[C own, C given]` float64 with z_hat = M y.

        Args:
            bands: that were measured.
            calibrated: see `forward`.
            rows: `[C given, C own]` what the bands are taken to see; from centres and widths when
                None.
            noise: `[C given]` variance of what they see beside; of interpolation when None.

        Raises:
            FMError: the basis was not fitted.
            UsageError: a band without wavelength or width; a normalisation other than `zscore`.
        """
        self._needs_zscore()
        if rows is None:
            rows = observation(self.bands, bands)
        if noise is None:
            noise = self._noise(bands, calibrated)
        if not self.fitted:
            raise FMError("the spectral basis is not fitted; see SpectralBasis.fit")
        second = self.second.cpu().numpy()
        scale = np.array(self.normalisation.scale)
        physical = rows * scale
        if calibrated:
            power = np.einsum("ij,jk,ik->i", physical, second, physical)
            centre = physical @ self.mean.cpu().numpy()
            spread = np.sqrt(np.maximum(power - centre**2, 1e-12))
        else:
            spread = rows @ scale
        seen = physical / spread[:, None]
        at = np.array(wavelengths(bands))
        near = np.exp(-np.abs(at[:, None] - at[None]) / NOISE_NM)
        covariance = np.sqrt(noise[:, None] * noise[None]) * near
        gram = seen @ second @ seen.T + covariance + JITTER * np.eye(len(at))
        return cast(np.ndarray, np.linalg.solve(gram, seen @ second).T)

    def _noise(self, bands: Sequence[Band], calibrated: bool) -> np.ndarray:
        """Variance of what linear interpolation gets wrong at each band, in its own units."""
        errors = self.errors(calibrated)
        own = np.array(wavelengths(self.bands))
        order = np.argsort(own, kind="stable")
        at = np.array(wavelengths(bands))
        weights = np.zeros((len(at), len(own)))
        weights[:, order] = interpolation(own[order], at)
        near = weights > 1e-9
        between = 1.0 - np.square(weights).sum(axis=1)
        noise = between * (near @ errors) / near.sum(axis=1)
        outside = (at < own.min() - 1.0) | (at > own.max() + 1.0)
        return np.where(outside, OUTSIDE * errors.mean(), noise)

    def left_out(self) -> np.ndarray:
        """Return `[C, C]`: row i makes band i from its neighbours by interpolation."""
        own = np.array(wavelengths(self.bands))
        result = np.zeros((len(own), len(own)))
        for i in range(len(own)):
            others = np.delete(np.arange(len(own)), i)
            others = others[np.argsort(own[others], kind="stable")]
            result[i, others] = interpolation(own[others], own[i : i + 1])[0]
        return result

    def errors(self, calibrated: bool) -> np.ndarray:
        """Mean squared error `[C]` of making each band from its neighbours, over its variance."""
        if len(self.bands) < 2:
            return np.ones(len(self.bands))
        mean, second = self.mean.cpu().numpy(), self.second.cpu().numpy()
        scale, shift = np.array(self.normalisation.scale), np.array(self.normalisation.shift)
        rows = self.left_out()
        if calibrated:
            made = rows * scale
            centre = made @ mean
            spread = np.sqrt(
                np.maximum(np.einsum("ij,jk,ik->i", made, second, made) - centre**2, 1e-12)
            )
            # error z_i - (made z - centre) / spread, squared, from the moments
            kernel = np.eye(len(scale)) - made / spread[:, None]
            offset = centre / spread
        else:
            spread = rows @ scale
            kernel = (np.diag(scale) - rows * scale) / spread[:, None]
            offset = (shift - rows @ shift) / spread
        quadratic = np.einsum("ij,jk,ik->i", kernel, second, kernel)
        return np.asarray(quadratic + 2.0 * offset * (kernel @ mean) + offset**2)


def _content(buffer: Tensor) -> tuple[object, ...]:
    """What changes when a buffer is moved or written to (`load_state_dict` writes in place)."""
    return buffer.data_ptr(), 0 if buffer.is_inference() else buffer._version
