"""Benchmarks with a map a sample: our reader against torchgeo's classes on the same folder."""

from dataclasses import replace

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import aerial_cover, isprs, sen12ms
from tests.probes.layouts import cover
from tests.probes.layouts.scene import write_picture, write_tif
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class, whole

NAMES = ("VV", "VH", *cover.L1C)


@pytest.fixture(scope="module")
def sen12ms_release(tmp_path_factory):
    return cover.write_sen12ms(tmp_path_factory.mktemp("sen12ms"))


@pytest.mark.parametrize("name", ["sen12ms-s2", "sen12ms-s1", "sen12ms-s1s2", "sen12ms-reduced"])
def test_sen12ms_as_torchgeo_reads_it(sen12ms_release, name):
    data = declared(sen12ms.DECLARATIONS, name, **cover.SEN12MS_COUNTS).load(sen12ms_release)
    kind = torchgeo_class("SEN12MS")
    assert kind.band_names == NAMES
    from torchgeo.datamodules import SEN12MSDataModule

    mapping = SEN12MSDataModule.DFC2020_CLASS_MAPPING.numpy()
    place = {key: i for i, key in enumerate(data.shards.tolist())}
    for part in ("train", "test"):
        theirs = kind(root=str(sen12ms_release), split=part)
        rows = np.array([place[key] for key in theirs.ids])
        assert {"train", "val"} >= set(data.split[rows]) if part == "train" else True
        some = range(0, len(rows), 3)
        images = [theirs[i]["image"].numpy() for i in some]
        for modality in data.bands:
            same_pixels(data, rows[::3], images, NAMES, modality)
        for i, truth in zip(some, data.maps(rows[::3]), strict=True):
            np.testing.assert_array_equal(truth + 1, mapping[theirs[i]["mask"].numpy()])
    assert sorted(data.of("test")) == sorted(place[key] for key in theirs.ids)


def test_sen12ms_reduced_is_what_its_documentation_says(sen12ms_release):
    found = declared(sen12ms.DECLARATIONS, "sen12ms-reduced", **cover.SEN12MS_COUNTS)
    data = found.load(sen12ms_release)
    assert data.bands == {"s2l1c_10": ("B02", "B03", "B04", "B08", "B11", "B12")}
    from torchgeo.datamodules import SEN12MSDataModule

    words = " ".join(SEN12MSDataModule.__init__.__doc__.split())
    assert '"s2-reduced" set includes: B2, B3, B4, B8, B11, and B12' in words
    assert torchgeo_class("SEN12MS").BAND_SETS["s2-reduced"][-2:] == ("B10", "B11")  # their slip


def test_sen12ms_validation_is_whole_scenes(sen12ms_release):
    found = declared(sen12ms.DECLARATIONS, "sen12ms-s2", **cover.SEN12MS_COUNTS)
    data = found.load(sen12ms_release)
    assert len(np.unique(data.unit)) == 12  # a scene each
    assert len(data.of("val")) == 1
    assert len(data.of("train")) == 7


@pytest.mark.filterwarnings("ignore:The given matrix is equal")
@pytest.mark.parametrize("name", ["dfc2020-s2", "dfc2020-s1"])
def test_dfc2020_as_torchgeo_reads_it(tmp_path, name):
    home = cover.write_dfc2020(tmp_path)
    declaration = declared(sen12ms.DECLARATIONS, name, **cover.DFC_COUNTS)
    data = declaration.load(home)
    kind = torchgeo_class(declaration.witness)
    for part in ("train", "val", "test"):
        theirs = kind(root=str(tmp_path), split=part)
        rows = data.of(part)
        assert data.shards[rows].tolist() == list(theirs.files)
        samples = [theirs[i] for i in range(len(theirs))]
        images = [s["image"].numpy() for s in samples]
        same_pixels(data, rows, images, kind.all_bands, next(iter(data.bands)))
        for truth, sample in zip(data.maps(rows), samples, strict=True):
            np.testing.assert_array_equal(truth + 1, sample["mask"].numpy())
    assert data.classes == kind.classes[1:]


@pytest.fixture(scope="module")
def loveda_release(tmp_path_factory):
    return cover.write_loveda(tmp_path_factory.mktemp("loveda"))


@pytest.mark.parametrize(
    ("name", "scenes", "counts"),
    [
        ("loveda", ["urban", "rural"], cover.LOVEDA_COUNTS),
        ("loveda-urban", ["urban"], {}),
        ("loveda-rural", ["rural"], {}),
    ],
)
def test_loveda_as_torchgeo_reads_it(loveda_release, name, scenes, counts):
    data = declared(aerial_cover.DECLARATIONS, name, **counts).load(loveda_release)
    kind = torchgeo_class("LoveDA")
    seen = set()
    for part in ("train", "val"):
        theirs = kind(root=str(loveda_release), split=part, scene=scenes)
        for i, files in list(enumerate(theirs.files))[:2]:
            key = "/".join(files["image"].replace("images_png/", "").split("/")[-3:])
            pixels, truth = whole(data, key)
            sample = theirs[i]
            np.testing.assert_array_equal(pixels["rgb_0"], sample["image"].numpy())
            np.testing.assert_array_equal(truth + 1, sample["mask"].numpy())
            split = set(data.split[data.shards == key])
            assert split == {"test"} if part == "val" else split <= {"train", "val"}
        seen |= {
            "/".join(f["image"].replace("images_png/", "").split("/")[-3:]) for f in theirs.files
        }
    assert set(data.shards) == seen
    assert data.classes == kind.classes[:7]
    assert len(data.shards) == 4 * len(seen)  # 1024 px in windows of 512


