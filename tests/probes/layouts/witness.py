"""Open a fixture with our reader and with torchgeo's own class, and compare sample by sample."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fm.torchvision_guard import install
from probes.benchmarks.base import Data
from probes.benchmarks.declare import Declaration

TORCHGEO = "0.8.1"


def torchgeo_class(name: str) -> Any:
    """A class of `torchgeo.datasets`."""
    install()
    datasets = pytest.importorskip("torchgeo.datasets")
    return getattr(datasets, name)


def declared(declarations: tuple[Declaration, ...], name: str, **counts: int) -> Declaration:
    """A declaration, with the numbers of samples of a fixture in place of the published ones."""
    (found,) = [one for one in declarations if one.name == name]
    assert not counts or set(counts) == set(found.published)
    return replace(found, published=counts) if counts else found


def same_pixels(
    data: Data,
    rows: np.ndarray,
    theirs: list[np.ndarray],
    names: tuple[str, ...],
    modality: str,
    tolerance: float = 0.0,
) -> None:
    """Their samples, [C, H, W] with the band names they state, are ours by name.

    Every band of ours has to be among theirs.
    """
    assert len(rows) == len(theirs) > 0
    pixels = data.read(rows).pixels[modality].astype(np.float64)
    order = [names.index(band) for band in data.bands[modality]]
    for ours, other in zip(pixels, theirs, strict=True):
        np.testing.assert_allclose(ours, np.asarray(other, np.float64)[order], 0, tolerance)


def by_content(data: Data, rows: np.ndarray, modality: str, band: str) -> dict[float, int]:
    """Number of the sample that has a sum of a band, for classes that order otherwise."""
    place = data.bands[modality].index(band)
    sums = data.read(rows).pixels[modality][:, place].astype(np.float64).sum((1, 2))
    found = {float(s): int(r) for s, r in zip(sums, rows, strict=True)}
    assert len(found) == len(rows)
    return found


def folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A new folder for a fixture."""
    return tmp_path_factory.mktemp(name)


def whole(data: Data, key: str, date: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Put an image and its map together from their windows; the filled edges are left out."""
    rows = np.flatnonzero(data.shards == key)
    inputs = data.read(rows)
    inputs = inputs if date == 0 else inputs.after
    assert inputs is not None
    truth = data.maps(rows)
    side = truth.shape[-1]
    modality = next(iter(inputs.pixels))
    pixels = inputs.pixels[modality]
    known = np.ones((len(rows), side, side), bool)
    known = known if inputs.valid is None else inputs.valid[modality]
    across = next((n for n in range(1, len(rows)) if not known[n - 1, 0, -1]), None)
    if across is None:  # no filled column on the right: rows of windows end where the map says
        across = next(n for n in range(1, len(rows) + 1) if n * n == len(rows) or n == len(rows))
    lines = [slice(n, n + across) for n in range(0, len(rows), across)]
    image = np.concatenate([np.concatenate(pixels[line], -1) for line in lines], -2)
    answer = np.concatenate([np.concatenate(truth[line], -1) for line in lines], -2)
    inside = np.concatenate([np.concatenate(known[line], -1) for line in lines], -2)
    height, width = int(inside[:, 0].sum()), int(inside[0].sum())
    assert inside[:height, :width].all()
    assert inside.sum() == height * width
    assert (answer[~inside] == -1).all()
    return {modality: image[:, :height, :width]}, answer[:height, :width]
