"""The page of `fm shards info`."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np

import shards
from shards.seeing import overview, scan
from shards.sources import indian_pines
from tests.shards.makers import written


def test_counts_are_those_of_the_index(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    found = overview.survey(ds)
    assert list(found.splits) == ["train", "val", "test"]
    counts = found.class_counts
    columns = ds.index.select(["split", "cover", "tags"]).to_pylist()
    for split in ("train", "val", "test"):
        rows = [row for row in columns if row["split"] == split]
        assert counts["cover"][split] == [sum(row["cover"] == k for row in rows) for k in range(2)]
        assert counts["tags"][split] == [sum(k in row["tags"] for row in rows) for k in range(3)]
    assert "level" not in counts


def test_pixels_of_a_mask_are_counted_by_split(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cube = generator.integers(900, 9000, (40, 40, 200)).astype(np.uint16)
    truth = generator.integers(0, 17, (40, 40)).astype(np.uint8)
    paths = tmp_path / "cube.npy", tmp_path / "truth.npy"
    for path, array in zip(paths, (cube, truth), strict=True):
        np.save(path, array)
    content = indian_pines.cut(*paths, block=8, provenance={})
    ds = written(content, tmp_path / "ds")
    want = {name: np.zeros(17, int) for name in ("train", "val", "test")}
    for i in range(len(ds)):
        label = ds[i].arrays["label"]
        want[str(ds[i].split)] += np.bincount(label.ravel(), minlength=17)
    found = overview.survey(ds).class_counts["land_cover"]
    assert found == {name: count.tolist() for name, count in want.items()}
    text = overview.text(ds)
    row = next(line for line in text.splitlines() if line.strip().startswith("Wheat"))
    assert [int(word) for word in row.split()[1:]] == [int(want[s][13]) for s in want]
    assert "25 of [200, 8, 8]; dn = stored * 1 + 0" in text


def test_places_units_and_times_are_told(tiny_dataset: Path) -> None:
    text = overview.text(shards.open(tiny_dataset))
    assert "place: lon 10.0000 to 10.5000, lat 50.0000 to 50.3000" in text
    assert "time: 2021-01-15 10:30 to 2021-12-15 10:30 UTC" in text
    assert "months: Jan 2, Feb 2, Mar 2" in text
    assert "24 of [4, 24, 24]; reflectance = stored * 0.0001 + 0" in text
    assert "format 2" in text


def test_a_filtered_dataset_is_counted_as_it_is(tiny_dataset: Path, monkeypatch) -> None:
    monkeypatch.setattr(overview, "_AT_ONCE", 5)  # several portions
    monkeypatch.setattr(scan, "_AT_ONCE", 7)
    ds = shards.open(tiny_dataset, where="split != 'test' and month > 2")
    found, rows = overview.survey(ds), ds.index.to_pylist()
    assert found.samples == len(rows) < 24
    assert found.splits == Counter(row["split"] for row in rows)
    months = Counter(row["time"].month for row in rows)
    assert found.months == [months[month] for month in range(1, 13)]
    assert found.box == [
        *(min(row[name] for row in rows) for name in ("lon", "lat")),
        *(max(row[name] for row in rows) for name in ("lon", "lat")),
    ]
    assert found.bytes["s2l1c_20"] == sum(row["s2l1c_20.bytes"] for row in rows)
    assert found.shapes["s2l1c_60"] == [([3, 4, 4], len(rows))]
    assert found.valid_fraction == {"known": len(rows), "mean": 1.0, "least": 1.0}
    tags = Counter((row["split"], k) for row in rows for k in row["tags"])
    want = {split: [tags[split, k] for k in range(3)] for split in ("train", "val")}
    assert found.class_counts["tags"] == want
    json.dumps(found.to_dict())


def test_what_is_unknown_is_said(tmp_path: Path) -> None:
    def samples():
        for i in range(6):
            size = 4 if i < 4 else 3
            yield shards.Sample(
                key=f"k{i}",
                arrays={"s1grd_10": np.full((2, size, size), float(i), np.float32)},
                lonlat=(-70.0, -50.0 + i) if i % 2 else None,
                crs="EPSG:32719" if i else None,
                transform=(10.0, 0.0, 5e5, 0.0, -10.0, 4.6e6) if i else None,
                labels={"kind": i % 2, "said": f"sample {i}"} if i else {},
            )

    shards.write_dataset(
        tmp_path / "ds",
        samples(),
        name="holes",
        modalities={"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))},
        labels={
            "kind": shards.LabelInfo("kind", "class", ("even", "odd"), ignore=0),
            "said": shards.LabelInfo("said", "text"),
        },
        provenance={},
        licence="CC0-1.0",
    )
    ds = shards.open(tmp_path / "ds")
    found, text = overview.survey(ds), overview.text(ds)
    assert (found.placed, found.box) == (3, [-70.0, -49.0, -70.0, -45.0])
    assert found.shapes["s1grd_10"] == [([2, 4, 4], 4), ([2, 3, 3], 2)]
    assert found.class_counts == {"kind": {"none": [0, 3]}}  # 0 says "no label here"
    assert found.crs == {"EPSG:32719": 5}
    assert found.copies == 0
    assert "(3 of 6 known)" in text
    assert "time: unknown" in text
    assert "4 of [2, 4, 4], 2 of 1 other shapes" in text
    assert "CRS: EPSG:32719 5" in text
    assert "label said: text" in text


def test_what_others_made_is_told_as_far_as_it_is_known(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    quality = {"psnr_db": [51.5], "bits_per_pixel": [0.4]}
    changed = {
        "s2l1c_10": {"statistics": {}, "nodata": (0, None, 0, 0)},
        "s2l1c_20": {"quality": quality, "codec": "video"},
    }
    modalities = {
        name: dataclasses.replace(info, **changed.get(name, {}))
        for name, info in ds.modalities.items()
    }
    ds.info = dataclasses.replace(ds.info, modalities=modalities, root="s3://bucket/tars")
    text = overview.text(ds)
    assert "tars: at s3://bucket/tars" in text
    assert "no statistics were taken" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("  B02 ")]
    assert row == ["B02", "492.4", "0"]
    (row,) = [line.split() for line in text.splitlines() if line.startswith("  B03 ")]
    assert row == ["B03", "559.8", "-"]
    assert "lossy: psnr_db [51.5], bits_per_pixel [0.4]" in text
