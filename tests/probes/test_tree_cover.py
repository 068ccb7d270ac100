"""Tree-cover density: the source takes clear dates alone, the benchmark is the layer again."""

from argparse import Namespace

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from probes.benchmarks import get_benchmark
from shards.building.writer import Declared, Sample, write_dataset
from shards.format import LabelInfo
from shards.sources import get_source, tree_cover
from tests.shards.makers import written


def test_a_pixel_is_the_median_of_its_clear_dates():
    numbers = np.zeros((5, 2, 1, 3), np.uint16)
    numbers[:, 0, 0] = np.array([[10, 10, 7], [20, 20, 7], [30, 9000, 7], [40, 40, 7], [0, 50, 7]])
    numbers[:, 1, 0] = 5
    classes = np.full((5, 1, 3), 4)
    classes[2, 0, 1] = 9  # cloud
    classes[:, 0, 2] = 8  # never clear
    found, clear = tree_cover.median(numbers, classes)
    assert clear.tolist() == [[4, 4, 0]]
    assert found[0, 0].tolist() == [25, 30, 0]
    assert found[1, 0].tolist() == [5, 5, 0]


def _blocks(out, density):
    rng = np.random.default_rng(0)
    side = 10
    samples = []
    for place in range(9):
        row, col = place // 3 * side, place % 3 * side
        label = density[row : row + side, col : col + side]
        pixels = (label[None] * np.arange(1, 5)[:, None, None] + 100).astype(np.uint16)
        samples.append(
            Sample(
                key=f"b{place}",
                arrays={
                    "s2l2a_10": pixels + rng.integers(0, 9, pixels.shape, np.uint16),
                    "label": np.ascontiguousarray(label),
                },
                split=("train", "val", "test")[place % 3 if place < 6 else (place + 1) % 3],
                window=(row, col, side, side),
            )
        )
    write_dataset(
        out,
        samples,
        name="tree-cover",
        modalities={"s2l2a_10": Declared("sentinel2-l2a", tree_cover.BANDS, 1e-4, 0.0)},
        labels={"density": LabelInfo("density", "mask", tree_cover.PERCENT, 255, "label")},
        provenance={},
        licence="CC0-1.0",
    )
    return out


def test_a_sample_is_a_cell_of_20_m_and_sees_its_own_split_alone(tmp_path):
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 101, (15, 15)).astype(np.uint8)
    cells[0, 0] = 255
    data = get_benchmark("tree-cover").load(
        _blocks(tmp_path / "ds", cells.repeat(2, 0).repeat(2, 1))
    )
    assert data.targets.shape == (15 * 15 - 1, 1)
    assert data.targets.dtype == np.float64
    assert sorted(data.targets[:, 0]) == sorted(cells.ravel()[1:].astype(float))
    rows = data.of("test")
    inputs = data.read(rows)
    assert inputs.pixels["s2l2a_10"].shape == (len(rows), 4, 9, 9)
    middle = inputs.pixels["s2l2a_10"][:, 3, 4, 4].astype(float)
    assert (np.abs((middle - 100) / 4 - data.targets[rows, 0]) < 3).all()
    assert not inputs.valid["s2l2a_10"].all()
    assert any("few effective" in note for note in data.notes)


@pytest.mark.data
def test_the_dataset_is_the_layer_and_pixels_of_the_package(package_cache, tmp_path):
    import rasterio

    try:
        content = get_source("tree-cover").read(Namespace(cache=package_cache, block=10))
    except FMError as error:
        pytest.skip(str(error))
    written(content, tmp_path / "ds")
    data = get_benchmark("tree-cover").load(tmp_path / "ds")
    with rasterio.open(tree_cover.PACKAGE.folder(package_cache) / tree_cover.LAYER) as raster:
        layer = raster.read(1)
    assert len(data.targets) == 2500
    assert data.targets.mean() == pytest.approx(layer.mean())
    shares = [len(data.of(name)) / 2500 for name in ("train", "val", "test")]
    assert shares[0] > 0.4
    assert min(shares) > 0.1
    # trees are dark in the red: the numbers belong to the layer
    inputs = data.read(np.arange(2500))
    red = inputs.pixels["s2l2a_10"][:, 2, 4, 4].astype(float)
    assert np.corrcoef(red, data.targets[:, 0])[0, 1] < -0.3


def test_a_block_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--block 7"):
        get_source("tree-cover").read(Namespace(cache=tmp_path, block=7))
