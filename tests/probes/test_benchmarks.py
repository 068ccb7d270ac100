from argparse import Namespace

import numpy as np
import pytest

import shards
from fm.errors import FMError, UsageError
from probes.benchmarks import get_benchmark, list_benchmarks
from probes.protocols import get_protocol, list_protocols
from shards.sources import get_source
from tests.probes import standin
from tests.shards.makers import written


def test_names_are_versioned_and_found_without_the_version():
    for name in list_benchmarks():
        assert get_benchmark(name.split("@")[0]).full_name == name
    for name in list_protocols():
        assert get_protocol(name.split("@")[0]).full_name == name
    with pytest.raises(UsageError, match="indian-pines"):
        get_benchmark("indian-pine")
    with pytest.raises(UsageError, match="linear"):
        get_protocol("liner")


def test_blocked_benchmark_keeps_each_pixel_in_the_split_of_its_block(blocks):
    data = get_benchmark("indian-pines").load(blocks)
    assert [len(data.of(s)) > 0 for s in ("train", "val", "test")] == [True] * 3
    assert len(data.classes) == 13
    assert not {"crop-1", "crop-7", "crop-9"} & set(data.classes)
    assert "crop-9" in data.notes[0]
    split_of = {s.key: s.split for s in shards.open(blocks)}
    assert [split_of[key] for key in data.shards] == data.split.tolist()
    for unit in np.unique(data.unit):
        assert len(set(data.split[data.unit == unit])) == 1
    pixels, label = standin.scene(side=36)
    names = np.array(data.classes)[data.targets]
    assert (names == "crop-11").sum() == (label == 11).sum()
    centre = data.read(np.arange(5)).pixels["aviris_20"][:, :, 4, 4]
    rows, cols = np.nonzero(np.isin(label, [2, 3, 4, 11]))
    np.testing.assert_array_equal(centre, pixels[:, rows[:5], cols[:5]].T)


def test_checkerboard_of_16_pixels(blocks):
    benchmark = get_benchmark("indian-pines-checkerboard")
    data = benchmark.load(blocks)
    label = standin.scene(side=36)[1]
    row, col = np.nonzero(label)
    want = np.where((row // 16 + col // 16) % 2 == 0, "train", "test")
    assert data.split.tolist() == want.tolist()
    assert len(data.classes) == 16
    assert data.read(np.arange(3)).pixels["aviris_20"].shape == (3, 200, 1, 1)


def test_blocks_not_larger_than_the_window_are_refused(tmp_path):
    pixels, label = standin.scene()
    small = standin.write_scene(tmp_path / "small", pixels, label, block=8)
    with pytest.raises(FMError, match="larger than the 9-px window"):
        get_benchmark("indian-pines").load(small)


@pytest.mark.data
def test_nc_landcover_samples_have_data_and_stay_in_their_block(package_cache, tmp_path):
    content = get_source("nc-landcover").read(Namespace(cache=package_cache, block=32))
    data = get_benchmark("nc-landcover").load(written(content, tmp_path / "ds").place)
    counts = np.bincount(data.targets, minlength=7)
    assert counts.sum() == 8446
    assert counts.min() > 0
    inputs = data.read(data.of("test")[::7])
    valid, pixels = inputs.valid["l7gls_28"], inputs.pixels["l7gls_28"]
    assert valid[:, 7, 7].all()
    assert not valid.all()
    assert ((pixels > 0).all(axis=1) == valid).all()
    for unit in np.unique(data.unit):
        assert len(set(data.split[data.unit == unit])) == 1


@pytest.mark.data
def test_neon_trees_has_as_many_of_both_and_no_pixel_of_another_split(package_cache, tmp_path):
    content = get_source("neon-trees").read(Namespace(cache=package_cache, block=32))
    data = get_benchmark("neon-trees").load(written(content, tmp_path / "ds").place)
    assert data.classes == ("ground", "tree")
    for split in ("train", "val", "test"):
        rows = data.of(split)
        assert 0.4 < data.targets[rows].mean() < 0.6
        assert len(np.unique(data.unit[rows])) > 60
    inputs = data.read(data.of("val")[::9])
    valid, pixels = inputs.valid["neonrgb_0"], inputs.pixels["neonrgb_0"]
    assert valid[:, 7, 7].all()
    assert not valid.all()
    assert (pixels * ~valid[:, None] == 0).all()
    for unit in np.unique(data.unit):
        assert len(set(data.split[data.unit == unit])) == 1


def test_pairs(pairs):
    both = get_benchmark("bigearthnet-s1s2").load(pairs)
    assert list(both.bands) == [*standin.S2L2A, "s1grd_10"]
    assert both.scaling["s2l2a_10"] == (1e-4, 0.0)
    assert both.scaling["s1grd_10"] == (1.0, 0.0)  # floating arrays are in dB already
    assert [len(both.of(s)) for s in ("train", "val", "test")] == [6, 6, 6]
    assert "only 6 test images" in both.notes[0]
    assert both.targets.shape == (18, 19)
    inputs = both.read(np.arange(4))
    assert inputs.pixels["s2l2a_60"].shape == (4, 2, 6, 6)
    assert inputs.valid is None
    optical = get_benchmark("bigearthnet-s2").load(pairs)
    assert "s1grd_10" not in optical.bands


def test_the_wrong_dataset_is_one_line_that_says_which(pairs, blocks):
    for name, folder in (("indian-pines", pairs), ("bigearthnet-s2", blocks)):
        with pytest.raises(FMError, match="fm shards build") as error:
            get_benchmark(name).load(folder)
        assert "\n" not in str(error.value)