@pytest.fixture(scope="module")
def landcover_release(tmp_path_factory):
    return cover.write_landcoverai(tmp_path_factory.mktemp("landcover"))


def test_landcoverai_as_torchgeo_reads_it(landcover_release):
    name = "landcoverai-original"
    data = declared(aerial_cover.DECLARATIONS, name, **cover.LANDCOVER_COUNTS).load(
        landcover_release
    )
    kind = torchgeo_class("LandCoverAI")
    for part in ("train", "val", "test"):
        theirs = kind(root=str(landcover_release), split=part)
        rows = data.of(part)
        assert data.shards[rows].tolist() == [line.strip() for line in theirs.ids]
        samples = [theirs[i] for i in range(len(theirs))]
        same_pixels(data, rows, [s["image"].numpy() for s in samples], ("R", "G", "B"), "rgb_0")
        for truth, sample in zip(data.maps(rows), samples, strict=True):
            np.testing.assert_array_equal(truth, sample["mask"].numpy())
    assert [c.lower() for c in kind.classes] == list(data.classes)


def test_landcoverai_keeps_orthophotos_whole_and_the_original_does_not(landcover_release):
    def sheets(name: str) -> list[set[str]]:
        found = declared(aerial_cover.DECLARATIONS, name, **cover.LANDCOVER_COUNTS)
        data = found.load(landcover_release)
        groups = np.array([key.rpartition("_")[0] for key in data.shards])
        assert len(np.unique(data.unit)) == 5
        return [set(groups[data.of(part)]) for part in ("train", "val", "test")]

    train, val, test = sheets("landcoverai")
    assert not train & val | train & test | val & test
    assert len(train | val | test) == 5
    train, val, test = sheets("landcoverai-original")
    assert train & val
    assert val & test or train & test


@pytest.mark.parametrize(
    ("name", "tiles", "names"),
    [
        ("potsdam", isprs.POTSDAM, ("R", "G", "B", "NIR")),
        ("vaihingen", isprs.VAIHINGEN, ("NIR", "R", "G")),
    ],
)
def test_isprs_as_torchgeo_reads_it(tmp_path, name, tiles, names):
    root = cover.write_isprs(tmp_path, name, tiles)
    declaration = replace(declared(isprs.DECLARATIONS, name), crop=8)
    data = declaration.load(root)
    kind = torchgeo_class(declaration.witness)
    for part in ("train", "test"):
        theirs = kind(root=str(root), split=part)
        assert len(theirs) == len(tiles[part])
        for i in range(0, len(theirs), 7):
            stem = theirs.files[i]["mask"].rsplit("/", 1)[1].removesuffix(".tif")
            key = stem.removeprefix("top_potsdam_").removesuffix("_label")
            key = key.removeprefix("top_mosaic_09cm_area")
            pixels, truth = whole(data, key)
            sample = theirs[i]
            order = [names.index(band) for band in data.bands["nirrgb_0"]]
            np.testing.assert_array_equal(pixels["nirrgb_0"], sample["image"].numpy()[order])
            np.testing.assert_array_equal(truth + 1, sample["mask"].numpy())  # 0 is clutter
    tile_split = {}
    for key, split in zip(data.shards, data.split, strict=True):
        assert tile_split.setdefault(key, split) == split
    assert sorted(t for t, s in tile_split.items() if s == "test") == sorted(tiles["test"])
    assert data.bands["nirrgb_0"] == tuple(b for b in ("NIR", "R", "G", "B") if b in names)


def test_maps_that_hold_something_else_are_refused(tmp_path):
    root = cover.write_isprs(tmp_path / "one", "vaihingen", isprs.VAIHINGEN)
    declaration = replace(declared(isprs.DECLARATIONS, "vaihingen"), crop=8)
    strange = np.full((3, 12, 20), 128, np.uint8)
    write_tif(root / "top_mosaic_09cm_area1.tif", strange, crs=None)
    with pytest.raises(FMError, match=r"area1\.tif: its map holds the colour \(128, 128, 128\)"):
        declaration.load(root)
    nearly = np.moveaxis(cover.PALETTE[np.full((12, 20), 5)], -1, 0).copy()
    nearly[nearly == 255] = 252  # compressed with loss
    other = cover.write_isprs(tmp_path / "other", "vaihingen", isprs.VAIHINGEN)
    write_tif(other / "top_mosaic_09cm_area1.tif", nearly, crs=None)
    data = declaration.load(other)
    assert set(np.unique(data.maps(np.flatnonzero(data.shards == "1")))) <= {-1, 4}


def test_a_class_beyond_the_last_is_refused(tmp_path):
    root = cover.write_landcoverai(tmp_path)
    found = declared(aerial_cover.DECLARATIONS, "landcoverai", **cover.LANDCOVER_COUNTS)
    write_picture(root / "output/M-33-20_0_m.png", np.full((512, 512), 9, np.uint8))
    with pytest.raises(FMError, match=r"M-33-20_0_m\.png: its map holds 9, which is no class"):
        found.load(root)
