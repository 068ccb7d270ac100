"""Samples without data are not encoded: they would enter the statistics of batch norms.

Every rank still gives as many rows as it has samples, zeros for those, since gathers need that.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fm.models import Inputs
from pretrain.losses.precision import wide


def readable(weight: Tensor) -> Tensor | None:
    """Number the samples of weights `[B]` above 0; None where all are, or none can be told."""
    return numbers(weight > 0)


def shown(
    pixels: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    modalities: Collection[str] | None = None,
) -> Tensor:
    """Say which samples have a valid pixel of any of some modalities, all by default: `[B]` bool.

    Args:
        pixels: of at least one modality.
        valid: as a batch's.
        modalities: those that count.
    """
    first = next(iter(pixels.values()))
    found = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    for name, x in pixels.items():
        if modalities is None or name in modalities:
            mask = (valid or {}).get(name)
            found = found | (True if mask is None else mask.reshape(len(x), -1).any(dim=1))
    return found


def numbers(there: Tensor) -> Tensor | None:
    """Number the samples that are there, of `[B]` bool; None where all are, or none can be told."""
    if there.is_meta:
        return None
    return None if bool(there.all()) else there.nonzero()[:, 0]


def taken(inputs: Inputs, rows: Tensor | None) -> Inputs:
    """Return some samples of a batch, all of them for None."""
    if rows is None:
        return inputs
    return replace(
        inputs,
        pixels={name: x[rows] for name, x in inputs.pixels.items()},
        valid=None if inputs.valid is None else {m: x[rows] for m, x in inputs.valid.items()},
        lonlat=None if inputs.lonlat is None else inputs.lonlat[rows],
        time=None if inputs.time is None else inputs.time[rows],
        times=None if inputs.times is None else inputs.times[rows],
    )


def placed(made: Tensor, rows: Tensor | None, count: int) -> Tensor:
    """Put the rows `[R, D]` of some samples where they were among `count`, zeros elsewhere."""
    if rows is None:
        return made
    return made.new_zeros(count, made.shape[1]).index_copy(0, rows, made)


def encoded(inputs: Inputs, weight: Tensor, encode: Callable[[Inputs], Tensor]) -> Tensor:
    """Encode the samples of a batch that could be read.

    Args:
        inputs: of all samples.
        weight: `[B]` of these.
        encode: makes a row of each sample that it is given.

    Returns:
        `[B, D]` float32 at least, zeros where a sample could not be read.
    """
    rows = readable(weight)
    return placed(wide(encode(taken(inputs, rows))), rows, len(weight))
