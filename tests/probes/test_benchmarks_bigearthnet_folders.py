"""BigEarthNet v1 and v2: our reader against torchgeo's classes on the same folder.

torchgeo brings every band to 120 pixels and Sentinel-1 to whole decibels; the comparison does the
same to our native numbers, and is exact where torchgeo changes nothing (the 10 m bands).
"""

import json
import tarfile

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine

from fm.errors import FMError
from probes.benchmarks.bigearthnet_folders import DECLARATIONS
from shards.building.packages import fetch
from tests.probes.layouts import bigearthnet
from tests.probes.layouts.scene import write_lines
from tests.probes.layouts.witness import declared, torchgeo_class
from tests.shards.test_bigearthnet_v1 import EXAMPLES

ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    return {
        "v1": bigearthnet.write_v1(tmp_path_factory.mktemp("v1")),
        "v2": bigearthnet.write_v2(tmp_path_factory.mktemp("v2")),
    }


def at_120(plane: np.ndarray) -> np.ndarray:
    """Bring a band to 120 pixels with GDAL, bilinearly, as torchgeo does."""
    with rasterio.MemoryFile() as memory:
        kind = {"driver": "GTiff", "count": 1, "dtype": plane.dtype, "transform": Affine.scale(2)}
        height, width = plane.shape
        with memory.open(**kind, height=height, width=width) as out:
            out.write(plane, 1)
        with memory.open() as back:
            return back.read(
                1, out_shape=(120, 120), out_dtype="int32", resampling=Resampling.bilinear
            )


def stacked(data, row: int, names: tuple[str, ...]) -> np.ndarray:
    inputs = data.read(np.array([row]))
    planes = {
        band: inputs.pixels[modality][0, place]
        for modality, bands in data.bands.items()
        for place, band in enumerate(bands)
    }
    return np.stack([at_120(planes[name]) for name in names])


@pytest.mark.parametrize(
    ("name", "release", "options", "names"),
    [
        ("bigearthnet-v1-s2", "v1", {"bands": "s2"}, ORDER),
        ("bigearthnet-v1-s1", "v1", {"bands": "s1"}, ("VH", "VV")),
        ("bigearthnet-v1-s1s2", "v1", {"bands": "all"}, ("VH", "VV", *ORDER)),
        ("bigearthnet-v1-s2-43", "v1", {"bands": "s2", "num_classes": 43}, ORDER),
        ("reben-s2", "v2", {"bands": "s2"}, ORDER),
        ("reben-s1", "v2", {"bands": "s1"}, ("VH", "VV")),
        ("reben-s1s2", "v2", {"bands": "all"}, ("VH", "VV", *ORDER)),
    ],
)
def test_the_same_samples_as_torchgeo(releases, name, release, options, names):
    declaration = declared(DECLARATIONS, name, **bigearthnet.COUNTS)
    data = declaration.load(releases[release])
    kind = torchgeo_class(declaration.witness)
    for part, count in bigearthnet.COUNTS.items():
        theirs = kind(root=str(releases[release]), split=part, **options)
        rows = data.of(part)
        assert len(theirs) == len(rows) == count
        for row, i in zip(rows, range(count), strict=True):
            sample = theirs[i]
            image = (
                sample["image"].numpy()
                if "image" in sample
                else np.concatenate([sample["image_s1"].numpy(), sample["image_s2"].numpy()])
            )
            np.testing.assert_array_equal(stacked(data, row, names), image)
            np.testing.assert_array_equal(data.targets[row], sample["label"].numpy().astype(bool))
    classes = kind.class_sets[len(data.classes)] if release == "v1" else kind.class_set
    assert data.classes == tuple(classes)


def test_bands_stay_on_their_native_grids_and_decibels_keep_their_fractions(releases):
    data = declared(DECLARATIONS, "reben-s1s2", **bigearthnet.COUNTS).load(releases["v2"])
    pixels = data.read(np.arange(2)).pixels
    assert {m: x.shape[1:] for m, x in pixels.items()} == {
        "s2l2a_10": (4, 120, 120),
        "s2l2a_20": (6, 60, 60),
        "s2l2a_60": (2, 20, 20),
        "s1grd_10": (2, 120, 120),
    }
    assert data.bands["s1grd_10"] == ("VV", "VH")
    assert (pixels["s1grd_10"] % 1 != 0).any()
    assert data.gsd_m["s2l2a_60"] == 60.0
    assert len(np.unique(data.unit)) == 5  # a tile each
    first = data.lonlat(np.array([0]))[0]
    assert first == pytest.approx([13.525, 48.274], abs=0.05)


def test_labels_and_lists_that_do_not_fit_are_refused(releases, tmp_path):
    root = bigearthnet.write_v1(tmp_path)
    declaration = declared(DECLARATIONS, "bigearthnet-v1-s2", **bigearthnet.COUNTS)
    about = next((root / "BigEarthNet-v1.0").rglob("*.json"))
    kept = about.read_text()
    about.write_text(json.dumps({"labels": ["Glacier"]}))
    with pytest.raises(FMError, match=r"labels_metadata\.json: its labels cannot be read"):
        declaration.load(root)
    about.write_text(kept)
    listed = root / "bigearthnet-val.csv"
    kept = listed.read_text()
    listed.write_text((root / "bigearthnet-test.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(FMError, match="stand in the lists twice"):
        declaration.load(root)
    listed.write_text(kept.replace("S2A", "S2B"))
    with pytest.raises(FMError, match=r"no S2B_MSIL2A_.*; the download is incomplete"):
        declaration.load(root)


def test_radar_that_is_linear_is_refused(tmp_path):
    root = bigearthnet.write_v2(tmp_path)
    for path in (root / "BigEarthNet-S1").rglob("*.tif"):
        with rasterio.open(path, "r+") as file:
            file.write(10 ** (file.read() / 10))
    with pytest.raises(FMError, match="VV in dB has no negative value"):
        declared(DECLARATIONS, "reben-s1", **bigearthnet.COUNTS).load(root)


@pytest.mark.data
def test_real_pairs_as_torchgeo_reads_them(package_cache, tmp_path):
    try:
        folder = fetch(EXAMPLES, package_cache) / "bigearthnet_common"
    except FMError as error:
        pytest.skip(str(error))
    homes = {"S1": "BigEarthNet-S1-v1.0", "S2": "BigEarthNet-v1.0"}
    for part, home in homes.items():
        with tarfile.open(folder / f"BigEarthNet-{part}-Example.tar.bz2") as archive:
            archive.extractall(tmp_path, filter="data")
        (tmp_path / f"BigEarthNet-{part}-Example").rename(tmp_path / home)
    pairs = []
    for radar in sorted((tmp_path / homes["S1"]).iterdir()):
        about = json.loads((radar / f"{radar.name}_labels_metadata.json").read_text())
        pairs.append(f"{about['corresponding_s2_patch']},{radar.name}")
    for part, some in zip(
        ("train", "val", "test"), (pairs[:2], pairs[2:4], pairs[4:]), strict=True
    ):
        write_lines(tmp_path / f"bigearthnet-{part}.csv", some)
    declaration = declared(DECLARATIONS, "bigearthnet-v1-s1s2", train=2, val=2, test=2)
    data = declaration.load(tmp_path)
    theirs = torchgeo_class("BigEarthNet")(root=str(tmp_path), split="val", bands="all")
    for row, i in zip(data.of("val"), range(2), strict=True):
        sample = theirs[i]
        np.testing.assert_array_equal(
            stacked(data, row, ("VH", "VV", *ORDER)), sample["image"].numpy()
        )
        assert data.targets[row].tolist() == sample["label"].bool().tolist()
