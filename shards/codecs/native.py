"""Bands that were upsampled by copying pixels, stored once: on the grid they were measured on.

TerraMesh and SSL4EO-S12 v1.1 ship Sentinel-2's 20 m and 60 m bands on the 10 m grid, each pixel
copied 2 x 2 or 6 x 6 times. The copies hold nothing: without them a sample is 2.3 times smaller
before any codec, and `numpy.repeat` along both axes gives every bit back. Nothing is assumed of a
product: every block of every sample is compared, bit by bit, when it is made.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fm.errors import FMError, UsageError
from shards.building.declare import Declared, Known, resolve
from shards.sample import Sample
from shards.sources.base import Content, Skip

FACTORS = (6, 3, 2)
"""Sentinel-2's: 60 m on a 10 m grid, 60 m on a 20 m grid, 20 m on a 10 m grid."""
PROBED = 4
"""Samples that are looked at before a build begins."""


def is_copied(band: np.ndarray, factor: int) -> bool:
    """Say whether all blocks of `factor` x `factor` pixels are constant, bit by bit.

    Args:
        band: `[..., H, W]`; NaN equals NaN of the same bits, 0.0 does not equal -0.0.
        factor: side of a block; H and W that are no multiples of it give False.
    """
    *lead, height, width = band.shape
    if height % factor or width % factor:
        return False
    bits = np.ascontiguousarray(band).view(f"u{band.dtype.itemsize}")
    blocks = bits.reshape(*lead, height // factor, factor, width // factor, factor)
    # first along the rows, which are contiguous: most bands that are no copies end here
    if not (blocks[..., 1:] == blocks[..., :1]).all():
        return False
    return bool((blocks[..., 1:, :, 0] == blocks[..., :1, :, 0]).all())


def copy_factor(band: np.ndarray) -> int:
    """Return the largest factor by which pixels were copied, of `FACTORS`; 1 when they were not.

    Args:
        band: `[H, W]` or `[..., H, W]`. A constant band is a copy by every factor that divides it,
            so it says nothing of the grid it was measured on.
    """
    return next((factor for factor in FACTORS if is_copied(band, factor)), 1)


@dataclass(frozen=True)
class Part:
    """Some bands of an upsampled modality and where they go.

    Attributes:
        modality: name of the native one.
        channels: places on the C axis of the upsampled one.
        bands: their names.
        factor: copies along each axis; 1 for bands that were measured on this grid.
        gsd_m: of the native grid, metres.
    """

    modality: str
    channels: tuple[int, ...]
    bands: tuple[str, ...]
    factor: int
    gsd_m: float


def native_grids(content: Content) -> Content:
    """Store upsampled bands on their native grids.

    Every modality that holds bands of several native grids is replaced by one a grid, under the
    names of the sensor's table (`s2l1c_10`, `s2l1c_20`, `s2l1c_60`). The first samples are looked
    at now; each sample is verified when it is made.

    Args:
        content: what a source has found.

    Returns:
        the same samples with the modalities replaced; the provenance tells what was done.

    Raises:
        UsageError: no modality holds bands of a coarser grid, or the new names are taken.
        FMError: a band is not an exact copy (from `make`: in that sample).
    """
    known = resolve(content.modalities)
    plans = {name: parts for name, one in known.items() if (parts := _parts(name, one))}
    if not plans:
        raise UsageError(
            "native grids: no modality holds bands of a coarser grid than its own "
            f"({', '.join(known)}); build without --native-grids"
        )
    modalities = {name: one for name, one in content.modalities.items() if name not in plans}
    for name, parts in plans.items():
        for part in parts:
            if part.modality in modalities:
                raise UsageError(
                    f"native grids: {name} would become {part.modality!r}, which is there already; "
                    "build without --native-grids"
                )
            modalities[part.modality] = _declared(content.modalities[name], known[name], part)
    result = replace(
        content,
        make=partial(make_native, content.make, plans),
        modalities=modalities,
        provenance={
            **content.provenance,
            "native_grids": {
                name: {part.modality: part.factor for part in parts}
                for name, parts in plans.items()
            },
        },
    )
    _probe(result)
    return result


def _parts(name: str, known: Known) -> list[Part]:
    """Split a modality by the grids of its bands, finest first; nothing when they have one."""
    grids: dict[float, list[int]] = {}
    for place, band in enumerate(known.table):
        grids.setdefault(max(band.gsd_m, known.gsd_m), []).append(place)
    if len(grids) == 1:
        return []  # nothing to take apart, whatever its grid
    parts = []
    for gsd, places in sorted(grids.items()):
        factor = round(gsd / known.gsd_m)
        if not math.isclose(factor * known.gsd_m, gsd):
            raise UsageError(
                f"native grids: {name} is on a grid of {known.gsd_m:g} m, and pixels of {gsd:g} m "
                "are no whole number of its pixels; build without --native-grids"
            )
        own = {known.table[place].modality for place in places}
        parts.append(
            Part(
                modality=own.pop() if len(own) == 1 and "" not in own else f"{name}_{gsd:.0f}",
                channels=tuple(places),
                bands=tuple(known.table[place].name for place in places),
                factor=factor,
                gsd_m=gsd,
            )
        )
    if parts[0].factor > 1:
        raise UsageError(
            f"native grids: no band of {name} was measured at {known.gsd_m:g} m, where its windows "
            "and transforms count; build without --native-grids"
        )
    return parts


def _declared(declared: Declared, known: Known, part: Part) -> Declared:
    nodata = known.nodata
    return replace(
        declared,
        bands=part.bands,
        gsd_m=part.gsd_m,
        nodata=None if nodata is None else tuple(nodata[place] for place in part.channels),
    )


def make_native(
    make: Callable[[Any], Sample], plans: Mapping[str, list[Part]], task: Any
) -> Sample:
    """Make a sample and take the copies out of it, verified.

    Args:
        make: the source's own.
        plans: upsampled modality to its parts.
        task: for `make`.

    Raises:
        FMError: a band is not an exact copy, or a side is no multiple of the factor.
    """
    sample = make(task)
    arrays: dict[str, np.ndarray] = {}
    for name, array in sample.arrays.items():
        if name not in plans:
            arrays[name] = array
            continue
        for part in plans[name]:
            arrays[part.modality] = reduced(
                np.take(array, part.channels, axis=-3), part, f"sample {sample.key}: {name}"
            )
    return replace(sample, arrays=arrays)


def reduced(array: np.ndarray, part: Part, where: str) -> np.ndarray:
    """Return one pixel of each block, `[..., C, H / factor, W / factor]`, after comparing all.

    Raises:
        FMError: see `make_native`.
    """
    k = part.factor
    if k == 1:
        return array
    height, width = array.shape[-2:]
    if height % k or width % k:
        raise FMError(
            f"{where} is {height} x {width} pixels, no multiple of the {k} x {k} copies of "
            f"{', '.join(part.bands)}; build without --native-grids"
        )
    if not is_copied(array, k):
        bands = zip(part.bands, np.moveaxis(array, -3, 0), strict=True)
        name, pixels = next((n, p) for n, p in bands if not is_copied(p, k))
        found = copy_factor(pixels)
        saw = f"copies of {found} x {found}" if found > 1 else "no exact copies"
        raise FMError(
            f"{where}: band {name} of {part.gsd_m:g} m has {saw} where {k} x {k} equal pixels "
            "were expected; build without --native-grids"
        )
    return np.ascontiguousarray(array[..., ::k, ::k])


def _probe(content: Content) -> None:
    """Make the first samples, so that a product without copies stops before anything is written."""
    seen = 0
    for task in content.tasks:
        if seen == PROBED:
            return
        try:
            content.make(task)
        except Skip:
            continue
        seen += 1
