"""Crops of grids whose sizes do or do not nest."""

from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import FMError
from tests.conftest import tiny_samples, write_tiny


def sized(folder: Path, *sizes: tuple[int, int]) -> shards.Dataset:
    """One sample whose grids have these heights and widths, finest first."""
    write_tiny(folder / "base", 1)
    found = shards.open(folder / "base").info
    (sample,) = tiny_samples(1)
    arrays = {
        name: np.arange(len(pixels) * h * w, dtype=np.uint16).reshape(len(pixels), h, w)
        for (name, pixels), (h, w) in zip(sample.arrays.items(), sizes, strict=True)
    }
    shards.write_dataset(
        folder / "d",
        [shards.Sample(key="a", arrays=arrays)],
        name="d",
        modalities={
            name: shards.Declared(m.sensor, m.bands) for name, m in found.modalities.items()
        },
        provenance={},
        licence="",
    )
    return shards.open(folder / "d")


@pytest.mark.parametrize(
    "sizes",
    [
        ((108, 96), (48, 48), (18, 16)),  # the widths nest, the heights do not
        ((96, 108), (48, 48), (16, 18)),
        ((96, 96), (40, 48), (16, 16)),
    ],
)
def test_grids_must_nest_on_both_axes(
    tmp_path: Path, sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
) -> None:
    with pytest.raises(FMError, match="do not nest"):
        sized(tmp_path, *sizes).loader(1, crop=12)


def test_a_tall_sample_is_cropped_over_the_same_ground(tmp_path: Path) -> None:
    ds = sized(tmp_path, (36, 24), (18, 12), (6, 4))
    batch = next(ds.loader(1, crop=24))
    for name, ratio in (("s2l1c_10", 1), ("s2l1c_20", 2), ("s2l1c_60", 6)):
        cut = ds.read(0)[name][:, 6 // ratio : 30 // ratio]
        assert np.array_equal(batch.pixels[name][0].numpy(), cut)
