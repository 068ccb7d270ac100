"""EuroSAT: our reader against torchgeo's classes on the same folder, and the B8A canary."""

import hashlib

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.eurosat import DECLARATIONS
from probes.judging.evaluation import evaluate
from tests.probes.layouts import eurosat
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class

LISTS = {
    "eurosat": "eurosat-{}.txt",
    "eurosat-rgb": "eurosat-{}.txt",
    "eurosat-spatial": "eurosat-spatial-{}.txt",
    "eurosat-100": "eurosat-100-{}.txt",
}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("eurosat")
    for lists in set(LISTS.values()):
        eurosat.write(root, lists)
    return root


@pytest.mark.parametrize("name", list(LISTS))
def test_the_same_samples_as_torchgeo(release, name):
    data = declared(DECLARATIONS, name, **eurosat.COUNTS).load(release)
    witness = next(d.witness for d in DECLARATIONS if d.name == name)
    kind = torchgeo_class(witness)
    assert kind.all_band_names == eurosat.ORDER
    place = {key: i for i, key in enumerate(data.shards.tolist())}
    for part in ("train", "val", "test"):
        theirs = kind(root=str(release), split=part)
        stems = [path.rsplit("/", 1)[1][:-4] for path, _ in theirs.imgs]
        rows = np.array([place[stem] for stem in stems])
        assert sorted(rows) == data.of(part).tolist()
        samples = [theirs[i] for i in range(len(theirs))]
        same_pixels(
            data, rows, [s["image"].numpy() for s in samples], kind.all_band_names, "s2l1c_10"
        )
        assert [theirs.classes[s["label"]] for s in samples] == [
            data.classes[t] for t in data.targets[rows]
        ]
    assert data.scaling == {"s2l1c_10": (1e-4, 0.0)}


def test_bands_are_given_in_table_order(release):
    data = declared(DECLARATIONS, "eurosat", **eurosat.COUNTS).load(release)
    assert " ".join(data.bands["s2l1c_10"]) == (
        "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"
    )
    means = data.read(np.arange(8)).pixels["s2l1c_10"].mean((0, 2, 3))
    assert means[8] == pytest.approx(2594, rel=0.05)
    assert means[10] == pytest.approx(12, rel=0.05)
    lon, lat = data.lonlat(np.array([0]))[0]
    assert (lon, lat) == pytest.approx((13.52, 48.28), abs=0.05)


@pytest.mark.parametrize(
    ("name", "write", "modality"),
    [
        ("eurosat-sar", eurosat.write_sar, "s1grd_10"),
        ("copernicus-eurosat-s2", eurosat.write_copernicus, "s2l1c_10"),
    ],
)
def test_the_folders_of_copernicus_bench(tmp_path, name, write, modality):
    declaration = declared(DECLARATIONS, name, **eurosat.COUNTS)
    data = declaration.load(write(tmp_path))
    kind = torchgeo_class(declaration.witness)
    for part in ("train", "val", "test"):
        theirs = kind(root=str(tmp_path), split=part)
        samples = [theirs[i] for i in range(len(theirs))]
        rows = data.of(part)
        assert [f"{key}.jpg" for key in data.shards[rows]] == list(theirs.files)
        same_pixels(data, rows, [s["image"].numpy() for s in samples], kind.all_bands, modality)
        assert [kind.classes[s["label"]] for s in samples] == [
            data.classes[t] for t in data.targets[rows]
        ]
        place = data.lonlat(rows[:1])[0]
        assert place == pytest.approx([float(samples[0]["lon"]), float(samples[0]["lat"])])


def test_files_in_table_order_are_refused(tmp_path):
    table = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10")
    eurosat.write(tmp_path, order=(*table, "B11", "B12"))
    with pytest.raises(FMError, match=r"mean\(B8A\) is 0\.49 x mean\(B08\)"):
        declared(DECLARATIONS, "eurosat", **eurosat.COUNTS).load(tmp_path)


def test_an_incomplete_download_is_refused(release, tmp_path):
    with pytest.raises(FMError, match=r"10 samples in train, the published list .* has 16200"):
        declared(DECLARATIONS, "eurosat").load(release)
    with pytest.raises(FMError, match=r"eurosat-train\.txt: this list cannot be read"):
        declared(DECLARATIONS, "eurosat").load(tmp_path)
    with pytest.raises(FMError, match="no such folder; eurosat@1 reads ds/images"):
        declared(DECLARATIONS, "eurosat").load(tmp_path / "none")


def test_a_floor_is_judged_on_the_published_folder(tmp_path):
    root = eurosat.write(tmp_path / "data", "eurosat-100-{}.txt", each=(6, 2, 2))
    result = evaluate(
        None, "eurosat-100", "image-statistics", data=root, out=tmp_path / "results"
    ).to_dict()
    about = result["benchmark"]
    assert [about[f"n_{part}"] for part in ("train", "val", "test")] == [60, 20, 20]
    assert about["verified"] == "fixtures only"
    assert any("generated files only" in note for note in about["notes"])
    lists = about["split_lists"]
    names = sorted(line[:-4] for line in (root / "eurosat-100-val.txt").read_text().split())
    want = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
    assert lists["val"] == {"stored_samples": 20, "sha256": want}
    assert len(list((tmp_path / "results").glob("*.json"))) == 1
