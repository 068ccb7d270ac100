"""GEO-Bench v1: our reader, which loads no pickle, and the publisher's where it is installed."""

import datetime
import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import geobench, so2sat
from probes.benchmarks.geobench_v1 import DECLARATIONS, LEE
from tests.probes.layouts import geobench as layout
from tests.probes.layouts.scene import optical
from tests.probes.layouts.witness import declared

RGB = ("Red", "Green", "Blue")
AERIAL = (*RGB, "NearInfrared")
LANDSAT = ("04 - Red", "03 - Green", "02 - Blue", "05 - NIR", "06 - SWIR1", "07 - SWIR2")
CROPS = (*layout.L2A_NAMES, "Cloud Probability")
IDS = tuple(f"id_{n:04d}" for n in range(7))


def kiln(n: int) -> dict[str, np.ndarray]:
    """Means of several dates, and three channels of a colour picture under names of bands."""
    data = optical(layout.KILN, 64, 64, n) + 1 / 3
    picture = 70 + optical(("B10",) * 3, 64, 64, 50 + n)
    return dict(zip(layout.S2_NAMES, np.concatenate([data, picture]).astype("f8"), strict=True))


def both(n: int) -> dict[str, np.ndarray]:
    radar = np.random.default_rng(n).normal(0, 0.3, (8, 32, 32)).astype(np.float32)
    names = [name for name in layout.L2A_NAMES if name[:2] not in ("01", "09")]
    waves = layout.sentinel2(names, so2sat.OPTICAL, 32, "float32", 1e-4)(n)
    return dict(zip(LEE, radar, strict=True)) | waves


