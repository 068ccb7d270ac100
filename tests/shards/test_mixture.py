"""Mixtures of datasets: one sequence for any ranks, threads and stops."""

import collections
import json
from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import FMError, UsageError
from shards.ordering.mixture import Mixture
from tests.conftest import write_tiny


def radar(folder: Path, count: int, size: int = 4) -> shards.Dataset:
    def samples():
        for i in range(count):
            pixels = np.full((2, size, size), i, np.float32)
            yield shards.Sample(key=f"radar_{i}", arrays={"s1grd_10": pixels})

    shards.write_dataset(
        folder,
        samples(),
        name="radar",
        modalities={"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))},
        provenance={},
        licence="CC0-1.0",
    )
    return shards.open(folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, shards.Dataset]:
    folder = tmp_path_factory.mktemp("parts")
    write_tiny(folder / "a", 10, seed=1)
    write_tiny(folder / "b", 7, seed=2)
    return {
        "a": shards.open(folder / "a"),
        "b": shards.open(folder / "b"),
        "radar": radar(folder / "c", 5),
    }


def alike(parts, **options) -> Mixture:
    two = {name: parts[name] for name in "ab"}
    return Mixture(two, {"a": 3, "b": 2}, **({"epoch": "a"} | options))


def unlike(parts, **options) -> Mixture:
    options = {"by": "batch", "epoch": 40} | options
    return Mixture(parts, {"a": 2, "b": 1, "radar": 1}, **options)


def stream(mix: Mixture, steps: int, **options) -> list[tuple]:
    """What stands at each position, all ranks of a step together."""
    world = options.pop("world_size", 1)
    ranks = [
        list(mix.loader(world_size=world, rank=rank, steps=steps, **options))
        for rank in range(world)
    ]
    found = []
    for batches in zip(*ranks, strict=True):
        assert len({(batch.part, *batch.pixels) for batch in batches}) == 1
        for batch in batches:
            sums = [float(p.double().sum()) for p in next(iter(batch.pixels.values()))]
            rows = zip(batch.positions, batch.epochs, batch.keys, sums, strict=True)
            found += [(int(p), int(e), batch.part, key, total) for p, e, key, total in rows]
    return found


@pytest.mark.parametrize("make", [alike, unlike])
def test_ranks_threads_and_stops_change_nothing(make, parts) -> None:
    mix = make(parts)
    whole = stream(mix, 9, batch_size=6, seed=5, threads=0)
    assert [row[0] for row in whole] == list(range(54))
    for world, threads in ((2, 0), (3, 2), (1, 3)):
        options = {"batch_size": 6, "seed": 5, "world_size": world, "threads": threads}
        assert stream(mix, 9, **options) == whole
        assert stream(mix, 5, position=24, **options) == whole[24:]
    assert stream(mix, 9, batch_size=6, seed=6, threads=0) != whole


def test_dealt_by_sample_any_batch_size_gives_one_sequence(parts) -> None:
    mix = alike(parts)
    whole = stream(mix, 9, batch_size=6, threads=0)
    assert stream(mix, 4, batch_size=11, position=7, threads=0) == whole[7:51]


def test_each_part_goes_through_its_samples_by_weight(parts) -> None:
    mix = alike(parts)
    rows = stream(mix, 1, batch_size=350, threads=0)
    pixels = {name: pixel_sums(parts[name]) for name in "ab"}
    # tiny datasets share keys: tell parts apart by their pixels
    dealt = ["a" if (row[3], row[4]) in pixels["a"] else "b" for row in rows]
    assert all((row[3], row[4]) in pixels["a"] | pixels["b"] for row in rows)
    for start in range(0, 350, 5):
        assert dealt[start : start + 5].count("a") == 3
    for name, count in (("a", 10), ("b", 7)):
        seen = [row[3] for row, part in zip(rows, dealt, strict=True) if part == name]
        for start in range(0, len(seen) - count + 1, count):
            assert sorted(seen[start : start + count]) == sorted(parts[name].keys)


def pixel_sums(ds: shards.Dataset) -> set[tuple[str, float]]:
    first = next(iter(ds.modalities))
    return {(key, float(ds.read(i)[first].sum(dtype=float))) for i, key in enumerate(ds.keys)}


def test_dealt_by_batch_a_step_has_one_part(parts) -> None:
    rows = stream(unlike(parts), 16, batch_size=4, threads=0)
    steps = [{row[2] for row in rows[start : start + 4]} for start in range(0, 64, 4)]
    assert all(len(found) == 1 for found in steps)
    order = [found.pop() for found in steps]
    for start in range(0, 16, 4):
        counts = collections.Counter(order[start : start + 4])
        assert counts == {"a": 2, "b": 1, "radar": 1}
    keys = [row[3] for row in rows if row[2] == "radar"]
    assert sorted(keys[:5]) == sorted(keys[5:10]) == [f"radar_{i}" for i in range(5)]


def test_an_epoch_is_one_part_gone_through_or_a_number(parts) -> None:
    assert len(alike(parts)) == 17  # 10 samples of a at 3/5
    assert len(alike(parts, epoch="b")) == 18  # 7 samples of b at 2/5
    mix = alike(parts, epoch=20)
    rows = stream(mix, 5, batch_size=10, threads=0)
    assert [row[1] for row in rows] == [0] * 20 + [1] * 20 + [2] * 10
    late = stream(mix, 2, batch_size=10, epoch=1, threads=0)
    assert [row[3:] for row in late] == [row[3:] for row in rows[20:40]]
    assert [row[1] for row in late] == [1] * 20
    # by batch an epoch begins with a whole batch: 2 * 10 samples, the third batch of 8
    mix = unlike(parts, epoch=10)
    rows = stream(mix, 6, batch_size=8, threads=0)
    late = stream(mix, 2, batch_size=8, epoch=2, threads=0)
    assert [row[2:] for row in late] == [row[2:] for row in rows[24:40]]


def test_replacement_draws_every_sample_equally(parts) -> None:
    mix = Mixture({"radar": parts["radar"]}, {"radar": 1}, epoch=10, replacement=True)
    keys = [row[3] for row in stream(mix, 1, batch_size=2000, threads=0)]
    counts = collections.Counter(keys)  # 400 each +- 5 sigma (sigma = 17.9)
    assert len(counts) == 5
    assert max(abs(count - 400) for count in counts.values()) < 90


def test_parts_give_what_they_have_of_what_is_asked(parts) -> None:
    bands = {"s2l1c_10": ("B04", "B02"), "s1grd_10": ("VH",)}
    seen = set()
    for batch in unlike(parts).loader(8, steps=8, threads=0, bands=bands, labels=["cover"]):
        (name,) = batch.pixels
        assert batch.bands == {name: bands[name]}
        assert batch.pixels[name].shape[1] == len(bands[name])
        assert set(batch.labels) == ({"cover"} if batch.part in ("a", "b") else set())
        seen.add(batch.part)
    assert seen == {"a", "b", "radar"}
    with pytest.raises(UsageError, match="part radar has none of"):
        unlike(parts).loader(modalities=["s2l1c_10"])
    with pytest.raises(UsageError, match="did you mean 's2l1c_10'"):
        unlike(parts).loader(modalities=["s2l1c_1"])
    with pytest.raises(UsageError, match="no label 'covr'"):
        unlike(parts).loader(labels=["covr"])


def test_the_hash_names_all_that_decides_the_stream(parts) -> None:
    one = alike(parts)
    assert one.manifest_hash == alike(parts).manifest_hash
    filtered = {"a": parts["a"].where("split == 'train'"), "b": parts["b"]}
    others = [
        Mixture({"a": parts["a"], "b": parts["b"]}, {"a": 3, "b": 1}, epoch="a"),
        Mixture({"b": parts["b"], "a": parts["a"]}, {"a": 3, "b": 2}, epoch="a"),
        Mixture(filtered, {"a": 3, "b": 2}, epoch=len(one)),
        alike(parts, by="batch"),
        alike(parts, replacement=True),
        alike(parts, epoch=7),
    ]
    assert len({one.manifest_hash, *(other.manifest_hash for other in others)}) == 7
    assert one.statistics("s2l1c_10").keys() == {"a", "b"}
    assert unlike(parts).statistics("s1grd_10").keys() == {"radar"}
    assert unlike(parts).sensors == ("sentinel2-l1c", "sentinel1-grd")


def test_rounded_weights_are_told(parts, capsys) -> None:
    two = {name: parts[name] for name in "ab"}
    mix = Mixture(two, {"a": np.pi, "b": 1}, epoch="a")
    assert "rounded" in capsys.readouterr().err
    assert mix.realised["a"] == pytest.approx(np.pi / (np.pi + 1), abs=1 / 4096)


def test_what_cannot_be_mixed_is_one_line(parts, tmp_path) -> None:
    two = {name: parts[name] for name in "ab"}
    with pytest.raises(UsageError, match="give every part one weight"):
        Mixture(two, {"a": 1}, epoch="a")
    with pytest.raises(UsageError, match="'sample' or 'batch'"):
        alike(parts, by="epoch")
    with pytest.raises(UsageError, match="'c' is no part"):
        alike(parts, epoch="c")
    with pytest.raises(UsageError, match="at least 1 sample"):
        alike(parts, epoch=0)
    with pytest.raises(UsageError, match="by='batch'"):
        Mixture(parts, {"a": 1, "b": 1, "radar": 1}, epoch="a")
    with pytest.raises(UsageError, match="no multiple of batch_size"):
        unlike(parts).loader(8, position=4)
    sizes = {"radar": parts["radar"], "large": radar(tmp_path / "large", 3, size=8)}
    mix = Mixture(sizes, {"radar": 1, "large": 1}, epoch="large")
    with pytest.raises(FMError, match="differ in shape"):
        mix.loader(4)
    assert [len(batch.keys) for batch in mix.loader(4, crop=4, steps=2, threads=0)] == [4, 4]


def test_one_dataset_twice_is_two_parts_in_the_report(tmp_path: Path) -> None:
    write_tiny(tmp_path / "d", 10)
    row = shards.open(tmp_path / "d").index.to_pylist()[0]
    with open(tmp_path / "d" / row["shard"], "r+b") as stream:
        stream.seek(row["s2l1c_10.offset"])
        stream.write(b"\xff")
    whole = shards.open(tmp_path / "d")
    report = tmp_path / "quarantine.jsonl"
    mix = Mixture({"all": whole, "again": whole}, {"all": 1, "again": 1}, epoch="all")
    for _ in range(2):  # what stands in the report is not written again
        list(mix.loader(10, steps=2, threads=0, report=report, on_quarantine=lambda *_: None))
    found = [json.loads(line) for line in report.read_text().splitlines()]
    assert sorted((line["part"], line["key"]) for line in found) == [
        ("again", row["key"]),
        ("all", row["key"]),
    ]
