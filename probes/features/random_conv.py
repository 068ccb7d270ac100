"""Random convolutional features: one layer of random kernels, both signs, averaged over the image.

MOSAIKS (Rolf et al., A generalizable and accessible approach to machine learning with global
satellite imagery, Nature Communications 12, 2021), with the sizes of the seed paper (Corley et
al., arXiv 2305.13456): 3x3 kernels, 512 features, that is relu(k * x + b) and relu(-(k * x + b))
of 256 kernels, b = -1. Kernels are Gaussian, or patches of the training images whitened by ZCA
(Coates and Ng, Learning feature representations with k-means, 2012, section 3).

Differences: bands are standardised with the mean and deviation of the training split first (of
physical units, so that b means the same for every sensor), grids are brought to the finest one, and
pixels that are not valid are the mean and do not enter the average.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from probes.features.pixels import Moments, moments, training_rows

LARGEST = 2**20
"""Numbers in the answers of all kernels; more images are taken in parts."""
Kind = Literal["gaussian", "zca"]
FEATURES = 512
SIZE = 3
BIAS = -1.0
ZCA_BIAS = 1e-3
"""Added to the eigenvalues of the patches' covariance, as in MOSAIKS."""


@dataclass(frozen=True)
class RandomConv:
    """Kernels and the standardisation before them.

    Attributes:
        weights: [K, C, 3, 3] float32.
        levels: modality to the statistics of its bands in the training split.
    """

    weights: Tensor
    levels: Mapping[str, Moments]

    def __call__(self, inputs: Inputs, scaling: Mapping[str, tuple[float, float]]) -> np.ndarray:
        """Return the features [B, 2 K] float64: positive parts, then negative parts.

        A position counts where its middle pixel is valid; if none is, all count. Images smaller
        than a kernel are extended by mean pixels.
        """
        x, valid = stack(inputs, scaling, self.levels)
        short = [max(SIZE - side, 0) for side in x.shape[-2:]]
        pads = (short[1] // 2, short[1] - short[1] // 2, short[0] // 2, short[0] - short[0] // 2)
        x, valid = functional.pad(x, pads), functional.pad(valid, pads)
        step = max(1, LARGEST // (len(self.weights) * x.shape[-1] * x.shape[-2]))
        with torch.inference_mode():
            parts = [
                self._averaged(x[start : start + step], valid[start : start + step])
                for start in range(0, len(x), step)
            ]
        return torch.cat(parts).double().numpy()

    def _averaged(self, x: Tensor, valid: Tensor) -> Tensor:
        found = functional.conv2d(x, self.weights) + BIAS
        edge = SIZE // 2
        weight = valid[:, edge : edge + found.shape[-2], edge : edge + found.shape[-1]].float()
        weight = torch.where(weight.sum((1, 2), keepdim=True) > 0, weight, 1.0)
        weight = weight / weight.sum((1, 2), keepdim=True)
        plus = torch.einsum("bkhw,bhw->bk", found.clamp_min(0), weight)
        minus = torch.einsum("bkhw,bhw->bk", (-found).clamp_min(0), weight)
        return torch.cat([plus, minus], 1)


def fit(data: Data, kind: Kind, seed: int) -> RandomConv:
    """Draw the kernels of a benchmark; only its training split is looked at.

    Args:
        data: the benchmark, opened.
        kind: `gaussian`, or `zca` for whitened training patches.
        seed: of the kernels, or of the patches.

    Raises:
        FMError: no training image holds a whole valid patch.
    """
    generator = np.random.Generator(np.random.PCG64([seed, 3]))
    rows = training_rows(data, seed)
    levels = moments(data, rows)
    count = FEATURES // 2
    if kind == "gaussian":
        shape = (count, sum(len(level.mean) for level in levels.values()), SIZE, SIZE)
        weights = generator.standard_normal(shape, dtype=np.float32)
    else:
        found = patches(data, rows, count, generator, levels)
        weights = whiten(found).astype(np.float32)
    return RandomConv(torch.from_numpy(weights), levels)


def whiten(found: np.ndarray) -> np.ndarray:
    """Turn patches [P, C, 3, 3] into kernels whose answers are those of whitened patches.

    Each patch is brought to mean 0 and norm 1; with Z the ZCA whitening of all, p Z Z^T is the
    kernel: its product with a patch is that of both after whitening.
    """
    flat = found.reshape(len(found), -1).astype(np.float64)
    flat = flat - flat.mean(1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = flat / np.where(norm < 1e-8, 1.0, norm)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    # Z Z^T = V (E + bias)^-1 V^T
    inverse = (vectors / (np.maximum(values, 0) + ZCA_BIAS)) @ vectors.T
    return (flat @ inverse).reshape(found.shape)


def patches(
    data: Data,
    rows: NDArray[np.int64],
    count: int,
    generator: np.random.Generator,
    levels: Mapping[str, Moments],
) -> np.ndarray:
    """Cut `count` whole valid patches [count, C, 3, 3] of the samples `rows`, standardised."""
    found: list[np.ndarray] = []
    for _ in range(20):
        missing = count - len(found)
        if not missing:
            break
        chosen = generator.choice(rows, missing)
        x, valid = stack(data.read(chosen), data.scaling, levels)
        if min(x.shape[-2:]) < SIZE:
            break
        place = generator.random((missing, 2))
        for n in range(missing):
            top, left = (
                int(p * (side - SIZE + 1)) for p, side in zip(place[n], x.shape[-2:], strict=True)
            )
            box = (slice(top, top + SIZE), slice(left, left + SIZE))
            if valid[n][box].all():
                found.append(x[n][:, *box].numpy())
    if not found:
        raise FMError(
            f"{data.dataset}: no {SIZE}x{SIZE} patch of a training sample is wholly valid; leave "
            f"the floor random-conv-zca out"
        )
    # where little is valid, the patches that were found come again
    return np.stack([found[n % len(found)] for n in range(count)])


def stack(
    inputs: Inputs,
    scaling: Mapping[str, tuple[float, float]],
    levels: Mapping[str, Moments],
) -> tuple[Tensor, Tensor]:
    """Put all modalities on the finest grid, standardised: [B, C, H, W] and valid [B, H, W].

    Pixels that are not valid in some modality are 0, the mean.
    """
    side = max((x.shape[-2:] for x in inputs.pixels.values()), key=lambda s: s[0] * s[1])
    parts, masks = [], []
    for modality, array in inputs.pixels.items():
        level = levels[modality]
        scale, offset = (1.0, 0.0) if array.dtype.kind == "f" else scaling[modality]
        # stored number to standardised value in one step
        times, plus = scale / level.spread, (offset - level.mean) / level.spread
        x = array.astype(np.float32) * times.astype(np.float32)[:, None, None]
        x += plus.astype(np.float32)[:, None, None]
        known = np.ones((len(x), *x.shape[-2:]), bool)
        if inputs.valid is not None:
            known = inputs.valid[modality]
        plane = torch.from_numpy(np.where(known[:, None], x, np.float32(0)))
        mask = torch.from_numpy(np.ascontiguousarray(known)).float()[:, None]
        if plane.shape[-2:] != side:
            plane = functional.interpolate(plane, side, mode="bilinear", align_corners=False)
            mask = functional.interpolate(mask, side, mode="nearest")
        parts.append(plane)
        masks.append(mask[:, 0] > 0)
    valid = torch.stack(masks).all(0)
    return torch.cat(parts, 1) * valid[:, None], valid