def landsat(n: int) -> dict[str, np.ndarray]:
    data = layout.pictures(LANDSAT, 332)(n)
    return {name: plane // (1 if name.startswith("05") else 3) for name, plane in data.items()}


def crops(n: int) -> dict[str, np.ndarray]:
    data = optical(layout.L2A, 256, 256, n) // 20
    cloud = np.zeros((1, 256, 256))
    return dict(zip(CROPS, np.concatenate([data, cloud]).astype(np.int16), strict=True))


def labels(n: int) -> np.ndarray:
    return (np.arange(43) + n) % 5 == 0


DATE = datetime.date(2017, 1, 1)
MADE = {
    "m-eurosat": {
        "bands": layout.sentinel2(layout.S2_NAMES, layout.EUROSAT, 64, "int16"),
        "label": lambda n: n % 10,
        "classes": 10,
    },
    "m-bigearthnet": {
        "bands": layout.sentinel2(layout.L2A_NAMES, layout.L2A, 120, "float32"),
        "label": lambda n: labels(n).astype(np.int64),
        "classes": 43,
    },
    "m-so2sat": {"bands": both, "label": lambda n: n + 5, "classes": 17},
    "m-so2sat-s1s2": {"bands": both, "label": lambda n: n + 5, "classes": 17},
    "m-brick-kiln": {"bands": kiln, "label": lambda n: n % 2, "classes": 2},
    "m-forestnet": {
        "bands": landsat,
        "label": lambda n: n + 2,
        "classes": 12,
        "ids": tuple(f"-1.5_{100 + n // 2}.25_2016_0{n + 1}_01" for n in range(7)),
        "date": DATE,
    },
    "m-pv4ger": {
        "bands": layout.pictures(RGB, 320),
        "label": lambda n: n % 2,
        "classes": 2,
        "ids": tuple(f"{50 + n}.5,6.25" if n % 2 else f"6.25,{50 + n}.5" for n in range(7)),
    },
    "m-pv4ger-seg": {
        "bands": layout.pictures(RGB, 320),
        "classes": 2,
        "ids": tuple(f"{50 + n}.5,6.25" for n in range(7)),
    },
    "m-chesapeake-landcover": {
        "bands": layout.pictures(AERIAL, 256, "float32", 1 / 255),
        "classes": 7,
    },
    "m-SA-crop-type": {
        "bands": crops,
        "classes": 10,
        "ids": tuple(f"labels_{1000 + n // 2}_{n % 2}" for n in range(7)),
    },
    "m-nz-cattle": {
        "bands": layout.pictures(RGB, 500),
        "classes": 2,
        "ids": tuple(f"{n}_Kiwi_[2016-2017]_175.{n},-40.5_{n}" for n in range(7)),
        "date": DATE,
    },
    "m-NeonTree": {
        "bands": layout.pictures(RGB, 400),
        "classes": 2,
        "ids": ("SITE_1_00_00", "SITE_1_00_01", "SITE_2_00_00", *(f"EVAL_{n}" for n in range(4))),
    },
}
TASKS = {one.name: one for one in DECLARATIONS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write a task's folder, once."""
    root, there = tmp_path_factory.mktemp("geobench"), {}

    def make(name: str) -> Path:
        of = "m-so2sat" if name == "m-so2sat-s1s2" else name
        if of not in there:
            about = dict(MADE[of])
            side = TASKS[name].arrays[0].size[0]
            label = about.pop("label", None) or layout.maps(about["classes"], side)
            ids = about.pop("ids", IDS)
            there[of] = layout.write(
                root / of, label=label, task=TASKS[name].task, ids=ids, **about
            )
        return there[of]

    return make


def ours(name: str, folder: Path):
    one = TASKS[name]
    counts = layout.COUNTS if set(one.published) == set(layout.COUNTS) else {}
    return declared(DECLARATIONS, name, **counts).load(folder)


def source(name: str) -> dict:
    about = MADE[name]
    return {"bands": about["bands"], "ids": about.get("ids", IDS), "label": about.get("label")}


@pytest.mark.parametrize("name", list(MADE))
def test_every_band_is_the_one_it_is_called(name, made):
    """Against what was written, by the fixture's own knowledge of which band stands where."""
    data = ours(name, made(name))
    written = source(name)
    assert [str(k) for k in data.shards] == list(written["ids"])
    assert data.split.tolist() == ["train"] * 3 + ["val"] * 2 + ["test"] * 2
    stands = {"m-eurosat": layout.EUROSAT, "m-brick-kiln": layout.KILN}
    read = data.read(np.arange(7))
    for n in range(7):
        raw = written["bands"](n)
        for layer in layers(name):
            modality, factor = layer.array.modality, layer.factor
            names = list(raw)
            for band, plane in zip(data.bands[modality], read.pixels[modality][n], strict=True):
                if name in stands:
                    wanted = raw[names[stands[name].index(band)]]
                else:
                    wanted = raw[layer.names[layer.array.file_bands.index(band)]]
                np.testing.assert_allclose(plane, wanted * factor, rtol=1e-6)
    if written["label"] is None:
        label = layout.maps(len(data.classes), next(iter(read.pixels.values())).shape[-1])
        np.testing.assert_array_equal(data.maps(np.arange(7)), [label(n) for n in range(7)])
    else:
        assert data.targets.tolist() == [np.asarray(written["label"](n)).tolist() for n in range(7)]


def layers(name: str) -> tuple[geobench.Layer, ...]:
    return TASKS[name].scan.keywords["layers"]


@pytest.mark.parametrize("name", [name for name in MADE if name != "m-so2sat-s1s2"])
def test_the_publishers_package_reads_the_same_files_alike(name, made):
    """geobench 1.1.0 needs Python 3.12; here wherever it is installed."""
    package = pytest.importorskip("geobench")
    folder = made(name)
    data = ours(name, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that the names of two tasks are wrong
        theirs = package.GeobenchDataset(folder)
    for part, their_part in (("train", "train"), ("val", "valid"), ("test", "test")):
        theirs.set_split(their_part)
        rows = data.of(part)
        assert len(theirs) == len(rows)
        for row, sample in zip(rows, (theirs[i] for i in range(len(rows))), strict=True):
            assert sample.sample_name == data.shards[row]
            by_name = {band.band_info.name: band.data for band in sample.bands}
            pixels = data.read(np.array([row])).pixels
            for layer in layers(name):
                got = pixels[layer.array.modality][0]
                for place, plane in zip(layer.array.order, got, strict=True):
                    wanted = by_name[layer.names[place]] * layer.factor
                    np.testing.assert_allclose(plane, wanted, rtol=1e-6)
            if data.maps is None:
                assert np.array_equal(data.targets[row], sample.label)
            else:
                np.testing.assert_array_equal(data.maps(np.array([row]))[0], sample.label.data)


def test_places_and_blocks_come_from_names(made):
    forest = ours("m-forestnet", made("m-forestnet"))
    assert forest.lonlat(np.array([0, 6])).tolist() == [[100.25, -1.5], [103.25, -1.5]]
    assert len(set(forest.unit.tolist())) == 4, "dates of a place are one block"
    roofs = ours("m-pv4ger", made("m-pv4ger")).lonlat(np.arange(7))
    assert roofs.tolist() == [[6.25, 50.5 + n] for n in range(7)], "whichever comes first"
    cattle = ours("m-nz-cattle", made("m-nz-cattle")).lonlat(np.array([3]))
    assert cattle.tolist() == [[175.3, -40.5]]
    assert len(set(ours("m-SA-crop-type", made("m-SA-crop-type")).unit.tolist())) == 4
    assert len(set(ours("m-NeonTree", made("m-NeonTree")).unit.tolist())) == 6


@pytest.mark.parametrize("name", ["m-pv4ger", "m-pv4ger-seg", "m-nz-cattle"])
def test_blocked_twins_have_the_samples_and_divide_no_square(name, made):
    one = TASKS[f"{name}-block"]
    counts = layout.COUNTS if one.published else {}
    data = declared(DECLARATIONS, one.name, **counts).load(made(name))
    whole = ours(name, made(name))
    assert sorted(data.shards) == sorted(whole.shards)
    assert {len(set(data.split[data.unit == unit])) for unit in set(data.unit.tolist())} == {1}
    assert set(data.split) == {"train", "val", "test"}


def test_names_of_bands_that_are_not_theirs_are_refused(tmp_path):
    """The files' own names on the files' numbers, and files that were mended."""
    from dataclasses import replace

    one = declared(DECLARATIONS, "m-eurosat", **layout.COUNTS)
    folder = layout.write(
        tmp_path / "mended",
        layout.sentinel2(layout.S2_NAMES, layout.L1C, 64, "int16"),
        lambda n: n,
        10,
        "class",
        IDS,
    )
    with pytest.raises(FMError, match=r"mean\(B8A\) is 0\.49 x mean\(B08\)"):
        one.load(folder)
    brick = declared(DECLARATIONS, "m-brick-kiln", **layout.COUNTS)
    (layer,) = layers("m-brick-kiln")
    named = replace(layer, array=replace(layer.array, file_bands=layout.L2A[:10]))
    believed = replace(
        brick,
        arrays=(named.array,),
        scan=lambda folder: geobench.scan(folder, (named,), brick.classes, "class"),
    )
    folder = layout.write(tmp_path / "kiln", kiln, lambda n: n % 2, 2, "class", IDS)
    brick.load(folder)
    with pytest.raises(FMError, match=r"mean\(B8A\) is 0\.7\d x mean\(B08\)"):
        believed.load(folder)


def write(tmp_path, name="m-eurosat", **changes):
    about = {"ids": IDS, "task": TASKS[name].task, **MADE[name], **changes}
    return layout.write(tmp_path / name, **about)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "id_0003.hdf5").unlink(), r"no id_0003; the download is incomplete"),
        (lambda root: (root / "task_specs.pkl").unlink(), r"task_specs\.pkl: cannot be read"),
        (
            lambda root: (root / "task_specs.pkl").write_bytes(b"junk"),
            r"task_specs\.pkl: its pickle is damaged",
        ),
        (
            lambda root: (root / "default_partition.json").write_text("[]"),
            r"default_partition\.json: expected lists of names under train, valid and test",
        ),
        (
            lambda root: (root / "default_partition.json").unlink(),
            r"default_partition\.json: this list cannot be read",
        ),
        (
            lambda root: (root / "default_partition.json").write_text(
                json.dumps({"train": ["id_0000"] * 3, "valid": ["id_0003"], "test": ["id_0005"]})
            ),
            r"id_0000 stand in the lists twice",
        ),
        (
            lambda root: (root / "default_partition.json").write_text(
                json.dumps({"train": ["id_0000"], "valid": ["id_0003"], "test": ["id_0005"]})
            ),
            r"1 samples in train, the published list of m-eurosat@1 has 3",
        ),
    ],
)
def test_what_is_not_the_published_folder_is_refused(tmp_path, change, message):
    root = write(tmp_path)
    change(root)
    with pytest.raises(FMError, match=message):
        ours("m-eurosat", root)


