"""The numbers of a normaliser: band by band one shift and one scale of physical values.

Everything is in the units of the sensor table (reflectance as a fraction, dB, uncalibrated `dn`),
so one image as stored integers, as reflectance or as 8 bits gives the same values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fm.errors import FMError, UsageError
from fm.models.embed.patches import to_physical
from fm.normalize import Normalisation
from fm.sensors import Band
from probes.benchmarks.base import Data

UNITS = ("reflectance", "dn")
"""Units with a full scale."""
SECO = 2750.0 / 10_000
"""SeCo's divisor (Manas et al., arXiv 2103.16607) as a share of full scale."""
BATCH = 256


@dataclass(frozen=True)
class Range:
    """Statistics of the training split, one number a band, physical units, valid pixels only."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def train_ranges(data: Data) -> dict[str, Range]:
    """Measure every band of a benchmark over the valid pixels of its training split.

    Sums are float64 around the first batch's mean, so large offsets cost no digits.

    Raises:
        FMError: the split has no valid pixel.
    """
    train = data.of("train")
    sums: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(train), BATCH):
        inputs = data.read(train[start : start + BATCH])
        for modality, array in inputs.pixels.items():
            stored = torch.from_numpy(np.ascontiguousarray(array))
            x = to_physical(stored, *data.scaling[modality]).double().numpy()
            valid = np.ones((len(x), *x.shape[-2:]), bool)
            if inputs.valid is not None:
                valid = inputs.valid[modality]
            values = np.moveaxis(x, 1, 0)[:, valid]
            if not values.shape[1]:
                continue
            centre = sums[modality][0] if modality in sums else values.mean(1)
            shifted = values - centre[:, None]
            count = np.full(len(x[0]), float(values.shape[1]))
            part = [centre, count, shifted.sum(1), (shifted**2).sum(1)]
            part += [values.min(1), values.max(1)]
            if modality in sums:
                old = sums[modality]
                part[1:4] = [a + b for a, b in zip(old[1:4], part[1:4], strict=True)]
                part[4], part[5] = np.minimum(old[4], part[4]), np.maximum(old[5], part[5])
            sums[modality] = part
    missing = [m for m in data.bands if m not in sums]
    if missing:
        raise FMError(f"{data.dataset}: no valid training pixel of {', '.join(missing)}")
    found = {}
    for modality, (centre, count, total, squares, low, high) in sums.items():
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        columns = (centre + mean, spread, low, high)
        found[modality] = Range(*(tuple(float(v) for v in column) for column in columns))
    return found


def full_scale(band: Band, dtype: np.dtype | None, high: float | None) -> float:
    """Return the physical value that counts as 1 of a band.

    Args:
        band: the data's.
        dtype: of the stored numbers; None when not known.
        high: largest value of the training split; None when not known.

    Raises:
        UsageError: a unit without a full scale, or numbers of an unknown range.
    """
    if band.unit == "reflectance":
        return 1.0
    name = f"{band.modality} {band.name}"
    if band.unit != "dn":
        raise UsageError(
            f"{name}: a band in {band.unit or 'an undeclared unit'} has no full scale to divide "
            f"by; give --normaliser zscore, minmax or identity"
        )
    if dtype == np.uint8 or (high is not None and high <= 255):
        return 255.0
    if dtype == np.uint16 or (high is not None and high <= 65_535):
        return 10_000.0
    raise UsageError(
        f"{name}: uncalibrated numbers of an unknown range have no full scale; give --normaliser "
        f"zscore or minmax"
    )


def of_data(
    normaliser: str,
    bands: Mapping[str, Sequence[Band]],
    dtypes: Mapping[str, np.dtype],
    ranges: Mapping[str, Range],
) -> dict[str, Normalisation]:
    """Return a normaliser that does not come from the model, for every band of the data.

    Args:
        normaliser: `divide`, `zscore`, `minmax`, `seco` or `identity`.
        bands: modality to the data's bands.
        dtypes: modality to the stored type.
        ranges: see `train_ranges`.

    Raises:
        UsageError: a band that the normaliser is not defined for.
        FMError: a band is constant over the training split.
    """
    found = {}
    for modality, items in bands.items():
        count = len(items)
        if normaliser == "identity":
            found[modality] = Normalisation.identity(count)
            continue
        if normaliser in ("zscore", "minmax"):
            seen = ranges[modality]
            names = [band.name for band in items]
            if normaliser == "zscore":
                values = {"mean": seen.mean, "std": seen.std}
                found[modality] = Normalisation.fit("zscore", values, names)
                continue
            spread = tuple(h - low for low, h in zip(seen.low, seen.high, strict=True))
            found[modality] = Normalisation("zscore", seen.low, spread)
            continue
        highs = ranges[modality].high if modality in ranges else (None,) * count
        full = tuple(
            full_scale(b, dtypes.get(modality), h) for b, h in zip(items, highs, strict=True)
        )
        if normaliser == "divide":
            found[modality] = Normalisation("divide", (0.0,) * count, full)
            continue
        if 255.0 in full:
            raise UsageError(
                f"{modality}: seco divides numbers of up to 10 000 by 2750, these are of 8 bits; "
                f"give --normaliser divide"
            )
        clipped = tuple(value * SECO for value in full)
        found[modality] = Normalisation("percentile", (0.0,) * count, clipped)
    return found
