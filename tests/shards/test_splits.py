"""Splits of whole datasets, and three-way splits of a scene by blocks."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shards
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.geo import block_bounds, block_id, great_circle_m
from shards import splits
from shards.format import INDEX, write_info
from shards.splits import Split, block_split, methods
from shards.splits.buffer import all_bounds, box_distance_m, near_other

COUNT = 600
SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}


def write(folder: Path, count: int = COUNT, seed: int = 0, **fields) -> shards.Dataset:
    """A dataset of single pixels: some towns with many samples, the rest over the whole globe."""
    generator = np.random.default_rng(seed)
    lon = generator.uniform(-180, 180, count)
    lat = np.degrees(np.arcsin(generator.uniform(-1, 1, count)))
    town = generator.random(count) < 0.5
    lon = np.where(town, 30.0 + generator.normal(0, 2, count), lon)
    lat = np.where(town, -1.0 + generator.normal(0, 2, count), lat)

    def samples():
        for i in range(count):
            values = {
                "arrays": {"s1grd_10": generator.normal(-12, 3, (2, 1, 1)).astype(np.float32)},
                "lonlat": (float(lon[i]), float(lat[i])),
                "time": f"20{18 + i % 5}-{1 + i % 12:02d}-15T10:00:00Z",
            }
            values |= {name: of(i) for name, of in fields.items()}
            yield shards.Sample(key=f"k{i:05d}", **values)

    shards.write_dataset(
        folder,
        samples(),
        name="world",
        modalities={"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))},
        provenance={},
        licence="CC0-1.0",
    )
    return shards.open(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> shards.Dataset:
    return write(tmp_path_factory.mktemp("splits") / "world")


def rows_of(ds: shards.Dataset, split: Split) -> dict[str, np.ndarray]:
    place = {key: i for i, key in enumerate(ds.keys)}
    return {part: np.array([place[key] for key in keys]) for part, keys in split.lists.items()}


def check(ds: shards.Dataset, split: Split) -> dict[str, np.ndarray]:
    """Parts are disjoint, in the order of the index, and whole but for what was left out."""
    rows = rows_of(ds, split)
    joined = np.concatenate(list(rows.values()))
    assert len(set(joined.tolist())) == len(joined)
    assert len(joined) + sum(split.left_out.values()) == len(ds)
    assert all((np.diff(part) > 0).all() for part in rows.values())
    assert split.manifest_hash == ds.manifest_hash
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("km", [60, 700])
def test_no_block_is_in_two_parts_and_shares_hold_to_a_block(
    world: shards.Dataset, km: float, seed: int
) -> None:
    rows = check(world, splits.by_block(world, km, SHARES, seed))
    blocks = block_id(world.lonlat, km)
    found = {part: set(blocks[part_rows].tolist()) for part, part_rows in rows.items()}
    assert not found["train"] & found["test"]
    assert not found["train"] & found["val"]
    assert not found["val"] & found["test"]
    largest = np.unique(blocks, return_counts=True)[1].max()
    for part, share in SHARES.items():
        assert abs(len(rows[part]) - share * COUNT) <= largest


def test_blocks_are_drawn_by_number_not_by_place_in_the_index(world: shards.Dataset) -> None:
    whole = splits.by_block(world, 700, SHARES)
    assert whole == splits.by_block(world, 700, SHARES)
    assert whole.lists != splits.by_block(world, 700, SHARES, seed=1).lists


@pytest.mark.parametrize("km", [60, 700])
@pytest.mark.parametrize("buffer_km", [25, 200])
def test_parts_keep_their_distance(world: shards.Dataset, km: float, buffer_km: float) -> None:
    split = splits.by_block(world, km, {"a": 0.5, "b": 0.5}, buffer_km=buffer_km)
    rows = check(world, split)
    a, b = (world.lonlat[rows[part]] for part in "ab")
    assert great_circle_m(a[:, None], b[None]).min() >= buffer_km * 1000
    # and nothing else is dropped: samples that stay are as without a buffer, the others are near
    before = rows_of(world, splits.by_block(world, km, {"a": 0.5, "b": 0.5}))
    blocks = block_id(world.lonlat, km)
    for part, other in ("ab", "ba"):
        assert set(rows[part]) <= set(before[part])
        there = [block_bounds(int(n), km) for n in set(blocks[before[other]].tolist())]
        for row in sorted(set(before[part]) - set(rows[part])):
            point = np.repeat(world.lonlat[[row]], len(there), axis=0)
            assert box_distance_m(point, np.array(there)).min() < buffer_km * 1000


@given(
    lon=st.floats(-180, 180),
    lat=st.floats(-90, 90),
    number=st.floats(0, 0.999999),
    km=st.sampled_from((300, 1500, 4000)),
)
@settings(max_examples=100, deadline=None)
def test_distance_to_a_box_is_that_to_its_nearest_point(lon, lat, number, km) -> None:
    total = int(block_id(np.array([180 - 1e-9, 90.0]), km)) + 1
    west, south, east, north = block_bounds(int(number * total), km)
    # a lattice over the box: its nearest point is at most half a step from the box's nearest one
    x, y = np.meshgrid(np.linspace(west, east, 400), np.linspace(south, north, 400))
    lattice = great_circle_m(np.array([lon, lat]), np.stack([x, y], axis=-1)).min()
    found = box_distance_m(np.array([[lon, lat]]), np.array([[west, south, east, north]]))[0]
    step = np.radians(np.hypot(east - west, north - south)) / 399 * 6_371_008.8
    inside = (lon - west) % 360 <= east - west and south <= lat <= north
    want, off = (0.0, 1e-3) if inside else (lattice, step)  # on an edge: rounding
    assert found == pytest.approx(want, abs=off)
    assert found <= lattice + 1e-3


def test_bounds_of_many_blocks_are_those_of_each(world: shards.Dataset) -> None:
    numbers = np.unique(block_id(world.lonlat, 400))
    one_by_one = [block_bounds(int(number), 400) for number in numbers]
    assert np.allclose(all_bounds(numbers, 400), one_by_one, rtol=0, atol=1e-9)


def test_near_samples_are_found_across_the_date_line_and_the_poles() -> None:
    lonlat = np.array([[179.99, 10.0], [-179.99, 10.0], [0.0, 89.9], [180.0, 89.9], [50.0, 10.0]])
    blocks, inverse = np.unique(block_id(lonlat, 100), return_inverse=True)
    parts = np.arange(len(blocks))  # every block in a part of its own
    near = near_other(lonlat, inverse, blocks, parts, 100, 30_000)
    assert near.tolist() == [True, True, *([inverse[2] != inverse[3]] * 2), False]


def test_continents(world: shards.Dataset) -> None:
    split = splits.by_continent(world, test=["Africa"], val=["South America", "Oceania"])
    rows = check(world, split)
    towns = np.abs(world.lonlat - [30.0, -1.0]).max(axis=1) < 5
    assert set(np.flatnonzero(towns)) <= set(rows["test"])
    assert (world.lonlat[rows["val"], 1] < 45).all()
    only = splits.by_continent(world, test=["Africa"], rest=None)
    assert list(only.lists) == ["test"]
    assert only.left_out == {"other continents": COUNT - len(rows["test"])}
    with pytest.raises(UsageError, match="is in 'a' and in 'b'"):
        splits.by_continent(world, a=["Asia"], b=["Asia"])
    with pytest.raises(UsageError, match="name the continents"):
        splits.by_continent(world)


def test_times_belong_to_the_range_with_both_ends(world: shards.Dataset) -> None:
    split = splits.by_time(world, train="..2019", val="2020", test="2021-03-15..2022-05")
    rows = check(world, split)
    years = {
        part: set((world.time[r] // 31_556_952 + 1970).astype(int)) for part, r in rows.items()
    }
    assert years == {"train": {2018, 2019}, "val": {2020}, "test": {2021, 2022}}
    moments = world.time[rows["test"]].astype("datetime64[s]")
    assert moments.min() == np.datetime64("2021-03-15T10:00")
    assert moments.max() == np.datetime64("2022-05-15T10:00")
    assert split.left_out == {"other times": COUNT - sum(map(len, rows.values()))}


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("..2020", None, "2021-01-01"),
        ("2021..", "2021-01-01", None),
        ("2020-12", "2020-12-01", "2021-01-01"),
        ("2020-02..2020-02", "2020-02-01", "2020-03-01"),
        ("2019-12-31..2020-01-02", "2019-12-31", "2020-01-03"),
        (
            "2020-01-01T12:00..2020-01-01T18:00+02:00",
            "2020-01-01T12:00",
            "2020-01-01T16:00:00.000001",
        ),
        ("2020-01-01T12:00", "2020-01-01T12:00", "2020-01-01T12:00:00.000001"),
        ("2021..9999-12-31", "2021-01-01", None),
        ("2021..9999-12", "2021-01-01", None),
        ("2021..9999", "2021-01-01", None),
        ("..9999-12-31T23:59:59.999999", None, None),
    ],
)
def test_ranges(text: str, start: str | None, stop: str | None) -> None:
    wanted = [
        open_end if end is None else float(np.datetime64(end, "us").astype(np.int64) / 1e6)
        for end, open_end in ((start, -np.inf), (stop, np.inf))
    ]
    assert list(methods.time_range(text)) == wanted


def test_a_sample_at_the_end_of_a_range_belongs_to_it(world: shards.Dataset) -> None:
    moment = str(np.datetime64(int(world.time[0]), "s"))
    wanted = [
        key for key, time in zip(world.keys, world.time, strict=True) if time == world.time[0]
    ]
    for text in (moment, f"..{moment}"):
        assert set(wanted) <= set(splits.by_time(world, part=text).lists["part"])
    assert sorted(splits.by_time(world, part=moment).lists["part"]) == sorted(wanted)


def test_ranges_that_overlap_or_are_none_are_refused(world: shards.Dataset) -> None:
    with pytest.raises(UsageError, match="overlap"):
        splits.by_time(world, train="..2020", test="2020-12..")
    for text in ("..", "2020-13", "spring", "2020-02-30.."):
        with pytest.raises(UsageError, match="range"):
            splits.by_time(world, train=text)


def test_a_series_belongs_where_all_its_times_do(tmp_path: Path) -> None:
    def pixels(i):
        return {"s1grd_10": np.full((2, 2, 1, 1), i, np.float32)}

    def times(i):
        years = (("2019", "2019"), ("2020", "2021"), ("2021", "2021"))[i % 3]
        return [f"{years[0]}-12-30", f"{years[1]}-12-31"]

    ds = write(tmp_path / "series", 30, arrays=pixels, times=times, time=lambda i: times(i)[0])
    split = splits.by_time(ds, train="..2020", test="2021..")
    rows = check(ds, split)
    assert {part: set((r % 3).tolist()) for part, r in rows.items()} == {"train": {0}, "test": {2}}
    assert split.left_out == {"other times": 10}


@pytest.mark.parametrize("seed", range(3))
def test_chance_gives_exact_shares_and_does_not_see_the_order(
    world: shards.Dataset, seed: int
) -> None:
    split = splits.random(world, SHARES, seed)
    rows = check(world, split)
    assert {part: len(r) for part, r in rows.items()} == {"train": 360, "val": 90, "test": 150}
    part = world.where("lat > 0")
    again = splits.random(part, SHARES, seed)
    assert sum(map(len, again.lists.values())) == len(part)
    # of the kept samples, those with the smallest hashes are train here and there
    assert len(set(again.lists["train"]) - set(split.lists["train"])) <= 0.1 * len(part)


def test_copies_stay_together(tmp_path: Path) -> None:
    ds = write(tmp_path / "copies", 200)
    first = [ds.keys[i // 4 * 4] if i % 4 else None for i in range(200)]
    table = ds.index.set_column(
        ds.index.column_names.index("duplicate_of"), "duplicate_of", pa.array(first, pa.string())
    )
    pq.write_table(table, ds.path / INDEX)
    digest = sha256_file(ds.path / INDEX)
    write_info(ds.path, dataclasses.replace(ds.info, index_sha256=digest))
    ds = shards.open(ds.path)
    for split in (splits.random(ds, SHARES), splits.by_block(ds, 300, SHARES)):
        rows = check(ds, split)
        groups = [set((r // 4).tolist()) for r in rows.values()]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        assert ("copies of samples elsewhere" in split.left_out) == (split.method == "block")
    # copies of one that was filtered away still do not come into two parts
    rows = rows_of(ds, splits.random(ds.only(k for k in ds.keys if int(k[1:]) % 4), SHARES))
    groups = [set((r // 4).tolist()) for r in rows.values()]
    assert not groups[0] & (groups[1] | groups[2])


def test_samples_without_place_or_time_are_listed_or_left(tmp_path: Path) -> None:
    ds = write(
        tmp_path / "holes",
        40,
        lonlat=lambda i: None if i % 10 == 0 else (3.0 * i, 0.0),
        time=lambda i: None if i % 8 == 0 else f"20{18 + i % 5}-01-01",
    )
    calls = [
        (lambda missing: splits.by_block(ds, 300, SHARES, missing=missing), 4, "coordinates"),
        (lambda missing: splits.by_continent(ds, test=["Asia"], missing=missing), 4, "coord"),
        (lambda missing: splits.by_time(ds, a="..2019", b="2020..", missing=missing), 5, "time"),
    ]
    for call, count, what in calls:
        with pytest.raises(FMError, match=f"{count} of 40 samples have no {what}.*: k00000, "):
            call("error")
        split = call("leave")
        assert sum(split.left_out.values()) == count
        check(ds, split)
        with pytest.raises(UsageError, match="'error' or 'leave'"):
            call("drop")


def test_impossible_requests_are_one_line(world: shards.Dataset) -> None:
    with pytest.raises(UsageError, match="together they are 1"):
        splits.by_block(world, 100, {"train": 0.5, "test": 0.4})
    with pytest.raises(UsageError, match="letters"):
        splits.random(world, {"../train": 1.0})
    with pytest.raises(FMError, match="'c' gets no sample from"):
        splits.by_block(world, 5000, {"a": 0.899, "b": 0.1, "c": 0.001})
    with pytest.raises(UsageError, match="buffer_km"):
        splits.by_block(world, 100, buffer_km=-1)
    with pytest.raises(FMError, match="'test' gets no sample from it"):
        splits.by_time(world, train="..2022", test="2023..")


def test_a_file_holds_the_split_and_notices_changes(world: shards.Dataset, tmp_path: Path) -> None:
    split, path = splits.by_block(world, 300, SHARES, buffer_km=10), tmp_path / "split.json"
    split.write(path)
    assert Split.read(path, world.manifest_hash) == split
    assert splits.read_part(path, "test") == split.lists["test"]
    with pytest.raises(UsageError, match="no part 'tset'"):
        splits.read_part(path, "tset")
    with pytest.raises(FMError, match="divides the dataset"):
        Split.read(path, "0" * 64)
    document = json.loads(path.read_text())
    swapped = {**document, "lists": {**document["lists"]}}
    swapped["lists"]["train"] = [*document["lists"]["train"][1:], document["lists"]["test"][0]]
    path.write_text(json.dumps(swapped))
    with pytest.raises(FMError, match=r"part 'train'.*SHA-256"):
        Split.read(path)
    # a list with the hash that fits, but with a key of another part
    leak = Split("x", "random", {}, "m", {"a": ["k1", "k2"], "b": ["k2"]})
    leak.write(path)
    with pytest.raises(FMError, match="comes twice"):
        Split.read(path)
    path.write_text('{"format": "other"}')
    with pytest.raises(FMError, match="no split of format"):
        Split.read(path)


def test_a_part_is_opened(world: shards.Dataset, tmp_path: Path) -> None:
    split = splits.random(world, SHARES)
    split.write(tmp_path / "split.json")
    ds = shards.open(world.path, split=(tmp_path / "split.json", "val"))
    assert ds.keys == list(split.lists["val"])


def clumped(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.poisson(3, (60, 8)) * (generator.random((60, 8)) < 0.25)


def test_every_class_gets_its_shares_and_the_draw_is_fixed() -> None:
    counts = clumped()
    split = block_split(counts, candidates=100)
    spread = np.stack([counts[split == s].sum(axis=0) for s in range(3)]) / counts.sum(axis=0)
    assert (spread > 0).all()
    assert np.abs(spread.mean(axis=1) - [0.5, 0.2, 0.3]).max() < 0.1
    assert np.array_equal(split, block_split(counts, candidates=100))
    assert not np.array_equal(split, block_split(counts, candidates=100, seed=1))


def test_the_search_beats_a_plain_draw() -> None:
    counts = clumped(1)

    def cost(split: np.ndarray) -> float:
        spread = np.stack([counts[split == s].sum(axis=0) for s in range(3)]) / counts.sum(axis=0)
        worst = np.abs(spread - np.array([[0.5], [0.2], [0.3]])).max(axis=0).mean()
        return worst + (spread == 0).sum()

    plain = np.random.default_rng(5).choice(3, size=len(counts), p=[0.5, 0.2, 0.3])
    assert cost(block_split(counts, candidates=20)) < 0.5 * cost(plain)


def test_a_class_without_pixels_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="pixel somewhere"):
        block_split(np.zeros((4, 2)))