def edit(root: Path, do) -> None:
    with h5py.File(root / "id_0000.hdf5", "r+") as file:
        do(file)


def double(file) -> None:
    file["02 - Blue_2017-01-01"] = file["02 - Blue"][:]


def halve(file) -> None:
    data = file["02 - Blue"][:] / 2.0
    del file["02 - Blue"]
    file["02 - Blue"] = data + 0.25


def drop(file) -> None:
    del file["04 - Red"]


def smaller(file) -> None:
    data = file["04 - Red"][:32]
    del file["04 - Red"]
    file["04 - Red"] = data


def no_pickle(file) -> None:
    del file.attrs["pickle"]


def a_call(file) -> None:
    file.attrs["pickle"] = "__import__('os').getcwd()"


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (double, r"2 datasets of '02 - Blue', expected 1"),
        (halve, r"'02 - Blue' holds .* expected whole numbers that fit int16"),
        (drop, r"0 datasets of '04 - Red', expected 1"),
        (smaller, r"id_0000\.hdf5: bands of several sizes"),
        (no_pickle, r"id_0000\.hdf5: its attribute `pickle` is no printed pickle"),
        (a_call, r"id_0000\.hdf5: its attribute `pickle` is no printed pickle"),
    ],
)
def test_a_sample_that_is_not_as_published_is_refused(tmp_path, do, message):
    root = write(tmp_path)
    edit(root, do)
    with pytest.raises(FMError, match=message):
        ours("m-eurosat", root)


