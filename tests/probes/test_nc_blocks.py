import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import get_benchmark
from probes.benchmarks.nc_change import PAIRS
from tests.probes import dense_standin as standin

M = standin.MODALITY


@pytest.fixture(scope="module")
def scene():
    return standin.scene()


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    return standin.write(tmp_path_factory.mktemp("nc") / "ds", *scene)


def everything(data, rows):
    inputs = data.read(rows)
    found = [inputs.pixels[M], inputs.valid[M], data.maps(rows)]
    if inputs.after is not None:
        found += [inputs.after.pixels[M], inputs.after.valid[M]]
    return found


def test_images_are_the_blocks_and_unlabelled_or_invalid_pixels_do_not_count(scene, folder):
    data = get_benchmark("nc-landcover-seg").load(folder)
    assert len(data.split) == 36
    assert data.classes == standin.CLASSES[1:]
    for n, key in enumerate(data.shards):
        row, col = int(key[1:4]), int(key[5:8])
        box = (slice(row, row + 16), slice(col, col + 16))
        pixels, valid, truth = everything(data, np.array([n]))
        known = (scene[0][:, *box] != 0).all(0)
        np.testing.assert_array_equal(valid[0], known)
        np.testing.assert_array_equal(pixels[0], scene[0][:, *box] * known)
        want = np.where(known & (scene[1][box] > 0), scene[1][box].astype(int) - 1, -1)
        np.testing.assert_array_equal(truth[0], want)
    assert not data.read(np.array([0])).valid[M].all()


@pytest.mark.parametrize("name", ["nc-landcover-seg", "nc-change-simulated"])
def test_no_pixel_of_another_split_is_seen(name, scene, folder, tmp_path):
    """Every pixel and label outside the training blocks is changed; training stays as it was."""
    data = get_benchmark(name).load(folder)
    pixels, label = (x.copy() for x in scene)
    for key, split in zip(data.shards, data.split, strict=True):
        if split != "train":
            row, col = int(key[1:4]), int(key[5:8])
            box = (slice(row, row + 16), slice(col, col + 16))
            # once a block, whatever the number of its pairs
            pixels[:, *box] = 255 - scene[0][:, *box]
            label[box] = (scene[1][box] + 1) % 5
    other = get_benchmark(name).load(standin.write(tmp_path / "ds", pixels, label))
    rows = data.of("train")
    np.testing.assert_array_equal(rows, other.of("train"))
    for mine, theirs in zip(everything(data, rows), everything(other, rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    test = data.of("test")
    assert not np.array_equal(everything(data, test)[0], everything(other, test)[0])


def test_change_is_exact_where_the_ground_is_the_same(folder):
    """Undoing gain and offset on unchanged ground gives the first date's pixels."""
    data = get_benchmark("nc-change-simulated").load(folder)
    assert len(data.split) == 36 * PAIRS
    np.testing.assert_array_equal(data.unit, np.repeat(np.arange(36), PAIRS))
    rows = np.arange(len(data.split))
    first, _, truth, second, _ = everything(data, rows)
    assert set(np.unique(truth)) == {-1, 0, 1}
    share = (truth == 1).sum() / (truth >= 0).sum()
    assert 0.05 < share < 0.4
    for n in (0, 7, 50):
        outside = truth[n] == 0
        for band in range(6):
            x, y = first[n, band][outside].astype(float), second[n, band][outside].astype(float)
            slope, start = np.polyfit(x, y, 1)
            # most unchanged ground follows one line; replaced ground of its class is near it
            assert np.median(np.abs(y - slope * x - start)) < 6
            assert 0.7 < slope < 1.3
    # the spectra of the classes lie far apart, so changed ground does not follow the line
    changed = truth == 1
    moved = np.abs(first.astype(float) - second).mean(1)
    assert moved[changed].mean() > 3 * moved[truth == 0].mean()


def test_pairs_are_the_same_each_time_and_differ_from_each_other(folder):
    data, again = (get_benchmark("nc-change-simulated").load(folder) for _ in range(2))
    rows = np.arange(PAIRS)
    for mine, theirs in zip(everything(data, rows), everything(again, rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    maps = data.maps(rows)
    assert not np.array_equal(maps[0], maps[1])
    first = data.read(rows).pixels[M]
    np.testing.assert_array_equal(first[0], first[1])


def test_pixels_without_data_in_either_date_do_not_count(folder):
    data = get_benchmark("nc-change-simulated").load(folder)
    rows = np.arange(len(data.split))
    _, before, truth, second, after = everything(data, rows)
    assert (truth[~(before & after)] == -1).all()
    assert (second.transpose(0, 2, 3, 1)[~after] == 0).all()
    assert (second.transpose(0, 2, 3, 1)[after] > 0).all()


def test_another_dataset_is_refused(tmp_path, blocks):
    for name in ("nc-landcover-seg", "nc-change-simulated"):
        with pytest.raises(FMError, match="fm shards build nc-landcover"):
            get_benchmark(name).load(blocks)


@pytest.mark.data
def test_the_real_scene(package_cache, tmp_path):
    from fm.cli import main

    out = tmp_path / "nc"
    command = ["shards", "build", "nc-landcover", "--out", str(out), "--cache", str(package_cache)]
    assert main(command) == 0
    data = get_benchmark("nc-landcover-seg").load(out)
    counts = [len(data.of(split)) for split in ("train", "val", "test")]
    assert counts == [77, 34, 45]
    truth = data.maps(np.arange(len(data.split)))
    found = np.bincount(truth[truth >= 0], minlength=7).tolist()
    assert found == [40510, 500, 18249, 9668, 64186, 1785, 194]
    change = get_benchmark("nc-change-simulated").load(out)
    known = change.maps(change.of("test"))
    assert 0.12 < (known == 1).sum() / (known >= 0).sum() < 0.2
