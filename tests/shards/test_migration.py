"""Datasets of older formats open, read, load and verify with the present code, bit for bit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import shards

FORMAT1 = Path(__file__).parent / "data" / "format1"
MANIFEST = "814addff9b4e71e9a524fc02458fc959473c541e0a962ba6c6d371e570f050bd"

# SHA-256 of the raw pixels as the code of format 1 (eofm 0.1.0) decoded them.
PIXELS = {
    "old_0": {
        "s2l1c_10": "0f0515099fdbb78155de4a6238521f4dfc1ee101d403bc688c676d66aedd464c",
        "s1grd_10": "595366ef0a3149056cb0d776c69fb9c2fa3253deae44f823a9182019191620da",
        "ground": "9a93db45d67d60894d9847003127cfa1c9f8f997365db62a86fdd7f23dcb49ce",
    },
    "old_1": {
        "s2l1c_10": "823d69b643c1e9a9e9291e0faa732a47930575836c4fdb9e8f2be74273d19d46",
        "s1grd_10": "a5ea9b5c3f4c656cf39d409d1f5cc91890b2d78a5605e16dbb8450eb16f33d7d",
        "ground": "4706325359775d173c88861325eb5530e18202cb9b7f8b2bd7d52371be8ae516",
    },
    "old_2": {
        "s2l1c_10": "6549e3376061ab77e57e2c3051dadfe45de20e9dc9e963f03e666db67bc22af2",
        "s1grd_10": "6bddf7482b7b9dc5113d474fdb9a02f1413a000af62954004e73eccb5ae29da1",
        "ground": "2e282bd291b65b248fae5852ebe956ba3f8cdcf3a6546aacffd1db5b23fb055f",
    },
    "old_3": {
        "s2l1c_10": "151c3778eaf597cff843a7441caee570d2d7d6d3ad9a209a7c669d1de1fe13eb",
        "s1grd_10": "2bb5ff27e311b0bd8240d17165b39621e2c3ecdbaf5ea585fec6385bf1b1e860",
    },
    "old_4": {
        "s2l1c_10": "854524274121a376b9d668d2a53481237e09fe15a9a3d5a88f364958cabb7202",
        "ground": "7f449ff56e843319e045d91c8887d78f63cbc94aa7e5c87781002a2640deb6e1",
    },
}
SHAPES = {"s2l1c_10": (4, 12, 12), "s1grd_10": (2, 12, 12), "ground": (12, 12)}
DTYPES = {"s2l1c_10": "uint16", "s1grd_10": "float32", "ground": "uint8"}
LONLAT = [(8.0, 47.0), (9.0, 47.0), None, (11.0, 47.0), (12.0, 47.0)]
TIMES = ["2019-01-03T10:00:00Z", None, *(f"2019-{m:02d}-03T10:00:00Z" for m in (3, 4, 5))]
TAGS = [[0], [0, 1], [0, 2], [0], [0, 1]]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def old() -> shards.Dataset:
    return shards.open(FORMAT1)


def test_the_fixture_is_of_format_1() -> None:
    assert json.loads((FORMAT1 / "dataset.json").read_text())["format_version"] == 1
    assert not (FORMAT1 / "index.bin").exists()


def test_it_opens_with_the_identity_it_had(old: shards.Dataset) -> None:
    # a run that recorded this hash must be able to go on
    assert old.manifest_hash == MANIFEST
    assert list(old.keys) == list(PIXELS)
    assert old.modalities["s2l1c_10"].scaling == (1e-4, 0.0)
    assert old.modalities["s1grd_10"].scaling == (1.0, 0.0)
    assert old.modalities["s2l1c_10"].bands == ("B02", "B03", "B04", "B08")
    assert old.statistics("s2l1c_10")["count"] == [720] * 4


def test_every_sample_is_what_it_was(old: shards.Dataset) -> None:
    for i, (key, members) in enumerate(PIXELS.items()):
        sample = old[i]
        assert sample.key == key
        assert {name: digest(array) for name, array in sample.arrays.items()} == members
        for name, array in sample.arrays.items():
            assert (array.shape, array.dtype.name) == (SHAPES[name], DTYPES[name])
        assert sample.lonlat == LONLAT[i]
        assert sample.time == TIMES[i]
        assert sample.split == ("train", "val")[i % 2]
        assert sample.labels == {"cover": i % 2, "tags": TAGS[i], "level": i / 3}
        assert sample.window == (0, 12 * i, 12, 12)
        assert sample.valid_fraction == 1.0
    assert old[0].arrays["s2l1c_10"].ravel()[:3].tolist() == [1945, 2096, 3045]


def test_it_loads(old: shards.Dataset) -> None:
    (batch,) = old.loader(5, modalities=["s2l1c_10"], shuffle=False, pad=True)
    assert list(batch.keys) == list(PIXELS)
    assert batch.weight.tolist() == [1.0] * 5
    for slot, members in enumerate(PIXELS.values()):
        assert digest(batch.pixels["s2l1c_10"][slot].numpy()) == members["s2l1c_10"]
        ground = batch.labels["ground"][slot].numpy()
        assert digest(ground) == members["ground"] if "ground" in members else (ground == 255).all()
    assert batch.labels["cover"].tolist() == [0, 1, 0, 1, 0]
    assert batch.labels["level"].tolist() == [i / 3 for i in range(5)]
    both = shards.open(FORMAT1, where="has('s1grd_10') and month in (1, 3, 4)")
    (batch,) = both.loader(3, shuffle=False, pad=True)
    for slot, key in enumerate(batch.keys):
        assert digest(batch.pixels["s1grd_10"][slot].numpy()) == PIXELS[key]["s1grd_10"]


def test_it_verifies() -> None:
    report = shards.verify(FORMAT1)
    assert report.ok, report.problems
    assert (report.samples, report.shards) == (5, 3)
