"""What a pretrained model has to beat: statistics, raw pixels, and its own random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fm
from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs

Scaling = Mapping[str, tuple[float, float]]


def physical(array: np.ndarray, scaling: tuple[float, float]) -> np.ndarray:
    """Stored numbers to physical units in float64; floating arrays are physical already."""
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array.astype(np.float64) * scaling[0] + scaling[1]


def image_statistics(inputs: Inputs, scaling: Scaling) -> np.ndarray:
    """Mean and standard deviation of each band over the valid pixels.

    Returns:
        [B, 2 * sum C] float64, modalities in the order of `inputs`, means before deviations.

    Raises:
        FMError: a sample has no valid pixel.
    """
    parts = []
    for modality, array in inputs.pixels.items():
        x = physical(array, scaling[modality])
        w = np.ones((len(x), 1, *x.shape[-2:]))
        if inputs.valid is not None:
            w = inputs.valid[modality][:, None].astype(np.float64)
        count = w.sum((-2, -1))
        if (count == 0).any():
            raise FMError(
                f"{modality}: a sample has no valid pixel and no statistics; leave it out"
            )
        mean = (x * w).sum((-2, -1)) / count
        spread = ((x - mean[..., None, None]) ** 2 * w).sum((-2, -1)) / count
        parts += [mean, np.sqrt(spread)]
    return np.concatenate(parts, 1)


def centre_pixel(inputs: Inputs, scaling: Scaling) -> np.ndarray:
    """The bands of the centre pixel of every grid: [B, sum C] float64, physical units."""
    parts = []
    for modality, array in inputs.pixels.items():
        row, col = array.shape[-2] // 2, array.shape[-1] // 2
        parts.append(physical(array[:, :, row, col], scaling[modality]))
    return np.concatenate(parts, 1)


def floor_features(name: str, data: Data, batch_size: int = 512) -> np.ndarray:
    """Features of a floor for every sample of a benchmark: `image-statistics` or `raw-pixel`."""
    make = {"image-statistics": image_statistics, "raw-pixel": centre_pixel}[name]
    starts = range(0, len(data.targets), batch_size)
    ends = [min(start + batch_size, len(data.targets)) for start in starts]
    return np.concatenate(
        [
            make(data.read(np.arange(start, end)), data.scaling)
            for start, end in zip(starts, ends, strict=True)
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
