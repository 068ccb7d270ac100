"""SpectralEarth's tasks: the folders as published, the masks by an own rule, the order of bands."""

import csv
from functools import cache

import numpy as np
import pytest
import rasterio
import torch
from torch.nn import functional

from fm.errors import FMError
from probes.benchmarks import hyperview, legends, spectra, spectral_earth
from probes.benchmarks.coded_maps import CodedMaps
from tests.probes.layouts import spectral_earth as made
from tests.probes.layouts.witness import declared, torchgeo_class

TASKS = {
    "enmap-cdl": ("cdl", (0, 1, 2, 210, 204, 36, 75), "uint8"),
    "enmap-nlcd": ("nlcd", (0, 11, 12, 95, 24), "uint8"),
    "enmap-eurocrops": ("eurocrops", (0, 3301090205, 3301029900, 3399999999), "uint32"),
    "enmap-bdforet": ("bdforet", (0, 1, 6, 16), "uint8"),
    "enmap-bnetd": ("bnetd", (0, 21, 4, 3), "uint8"),
    "enmap-treemap": ("treemap", (0, 184, 371, 999), "uint16"),
    "desis-cdl": ("cdl", (0, 1, 4, 204), "uint8"),
    "eo1-cdl": ("cdl", (0, 41, 204, 72), "uint8"),
}
"""Folder of the masks, codes in them (classes and others), stored type."""
CORINE = (0, 111, 122, 211, 335, 523, 999)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """All tasks beside one another; images of one sensor are the same files."""
    root = tmp_path_factory.mktemp("spectral_earth")
    first = {}
    for name, (folder, codes, dtype) in TASKS.items():
        task, kind = name.replace("-", "_"), name.partition("-")[0]
        if kind in first:
            made.link_images(root / first[kind] / kind, root / task / kind)
        else:
            made.write_images(root / task, kind)
            first[kind] = task
        made.write_masks(root / task, folder, codes, dtype)
        made.write_lists(root, task)
    made.link_images(root / "enmap_cdl/enmap", root / "enmap_corine/enmap")
    made.write_masks(root / "enmap_corine", "corine", CORINE, "int16")
    made.write_lists(root, "enmap_corine")
    return root


@cache
def opened(release, name):
    return declared(spectral_earth.DECLARATIONS, name, **made.COUNTS).load(release)


@pytest.mark.parametrize("name", list(TASKS))
def test_images_and_maps_of_every_task(release, name):
    data = opened(release, f"{name}-original")
    folder, codes, _ = TASKS[name]
    kind, task = name.partition("-")[0], name.replace("-", "_")
    asked = {str(c): n for n, c in enumerate(data.classes)}
    for part in made.COUNTS:
        lines = (release / "splits" / task / f"{part}.txt").read_text().split()
        assert data.shards[data.of(part)].tolist() == lines
    (modality,) = data.bands
    assert data.bands[modality] == made.BANDS[kind]
    rows = np.array([0, 5, 7])
    pixels, maps = data.read(rows).pixels[modality], data.maps(rows)
    for n, row in enumerate(rows):
        key = data.shards[row]
        with rasterio.open(release / task / kind / key) as file:
            np.testing.assert_array_equal(pixels[n], file.read())
        with rasterio.open(release / task / folder / key) as file:
            stored = file.read(1)
        for code in codes:
            names = {str(code), legends.CDL.get(code), legends.NLCD.get(code)}
            number = [k for c, k in asked.items() if c in names or c.endswith(f" {code}")]
            assert set(maps[n][stored == code].tolist()) == {number[0] if number else -1}
    scenes = [key.partition("/")[2] for key in data.shards.tolist()]
    same = np.equal.outer(data.unit, data.unit)
    assert (same == np.array([[a == b for b in scenes] for a in scenes])).all()


def test_units(release):
    data = opened(release, "enmap-cdl")
    assert data.scaling == {"enmap_30": (1e-4, 0.0)}
    assert data.gsd_m == {"enmap_30": 30.0}
    assert data.classes[:2] == ("Corn", "Cotton")
    assert opened(release, "desis-cdl").read(np.arange(1)).pixels["desis_30"].dtype == np.float32
    lon, lat = data.lonlat(np.array([0]))[0]
    assert (lon, lat) == pytest.approx((13.5, 48.3), abs=0.1)


