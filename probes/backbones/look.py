"""A look at what a model would be given, before anything is encoded: wrong units show here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models.embed.patches import to_physical
from probes.backbones.align import table
from probes.benchmarks.base import Data, Inputs

LOOKED_AT = 64
"""Training samples whose values are looked at before anything is encoded."""
FAR = 5.0
"""Normalised values of a band beyond this, in mean or deviation, are no normalised values."""
FLAT = 0.01
"""Deviation below which all bands together say nothing."""


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
    rows = seen(data)
    index = rows[np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int)]
    inputs = data.read(index)
    _check_units(inputs, data, benchmark)
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
            f"WARNING: what the model is given is far from normalised ({', '.join(odd[:3])}"
            f"{more}): check units and normaliser"
        ]
    if max(spreads) < FLAT:
        return measured, [
            f"WARNING: what the model is given hardly varies (largest deviation "
            f"{max(spreads):.2g}): check units and normaliser"
        ]
    return measured, []


def _check_units(inputs: Inputs, data: Data, benchmark: str) -> None:
    for modality, items in table(data.bands).items():
        x = torch.from_numpy(np.ascontiguousarray(inputs.pixels[modality]))
        x = to_physical(x, *data.scaling.get(modality, (1.0, 0.0)))
        valid = inputs.valid[modality] if inputs.valid is not None else None
        for c, band in enumerate(items):
            values = x[:, c] if valid is None else x[:, c][torch.from_numpy(valid)]
            if not values.numel():
                continue
            middle = float(values.median())
            if band.unit == "reflectance" and not -0.5 <= middle <= 3.0:
                wrong = f"a median of {middle:.4g}, and reflectance is a fraction"
            elif band.unit == "dB" and not -80.0 <= middle <= 50.0:
                wrong = f"a median of {middle:.4g}, and decibels are between -80 and 50"
            else:
                continue
            raise UsageError(
                f"{benchmark}: {modality} {band.name} has {wrong}; the dataset's scale, offset or "
                f"unit is wrong"
            )
