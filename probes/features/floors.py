"""What a pretrained model has to beat: statistics, raw pixels, and its own random weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fm
from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from probes.features import random_conv
from probes.features.pixels import physical

Scaling = Mapping[str, tuple[float, float]]


def image_statistics(inputs: Inputs, scaling: Scaling) -> np.ndarray:
    """Mean and standard deviation of each band over the valid pixels.

    Returns:
        [B, 2 * sum C] float64, modalities in the order of `inputs`, means before deviations.

    Raises:
        FMError: a sample has no valid pixel.
    """
    return np.concatenate(
        [part for found in _statistics(inputs, scaling) for part in found[:2]], axis=1
    )


def image_statistics_corley(inputs: Inputs, scaling: Scaling) -> np.ndarray:
    """Mean, standard deviation, maximum and minimum of each band over the valid pixels.

    The "ImageStats" of Corley et al., arXiv 2305.13456, here in physical units.

    Returns:
        [B, 4 * sum C] float64, modalities in the order of `inputs`.

    Raises:
        FMError: a sample has no valid pixel.
    """
    return np.concatenate([part for found in _statistics(inputs, scaling) for part in found], 1)


def _statistics(inputs: Inputs, scaling: Scaling) -> list[tuple[np.ndarray, ...]]:
    """Mean, deviation, maximum and minimum [B, C] of each modality's valid pixels."""
    parts: list[tuple[np.ndarray, ...]] = []
    for modality, array in inputs.pixels.items():
        x = physical(array, scaling[modality])
        known = np.ones((len(x), 1, *x.shape[-2:]), bool)
        if inputs.valid is not None:
            known = inputs.valid[modality][:, None]
        w = known.astype(np.float64)
        count = w.sum((-2, -1))
        if (count == 0).any():
            raise FMError(
                f"{modality}: a sample has no valid pixel and no statistics; leave it out"
            )
        mean = (x * w).sum((-2, -1)) / count
        spread = ((x - mean[..., None, None]) ** 2 * w).sum((-2, -1)) / count
        high = np.where(known, x, -np.inf).max((-2, -1))
        low = np.where(known, x, np.inf).min((-2, -1))
        parts.append((mean, np.sqrt(spread), high, low))
    return parts


def centre_pixel(inputs: Inputs, scaling: Scaling) -> np.ndarray:
    """The bands of the centre pixel of every grid: [B, sum C] float64, physical units."""
    parts = []
    for modality, array in inputs.pixels.items():
        row, col = array.shape[-2] // 2, array.shape[-1] // 2
        parts.append(physical(array[:, :, row, col], scaling[modality]))
    return np.concatenate(parts, 1)


def encoder(name: str, data: Data, seed: int) -> Callable[[Inputs], np.ndarray]:
    """Return what makes the features [B, D] of a floor.

    Args:
        name: a value of `OnFeatures.input` other than `model`.
        data: the benchmark, opened; its training split is all that is looked at.
        seed: of random kernels.
    """
    if name in ("random-conv", "random-conv-zca"):
        fitted = random_conv.fit(data, "zca" if name.endswith("zca") else "gaussian", seed)
        return lambda inputs: fitted(inputs, data.scaling)
    make = {
        "image-statistics": image_statistics,
        "image-statistics-corley": image_statistics_corley,
        "raw-pixel": centre_pixel,
    }[name]
    return lambda inputs: make(inputs, data.scaling)


def floor_features(name: str, data: Data, seed: int = 0, batch_size: int = 512) -> np.ndarray:
    """Features of a floor for every sample of a benchmark; arguments as `encoder`."""
    make = encoder(name, data, seed)
    total = len(data.targets)
    return np.concatenate(
        [
            make(data.read(np.arange(start, min(start + batch_size, total))))
            for start in range(0, total, batch_size)
        ]
    )


def random_init(model: Any, folder: Path | None, seed: int) -> Any:
    """Return the same architecture and normalisation with fresh weights.

    Args:
        model: the pretrained model.
        folder: where it was loaded from, None for a model that is only in memory.
        seed: of the weights.

    Raises:
        FMError: a model in memory that does not know its architecture.
    """
    if folder is not None:
        return fm.load(folder, weights="random", seed=seed)
    if not getattr(model, "architecture", None):
        raise FMError(
            "this model does not know its architecture, so it has no random-initialised floor; "
            "give a checkpoint folder, or floors=False"
        )
    from fm.checkpoint import keep_fitted
    from fm.models import rebuild

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = rebuild(model.architecture, model.bands, model.normalisation, model.scaling)
    keep_fitted(fresh, model.state_dict())
    return fresh.eval()