def test_scenes_are_dealt_whole(release):
    blocked, original = opened(release, "enmap-cdl"), opened(release, "enmap-cdl-original")
    assert set(blocked.shards) == set(original.shards)
    parts: dict[int, set[str]] = {}
    for unit, part in zip(blocked.unit.tolist(), blocked.split.tolist(), strict=True):
        parts.setdefault(unit, set()).add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert any("dealt to test 0.15" in note for note in blocked.notes)
    assert any("235 of 240 test patches" in note for note in original.notes)


def test_labels_of_corine(release):
    data = opened(release, "enmap-corine-original")
    want = {"Urban fabric", "Arable land", "Marine waters"}  # 111, 211, 523; 122 and 335 have none
    assert {data.classes[k] for k in np.flatnonzero(data.targets[0])} == want
    assert data.targets.shape == (8, 19)


def test_pixels_without_data_are_invalid(release, tmp_path):
    made.link_images(release / "enmap_cdl", tmp_path / "enmap_cdl")
    made.write_lists(tmp_path, "enmap_cdl")
    path = tmp_path / "enmap_cdl/enmap" / made.NAMES[0]
    with rasterio.open(path) as file:
        data, profile = file.read(), file.profile
    path.unlink()
    data[3, 5:7, 9] = -32768
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
    found = opened(tmp_path, "enmap-cdl")
    row = np.flatnonzero(found.shards == made.NAMES[0])
    inputs = found.read(row)
    assert np.argwhere(~inputs.valid["enmap_30"][0]).tolist() == [[5, 9], [6, 9]]
    assert (inputs.pixels["enmap_30"][0][:, 5:7, 9] == 0).all()


WRONG = tuple(f"B{n + 1:03d}" for n in range(224) if n not in {*range(126, 141), *range(145, 152)})
"""The 224 bands without 126-140 and 145-151, as the authors' own table has them."""


def test_bands_of_another_order_are_refused(tmp_path):
    home = tmp_path / "enmap_bnetd"
    made.write_images(home, "enmap", WRONG)
    made.write_masks(home, "bnetd", (0, 21), "uint8")
    made.write_lists(tmp_path, "enmap_bnetd")
    with pytest.raises(FMError, match=r"mean\(B160\) is 1\.0\d x mean\(B168\)") as caught:
        opened(tmp_path, "enmap-bnetd")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "checks"),
    [("enmap", spectra.ENMAP), ("desis", spectra.DESIS), ("eo1", spectra.HYPERION)],
)
def test_shuffled_and_reversed_spectra_are_refused(kind, checks):
    names = made.BANDS[kind]
    levels = made.levels(kind, names) * (1e-4 if kind == "enmap" else 1.0)

    def run(order: np.ndarray) -> None:
        for check in checks:
            check({name: levels[order][k : k + 1] for k, name in enumerate(names)}, "here")

    straight = np.arange(len(names))
    run(straight)
    for order in (straight[::-1], np.random.default_rng(0).permutation(straight)):
        with pytest.raises(FMError, match=r"here: .*another order"):
            run(order)


def test_published_means_pass_and_shuffled_ones_do_not():
    """Means of SpectralEarth's files, thinned: DESIS every 18th band, in stored numbers."""
    means = [704, 671, 656, 747, 1003, 1060, 1046, 1086, 1107, 1650, 2866, 3230, 3377, 3494]
    spectra.smooth(0.2)({str(n): np.array([m]) for n, m in enumerate(means)}, "here")
    shuffled = means[::3] + means[1::3] + means[2::3]
    with pytest.raises(FMError, match="here: neighbouring bands differ by 0"):
        spectra.smooth(0.2)({str(n): np.array([m]) for n, m in enumerate(shuffled)}, "here")
    with pytest.raises(FMError, match="another scale"):
        spectra.fraction({"B001": np.array([900.0])}, "here")


