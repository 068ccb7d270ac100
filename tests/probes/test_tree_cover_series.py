"""Tree cover from series: cloudy dates are none, windows see their own split, the layer is kept."""

from argparse import Namespace
from datetime import UTC, datetime

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import get_benchmark
from shards.building.writer import Declared, Sample, write_dataset
from shards.format import LabelInfo
from shards.sources import get_source, tree_cover, tree_cover_series
from tests.shards.makers import written

TIMES = ("2018-01-05T00:00:00Z", "2018-04-05T00:00:00Z", "2018-07-04", "2019-01-10", "2019-06-09")
SIDE = 8


def test_pixels_that_are_not_clear_hold_no_data():
    numbers = np.full((2, 2, 1, 4), 7, np.uint16)
    numbers[0, 1, 0, 3] = 0  # one band without data
    classes = np.array([[[4, 9, 5, 4]], [[8, 7, 11, 3]]])
    found = tree_cover_series.masked(numbers, classes)
    assert found[0].tolist() == [[[7, 0, 7, 0]], [[7, 0, 7, 0]]]
    assert found[1].tolist() == [[[0, 7, 0, 0]], [[0, 7, 0, 0]]]


def scene(seed=0):
    """Series [5, 4, 24, 24] that tell band, date and place, with clouds, and densities."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[:24, :24]
    pixels = np.zeros((5, 4, 24, 24), np.uint16)
    for t in range(5):
        for band in range(4):
            pixels[t, band] = 10_000 * band + 2000 * t + 30 * row + col + 1
    clear = rng.random((5, 12, 12)).repeat(2, 1).repeat(2, 2) < 0.8
    clear[:, 4, 5] = False  # one pixel of a cell is never clear
    clear[1, 10, 10] = False
    density = rng.integers(0, 101, (12, 12)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    return np.where(clear[:, None], pixels, np.uint16(0)), density


def write(out, times=TIMES):
    pixels, density = scene()
    samples = []
    for place in range(9):
        row, col = place // 3 * SIDE, place % 3 * SIDE
        box = (slice(row, row + SIDE), slice(col, col + SIDE))
        samples.append(
            Sample(
                key=f"b{place}",
                arrays={
                    "s2l2a_10": np.ascontiguousarray(pixels[:, :, *box]),
                    "label": np.ascontiguousarray(density[box]),
                },
                split=("train", "val", "test")[(place + place // 3) % 3],
                window=(row, col, SIDE, SIDE),
                times=times,
            )
        )
    declared = Declared("sentinel2-l2a", tree_cover.BANDS, 1e-4, 0.0, nodata=(0,) * 4)
    write_dataset(
        out,
        samples,
        name="tree-cover-series",
        modalities={"s2l2a_10": declared},
        labels={"density": LabelInfo("density", "mask", tree_cover.PERCENT, 255, "label")},
        provenance={},
        licence="CC0-1.0",
    )
    return out


def test_a_sample_is_a_cell_on_the_dates_on_which_it_is_clear(tmp_path):
    data = get_benchmark("tree-cover-series").load(write(tmp_path / "ds"))
    pixels, density = scene()
    clear = (pixels > 0).all(1).reshape(5, 12, 2, 12, 2).all((2, 4))[:, ::2, ::2]
    wanted = [(r, c) for r in range(6) for c in range(6) if clear[:, r, c].sum() >= 3]
    assert (1, 1) not in wanted  # its cell holds the pixel that is never clear
    assert data.targets[:, 0].tolist() == [float(density[4 * r, 4 * c]) for r, c in wanted]
    times = np.array(
        [datetime.fromisoformat(t[:10]).replace(tzinfo=UTC).timestamp() for t in TIMES]
    )
    dates = data.dates
    for n, (r, c) in enumerate(wanted):
        numbers = np.arange(*dates.starts[n : n + 2])
        seen = np.flatnonzero(clear[:, r, c])
        assert dates.times[numbers].tolist() == times[seen].tolist()
        inputs = dates.images(numbers)
        window, valid = inputs.pixels["s2l2a_10"], inputs.valid["s2l2a_10"]
        row, col = 4 * r, 4 * c
        np.testing.assert_array_equal(window[:, :, 4, 4], pixels[seen][:, :, row, col])
        assert (window[np.broadcast_to(~valid[:, None], window.shape)] == 0).all()
        # pixels of the sample's own block alone, and clear on that date
        top, left = row // SIDE * SIDE, col // SIDE * SIDE
        for i in range(9):
            for j in range(9):
                y, x = row + i - 4, col + j - 4
                inside = 0 <= y < 24 and 0 <= x < 24
                own = inside and _split(data, y, x) == data.split[n]
                expected = own and (pixels[seen][:, :, y, x] > 0).all(1)
                np.testing.assert_array_equal(valid[:, i, j], expected)
        assert top <= row < top + SIDE
        assert left <= col < left + SIDE
    assert dates.years
    assert any("are the effective samples" in note for note in data.notes)
    assert get_benchmark("tree-cover-series").series


def _split(data, y, x):
    place = y // SIDE * 3 + x // SIDE
    return ("train", "val", "test")[(place + place // 3) % 3]


def test_a_dataset_without_dates_is_refused(tmp_path):
    with pytest.raises(FMError, match="blocks without dates"):
        get_benchmark("tree-cover-series").load(write(tmp_path / "ds", times=None))


@pytest.mark.data
def test_the_dataset_is_the_cube_and_layer_of_the_package(package_cache, tmp_path):
    import rasterio

    try:
        content = get_source("tree-cover-series").read(Namespace(cache=package_cache, block=10))
    except FMError as error:
        pytest.skip(str(error))
    written(content, tmp_path / "ds")
    data = get_benchmark("tree-cover-series").load(tmp_path / "ds")
    with rasterio.open(tree_cover.PACKAGE.folder(package_cache) / tree_cover.LAYER) as raster:
        layer = raster.read(1)
    assert (len(data.targets), len(data.dates.owner)) == (625, 51360)
    assert data.targets.mean() == pytest.approx(layer[::2, ::2].mean())
    assert [len(data.of(name)) for name in ("train", "val", "test")] == [296, 142, 187]
    assert [len(np.unique(data.unit[data.of(s)])) for s in ("train", "val", "test")] == [50, 20, 30]
    # leaves come and go: infrared over red rises from winter to summer
    inputs = data.dates.images(np.arange(len(data.dates.owner)))
    red, infrared = (inputs.pixels["s2l2a_10"][:, k, 4, 4].astype(float) for k in (2, 3))
    green = (infrared - red) / (infrared + red)
    summer = (data.dates.days > 150) & (data.dates.days < 240)
    winter = (data.dates.days < 60) | (data.dates.days > 330)
    assert green[summer].mean() > green[winter].mean() + 0.2
