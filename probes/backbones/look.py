"""A look at what a model would be given, before anything is encoded: wrong units show here."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError, UsageError
from fm.models.embed.patches import to_physical
from probes.backbones.align import table
from probes.benchmarks import signatures
from probes.benchmarks.base import Data, Inputs
from probes.result import WARNING

LOOKED_AT = 64
"""Training samples whose values are looked at before anything is encoded."""
FAR = 5.0
"""Normalised values of a band beyond this, in mean or deviation, are no normalised values."""
FLAT = 0.01
"""Deviation below which all bands together say nothing."""
DARK = 1e-3
"""No reflectance above this in any band is no image: 10 of 10 000 stored."""
SENTINEL_2 = ("s2l1c_", "s2l2a_")
SIGNATURES = (
    ({"B08", "B8A"}, signatures.b8a_beside_b08),
    ({"B10"}, signatures.b10_is_dark),
    ({"B09", "B8A"}, signatures.water_vapour_is_darker),
)
"""Bands of Sentinel-2, and what they must look like."""


def seen(data: Data) -> np.ndarray:
    """Numbers of the training samples; of all where nothing is trained."""
    train = data.of("train")
    return train if len(train) else np.arange(len(data.targets))


def look(
    values: Callable[[Inputs], list[tuple[str, Tensor]]], data: Data, benchmark: str
) -> tuple[dict[str, Any], list[str]]:
    """Look at some training samples.

    Args:
        values: what each of the model's bands would be given of some samples.
        data: the benchmark, opened.
        benchmark: its name, for errors.

    Returns:
        the smallest and largest `mean` and `std` of a band, and what a reader has to know.

    Raises:
        UsageError: reflectance or decibels that cannot be that: the scale of the dataset is wrong.
    """
    inputs = _some(data)
    _check_units(_physical(inputs, data), data, benchmark)
    means, spreads, names = [], [], []
    for name, found in values(inputs):
        names.append(name)
        means.append(float(found.mean()) if found.numel() else 0.0)
        spreads.append(float(found.std(correction=0)) if found.numel() else 0.0)
    measured = {
        "mean": [round(min(means), 4), round(max(means), 4)],
        "std": [round(min(spreads), 4), round(max(spreads), 4)],
    }
    odd = [
        f"{name} {mean:.3g} ± {spread:.3g}"
        for name, mean, spread in zip(names, means, spreads, strict=True)
        if abs(mean) > FAR or spread > FAR
    ]
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        return measured, [
            f"{WARNING}what the model is given is far from normalised ({', '.join(odd[:3])}"
            f"{more}): check units and normaliser"
        ]
    if max(spreads) < FLAT:
        return measured, [
            f"{WARNING}what the model is given hardly varies (largest deviation "
            f"{max(spreads):.2g}): check units and normaliser"
        ]
    return measured, []


def units(data: Data, benchmark: str) -> list[str]:
    """Look at some training samples as numbers of their unit and as bands of their sensor.

    Returns:
        warnings for a reader: bands of Sentinel-2 that are not what their names say.

    Raises:
        UsageError: numbers that cannot be what their unit says: scale, offset or unit are wrong.
    """
    data = data.single()
    values = _physical(_some(data), data)
    _check_units(values, data, benchmark)
    warnings = []
    optical = {
        name: found
        for modality, bands in values.items()
        for name, found in bands.items()
        if modality.startswith(SENTINEL_2) and len(found)
    }
    for needed, check in SIGNATURES:
        if needed <= set(optical):
            try:
                check(optical, WARNING.rstrip(": "))
            except FMError as error:
                warnings.append(str(error))
    return warnings


def _some(data: Data) -> Inputs:
    """Samples of training, evenly over all of it."""
    rows = seen(data)
    return data.read(rows[np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int)])


def _physical(inputs: Inputs, data: Data) -> dict[str, dict[str, np.ndarray]]:
    """Modality to band to its valid values, physical."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for modality, names in data.bands.items():
        x = torch.from_numpy(np.ascontiguousarray(inputs.pixels[modality]))
        made = to_physical(x, *data.scaling.get(modality, (1.0, 0.0))).numpy().swapaxes(0, 1)
        valid = np.isfinite(made).all(0)
        if inputs.valid is not None:
            valid &= inputs.valid[modality]
        found[modality] = {name: band[valid] for name, band in zip(names, made, strict=True)}
    return found


def _check_units(
    values: Mapping[str, Mapping[str, np.ndarray]], data: Data, benchmark: str
) -> None:
    for modality, items in table(data.bands).items():
        known = {band.name: values[modality][band.name] for band in items}
        for band in items:
            if len(known[band.name]) and (wrong := _impossible(band.unit, known[band.name])):
                raise UsageError(
                    f"{benchmark}: {modality} {band.name} has {wrong}; the dataset's scale, offset "
                    f"or unit is wrong"
                )
        tops = [
            float(v.max()) for b in items if b.unit == "reflectance" and len(v := known[b.name])
        ]
        if tops and 0 < max(tops) < DARK:
            raise UsageError(
                f"{benchmark}: {modality} has no reflectance above {max(tops):.2g} in any band; "
                f"the dataset's scale, offset or unit is wrong"
            )


def _impossible(unit: str, values: np.ndarray) -> str | None:
    middle = float(np.median(values))
    if unit == "reflectance" and not -0.5 <= middle <= 3.0:
        return f"a median of {middle:.4g}, and reflectance is a fraction"
    if unit == "dB" and not -80.0 <= middle <= 50.0:
        return f"a median of {middle:.4g}, and decibels are between -80 and 50"
    if unit == "dB" and values.min() >= 0 and values.max() > 0:
        return "no negative value: it looks like linear backscatter, not decibels"
    return None
