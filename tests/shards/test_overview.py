"""The page of `fm shards info`."""

from pathlib import Path

import numpy as np

import shards
from shards import overview
from shards.sources import indian_pines


def test_counts_are_those_of_the_index(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    assert list(overview.splits(ds)) == ["train", "val", "test"]
    counts = overview.class_counts(ds)
    columns = ds.index.select(["split", "cover", "tags"]).to_pylist()
    for split in ("train", "val", "test"):
        rows = [row for row in columns if row["split"] == split]
        assert counts["cover"][split] == [sum(row["cover"] == k for row in rows) for k in range(2)]
        assert counts["tags"][split] == [sum(k in row["tags"] for row in rows) for k in range(3)]
    assert "level" not in counts


def test_pixels_of_a_mask_are_counted_by_split(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cube = generator.integers(900, 9000, (200, 40, 40)).astype(np.uint16)
    truth = generator.integers(0, 17, (40, 40)).astype(np.uint8)
    content = indian_pines.cut(cube, truth, block=8, provenance={})
    shards.write_dataset(
        tmp_path / "ds",
        content.samples,
        name=content.name,
        modalities=content.modalities,
        labels=content.labels,
        provenance=content.provenance,
        licence=content.licence,
    )
    ds = shards.open(tmp_path / "ds")
    want = {name: np.zeros(17, int) for name in ("train", "val", "test")}
    for i in range(len(ds)):
        label = ds[i].arrays["label"]
        want[str(ds[i].split)] += np.bincount(label.ravel(), minlength=17)
    found = overview.class_counts(ds)["land_cover"]
    assert found == {name: count.tolist() for name, count in want.items()}
    text = overview.text(ds)
    row = next(line for line in text.splitlines() if line.strip().startswith("Wheat"))
    assert [int(word) for word in row.split()[1:]] == [int(want[s][13]) for s in want]
    assert "25 of [200, 8, 8]; dn = stored * 1 + 0" in text


def test_places_units_and_times_are_told(tiny_dataset: Path) -> None:
    text = overview.text(shards.open(tiny_dataset))
    assert "place: lon 10.0000 to 10.5000, lat 50.0000 to 50.3000" in text
    assert "time: 2021-01-15 10:30 to 2021-12-15 10:30 UTC" in text
    assert "24 of [4, 24, 24]; reflectance = stored * 0.0001 + 0" in text
