"""A look at a dataset's own pixels before a run: evenly spread samples, in physical units."""

from collections.abc import Iterator, Sequence

import numpy as np

import shards
from fm.errors import FMError
from fm.statistics import Statistics

SAMPLES = 2_000
"""At most so many samples are looked at, spread over the dataset."""
PIXELS = 400_000
"""About so many pixels are taken from them, as many from each."""


def look(
    dataset: shards.Dataset,
    modality: str,
    bands: Sequence[str],
    *,
    pixels: int = PIXELS,
    max_bad: float = 0.0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Take some pixels from samples spread over a dataset.

    Neighbouring pixels say the same, so the samples count, not the pixels: up to `SAMPLES` are
    read and an even share is taken from each. What is taken depends on the numbers alone, so every
    rank sees the same.

    Args:
        dataset: filtered as the run filters it.
        modality: which array.
        bands: which of its bands, in this order.
        pixels: about how many to take.
        max_bad: share of the samples that may be unreadable; they are left out.

    Yields:
        physical values `[C, P]` float32, 0 where there is no data, and where there is, bool.

    Raises:
        FMError: more samples than `max_bad` cannot be read; the last one's own error.
    """
    info = dataset.modalities[modality]
    places = [info.bands.index(band) for band in bands]
    codes = info.nodata or (None,) * len(info.bands)
    chosen = _spread(len(dataset))[:SAMPLES]
    share = max(pixels // max(len(chosen), 1), 1)
    bad = 0
    for turn, i in enumerate(chosen):
        try:
            read = dataset.read(i, [modality])[modality]
        except FMError:
            bad += 1
            if bad > max_bad * len(chosen):
                raise
            continue
        flat = np.moveaxis(read[..., places, :, :], -3, 0).reshape(len(places), -1)
        step = max(flat.shape[1] // share, 1)
        taken = flat[:, turn % step :: step]
        if taken.dtype.kind == "f":
            known = np.isfinite(taken)
            physical = taken.astype(np.float32)
        else:
            known = np.ones(taken.shape, bool)
            for band, place in enumerate(places):
                if codes[place] is not None:
                    known[band] = taken[band] != codes[place]
            physical = taken.astype(np.float32) * np.float32(info.scale) + np.float32(info.offset)
        yield np.where(known, physical, np.float32(0)), known


def statistics(
    dataset: shards.Dataset, modality: str, bands: Sequence[str], *, max_bad: float = 0.0
) -> dict[str, list[float]]:
    """Return statistics of the samples that the dataset's filter leaves, as `ds.statistics`.

    Raises:
        FMError: a band without a valid pixel.
    """
    if not len(dataset):
        raise FMError(f"{dataset.place}: no samples to take statistics of")
    found = Statistics(bands)
    for physical, known in look(dataset, modality, bands, max_bad=max_bad):
        found.update(physical.astype(np.float64), known)
    told = found.to_dict()
    return {key: values for key, values in told.items() if not key.startswith("histogram")}


def _spread(count: int) -> list[int]:
    """Return 0 to count - 1 so that any first part is spread over the whole (van der Corput)."""
    bits = max(count - 1, 1).bit_length()
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in reversed_bits if i < count]
