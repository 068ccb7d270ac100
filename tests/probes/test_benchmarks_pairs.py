"""Change between two dates: our reader against torchgeo's classes on the same folder."""

import h5py
import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.pairs import DECLARATIONS
from tests.probes.layouts import change
from tests.probes.layouts.witness import declared, torchgeo_class, whole


def same(data, key: str, sample: dict, names: tuple[str, ...], modality: str) -> None:
    """Both dates and the map of one pair, put together from the windows."""
    order = [names.index(band) for band in data.bands[modality]]
    for date in (0, 1):
        pixels, truth = whole(data, key, date)
        np.testing.assert_array_equal(pixels[modality], sample["image"][date].numpy()[order])
        np.testing.assert_array_equal(truth, sample["mask"][0].numpy())


def test_levir_cd_as_torchgeo_reads_it(tmp_path):
    root = change.write_levir(tmp_path)
    data = declared(DECLARATIONS, "levir-cd", **change.LEVIR_COUNTS).load(root)
    kind = torchgeo_class("LEVIRCD")
    for part, count in change.LEVIR_COUNTS.items():
        theirs = kind(root=str(root), split=part)
        names = [files["image1"].rsplit("/", 1)[1] for files in theirs.files]
        assert sorted(set(data.shards[data.of(part)])) == sorted(names)
        assert len(data.of(part)) == 16 * count
        same(data, names[-1], theirs[len(names) - 1], ("R", "G", "B"), "rgb_0")


def test_levir_cd_plus_as_torchgeo_reads_it(tmp_path):
    root = change.write_levir_plus(tmp_path)
    declaration = declared(DECLARATIONS, "levir-cd-plus", **change.PLUS_COUNTS)
    data = declaration.load(root / "LEVIR-CD+")
    kind = torchgeo_class("LEVIRCDPlus")
    for part in ("train", "test"):
        theirs = kind(root=str(root), split=part)
        keys = [f"{part}/{files['image1'].rsplit('/', 1)[1]}" for files in theirs.files]
        splits = {str(s) for k in keys for s in data.split[data.shards == k]}
        assert splits == ({"test"} if part == "test" else {"train", "val"})
        same(data, keys[-1], theirs[len(keys) - 1], ("R", "G", "B"), "rgb_0")


def test_oscd_as_torchgeo_reads_it(tmp_path):
    root = change.write_oscd(tmp_path)
    data = declared(DECLARATIONS, "oscd", **change.OSCD_COUNTS).load(root)
    kind = torchgeo_class("OSCD")
    assert kind.all_bands == change.L1C
    for part in ("train", "test"):
        theirs = kind(root=str(root), split=part)
        keys = [files["region"] for files in theirs.files]
        for i, key in enumerate(keys):
            same(data, key, theirs[i], kind.all_bands, "s2l1c_10")
            assert set(data.split[data.shards == key]) <= (
                {"test"} if part == "test" else {"train", "val"}
            )
    assert len({str(k) for k in data.shards[data.of("val")]}) == 1
    assert data.bands["s2l1c_10"] == change.L1C


@pytest.mark.parametrize(
    ("name", "files", "counts", "lists"),
    [
        (
            "chabud",
            ("train_eval.hdf5",),
            {"train": 5, "test": 2},
            {"train": {"train", "val"}, "val": {"test"}},
        ),
        (
            "cabuar",
            ("512x512.hdf5", "chabud_test.h5"),
            {"train": 5, "val": 2, "test": 2},
            {"train": {"train"}, "val": {"val"}, "test": {"test"}},
        ),
    ],
)
def test_fires_as_torchgeo_reads_them(tmp_path, name, files, counts, lists):
    root = change.write_fires(tmp_path, *files)
    declaration = declared(DECLARATIONS, name, **counts)
    data = declaration.load(root)
    kind = torchgeo_class(declaration.witness)
    assert kind.all_bands == change.L2A
    for part, ours in lists.items():
        theirs = kind(root=str(root), split=part)
        keys = [f"{theirs.filepath.rsplit('/', 1)[1]}/{uuid}" for uuid in theirs.uuids]
        assert {str(s) for k in keys for s in data.split[data.shards == k]} == ours
        same(data, keys[0], theirs[0], kind.all_bands, "s2l2a_20")
    if name == "chabud":  # two halves of a fire are not divided
        fire = [key.rpartition("_")[0] for key in data.shards.tolist()]
        parts = {}
        for one, part in zip(fire, data.split.tolist(), strict=True):
            parts.setdefault(one, set()).add(part)
        assert all(not {"train", "val"} <= found for found in parts.values())


def test_what_does_not_fit_is_refused(tmp_path):
    root = change.write_fires(tmp_path / "fires", "train_eval.hdf5")
    with h5py.File(root / "train_eval.hdf5", "r+") as file:
        first = sorted(file)[0]
        file[first]["mask"][:4] = 7
    declaration = declared(DECLARATIONS, "chabud", train=5, test=2)
    with pytest.raises(FMError, match="its mask holds 7, expected 0 or 1"):
        data = declaration.load(root)
    oscd = change.write_oscd(tmp_path / "oscd")
    path = next((oscd / change.ONERA.format("Images")).rglob("B8A.tif"))
    path.unlink()
    data = None
    with pytest.raises(FMError, match="no B8A; the download is incomplete"):
        data = declared(DECLARATIONS, "oscd", **change.OSCD_COUNTS).load(oscd)
    assert data is None
