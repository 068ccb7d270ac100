"""The places in which the seed paper's code puts Sentinel-2 bands, and the right ones.

Corley et al., "Revisiting pre-trained remote sensing model benchmarks" (arXiv 2305.13456), feed
weights of 13 bands (Sentinel-2 L1C in the order of the sensor, B8A in the ninth place) with

- EuroSAT in the order of its files, which hold B8A last: five bands stand in places of others;
- sets of 12 bands (BigEarthNet, TreeSatAI: no B10) with a plane of zeros in the ninth place and not
  in the eleventh: B8A and B09 stand one place too far.

Their published numbers are compared with in the same places; the corrected twin uses its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probes.benchmarks.base import Data, Inputs

PLANES = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B8A", "B09", "B10", "B11", "B12"),
)
"""Places of the 13-band weights."""
EUROSAT_FILES = (*PLANES[:8], *PLANES[9:], "B8A")
"""Order of the bands in EuroSAT's files."""
ABSENT = "B10"
"""The band that L2A products lack."""


def places(bands: Sequence[str], *, defects: bool) -> tuple[str | None, ...] | None:
    """Say which band is put into each of the 13 places.

    Args:
        bands: those of the data, in any order.
        defects: as the seed paper's code does it, or rightly.

    Returns:
        a band of the data for each of `PLANES`, None for a plane of zeros; or None altogether where
        the bands are neither the 13 of L1C nor the 12 without B10, which that code leaves alone.
    """
    if set(bands) == set(PLANES):
        return EUROSAT_FILES if defects else PLANES
    twelve = [band for band in PLANES if band != ABSENT]
    if set(bands) != set(twelve):
        return None
    at = 8 if defects else PLANES.index(ABSENT)
    return (*twelve[:at], None, *twelve[at:])


def planes(pixels: np.ndarray, bands: Sequence[str], order: Sequence[str | None]) -> np.ndarray:
    """Put the bands of [B, C, H, W] into 13 places: [B, 13, H, W], see `places`."""
    out = np.zeros((len(pixels), len(order), *pixels.shape[2:]), pixels.dtype)
    for place, band in enumerate(order):
        if band is not None:
            out[:, place] = pixels[:, list(bands).index(band)]
    return out


def rearrange(data: Data, *, defects: bool) -> Data | None:
    """Return a benchmark whose Sentinel-2 bands stand in 13 places, named after the places.

    None where no bands of it are concerned. A model that reads bands by name then takes what the
    seed paper's weights were given; it also normalises each plane as the band of its place.
    """
    found = {m: places(bands, defects=defects) for m, bands in data.bands.items()}
    orders = {m: order for m, order in found.items() if order is not None}
    if not orders:
        return None

    def read(index: NDArray[np.int64]) -> Inputs:
        inputs = data.read(index)
        pixels = {
            m: planes(x, data.bands[m], orders[m]) if m in orders else x
            for m, x in inputs.pixels.items()
        }
        return replace(inputs, pixels=pixels)

    return replace(data, read=read, bands={**data.bands, **dict.fromkeys(orders, PLANES)})
