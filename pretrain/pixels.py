"""A look at a dataset's own pixels before a run: evenly spread samples, in physical units."""

from collections.abc import Iterator, Sequence

import numpy as np

import shards
from fm.errors import FMError
from fm.normalize import Statistics

ENOUGH = 400_000
"""Pixels after which no more are read: a mean is then known to 0.2 % of a standard deviation."""


def look(
    dataset: shards.Dataset, modality: str, bands: Sequence[str], *, enough: int = ENOUGH
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read samples spread over a dataset until enough pixels were seen.

    The order depends on the number of samples alone, so every rank sees the same.

    Args:
        dataset: filtered as the run filters it.
        modality: which array.
        bands: which of its bands, in this order.
        enough: stop after so many pixels.

    Yields:
        physical values `[..., C, H, W]` float32, 0 where there is no data, and where there is,
        bool of the same shape.
    """
    info = dataset.modalities[modality]
    places = [info.bands.index(band) for band in bands]
    codes = info.nodata or (None,) * len(info.bands)
    seen = 0
    for i in _spread(len(dataset)):
        pixels = dataset.read(i, [modality])[modality][..., places, :, :]
        if pixels.dtype.kind == "f":
            known = np.isfinite(pixels)
            physical = pixels.astype(np.float32)
        else:
            known = np.ones(pixels.shape, bool)
            for band, place in enumerate(places):
                if codes[place] is not None:
                    known[..., band, :, :] = pixels[..., band, :, :] != codes[place]
            physical = pixels.astype(np.float32) * np.float32(info.scale) + np.float32(info.offset)
        yield np.where(known, physical, np.float32(0)), known
        seen += known.size // len(places)
        if seen >= enough:
            return


def statistics(
    dataset: shards.Dataset, modality: str, bands: Sequence[str]
) -> dict[str, list[float]]:
    """Return statistics of the samples that the dataset's filter leaves, as `ds.statistics`.

    Raises:
        FMError: a band without a valid pixel.
    """
    found = Statistics(bands)
    for physical, known in look(dataset, modality, bands):
        found.update(_bands_first(physical).astype(np.float64), _bands_first(known))
    if not len(dataset):
        raise FMError(f"{dataset.place}: no samples to take statistics of")
    told = found.to_dict()
    return {key: values for key, values in told.items() if not key.startswith("histogram")}


def _bands_first(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -3, 0)


def _spread(count: int) -> list[int]:
    """Return 0 to count - 1 so that any first part is spread over the whole (van der Corput)."""
    bits = max(count - 1, 1).bit_length()
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in reversed_bits if i < count]