def test_what_is_missing_or_strange_is_named(release, tmp_path):
    with pytest.raises(FMError, match=r"4 samples in train, the published list .* has 1200"):
        declared(spectral_earth.DECLARATIONS, "enmap-cdl").load(release)
    with pytest.raises(FMError, match=r"enmap_cdl/train\.txt: this list cannot be read"):
        opened(tmp_path, "enmap-cdl")
    made.write_lists(tmp_path, "enmap_bdforet")
    with pytest.raises(FMError, match=r"enmap_bdforet/enmap: no 0001021/04134\.tif and 7 more"):
        opened(tmp_path, "enmap-bdforet")
    made.link_images(release / "enmap_bdforet/enmap", tmp_path / "enmap_bdforet/enmap")
    made.write_masks(tmp_path / "enmap_bdforet", "bdforet", (0, 200), "uint8")
    with pytest.raises(FMError, match=r"none of 8 maps holds one of the 12 codes"):
        opened(tmp_path, "enmap-bdforet")
    (tmp_path / "splits/enmap_bdforet/val.txt").write_text("12.tif\n")
    with pytest.raises(FMError, match=r"val\.txt: '12\.tif' is no patch"):
        opened(tmp_path, "enmap-bdforet")


def test_another_products_masks_are_refused(release):
    path = release / "enmap_treemap/treemap" / made.NAMES[1]
    maps = CodedMaps(lambda i: path, (1, 5), legends.CDL)
    with pytest.raises(FMError, match=r"75% of the pixels of 1 maps .* such as (184|371|999)"):
        maps.look(1, path)


def test_legends_are_torchgeos():
    for name, legend, size in (("CDL", legends.CDL, 134), ("NLCD", legends.NLCD, 17)):
        assert set(legend) == set(torchgeo_class(name).cmap)
        assert len(set(legend.values())) == len(legend) == size


@pytest.mark.parametrize("name", ["hyperview", "hyperview-original"])
def test_hyperview(tmp_path, name):
    made.write_hyperview(tmp_path)
    train, rest = made.HYPERVIEW_COUNTS.values()
    counts = {"all": train + rest} if name == "hyperview" else {"train": train, "test": rest}
    data = declared(hyperview.DECLARATIONS, name, **counts).load(tmp_path)
    rows = {}
    for part in made.HYPERVIEW_COUNTS:
        with (tmp_path / f"splits/hyperview/{part}.csv").open() as file:
            rows |= {f"{r['sample_index']}.npz": (part, r) for r in csv.DictReader(file)}
    fields: dict[str, set[str]] = {}
    for n, key in enumerate(data.shards.tolist()):
        part, row = rows[key]
        assert data.targets[n].tolist() == [float(row[k]) for k in ("P", "K", "Mg", "pH")]
        fields.setdefault(row["company"] + row["field"], set()).add(data.split[n])
        if name == "hyperview-original":
            assert (data.split[n] == "test") == (part == "val")
    if name == "hyperview":
        assert all(len(parts) == 1 for parts in fields.values())
    cube = np.load(tmp_path / "hyperview/images" / data.shards[2])["data"].astype(np.float32)
    want = functional.interpolate(
        torch.from_numpy(cube)[None], (128, 128), mode="bicubic", align_corners=True
    )
    np.testing.assert_array_equal(data.read(np.array([2])).pixels["hyperview_2"], want.numpy())


def test_hyperview_names_what_is_wrong(tmp_path):
    made.write_hyperview(tmp_path)
    first = declared(hyperview.DECLARATIONS, "hyperview", all=16)
    path = tmp_path / "hyperview/images/7.npz"
    np.savez(path, data=np.zeros((149, 9, 9), np.float32))
    with pytest.raises(FMError, match=r"7\.npz: `data` is 149 x 9 x 9, expected 150 bands"):
        first.load(tmp_path)
    path.unlink()
    with pytest.raises(FMError, match=r"images: no 7\.npz; the download is incomplete"):
        first.load(tmp_path)
    (tmp_path / "splits/hyperview/val.csv").write_text("sample_index,company,field,P,K,Mg\n")
    with pytest.raises(FMError, match=r"val\.csv: no column 'pH'"):
        first.load(tmp_path)