def test_classes_that_are_unknown_or_another_task_are_refused(tmp_path):
    root = write(tmp_path, label=lambda n: 8 + n)
    with pytest.raises(FMError, match=r"id_0002\.hdf5: label is 10, expected 0 to 9"):
        ours("m-eurosat", root)
    root = write(tmp_path / "b", label=lambda n: np.arange(10) % 2)
    with pytest.raises(FMError, match=r"label is int64 \(10,\), expected a class of 10"):
        ours("m-eurosat", root)
    root = write(tmp_path / "c", classes=12)
    with pytest.raises(FMError, match=r"task_specs\.pkl: tells 12 classes, expected 10"):
        ours("m-eurosat", root)
    root = write(tmp_path / "d", bands=layout.pictures(RGB, 64))
    with pytest.raises(FMError, match=r"task_specs\.pkl: names no band '01 - Coastal aerosol'"):
        ours("m-eurosat", root)


def test_a_hostile_sample_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "ran",)

    import pickle

    root = write(tmp_path)
    with h5py.File(root / "id_0000.hdf5", "r+") as file:
        file.attrs["pickle"] = str(pickle.dumps({"label": 4, "bands_order": Hostile()}))
    assert ours("m-eurosat", root).targets[0] == 4
    with h5py.File(root / "id_0000.hdf5", "r+") as file:
        file.attrs["pickle"] = str(pickle.dumps({"label": Hostile()}))
    with pytest.raises(FMError, match="holds no plain numbers"):
        ours("m-eurosat", root)
    assert not (tmp_path / "ran").exists()
