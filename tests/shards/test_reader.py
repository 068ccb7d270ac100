import gc
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shards
from fm.errors import FMError, UsageError
from shards.reading.batch import Batch
from tests.conftest import TINY, tiny_samples, write_tiny

BATCH = 10


def same(a: Batch, b: Batch) -> bool:
    assert a.keys == b.keys
    names = ("lonlat", "time", "weight", "positions", "epochs")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    pairs += [(a.pixels[name], b.pixels[name]) for name in a.pixels]
    pairs += [(a.labels[name], b.labels[name]) for name in a.labels]
    return all(np.array_equal(x.numpy(), y.numpy(), equal_nan=x.is_floating_point())
               for x, y in pairs)  # fmt: skip


def joined(parts: list[Batch]) -> Batch:
    def cat(name: str) -> torch.Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    first = parts[0]
    return Batch(
        keys=[key for part in parts for key in part.keys],
        pixels={
            name: torch.from_numpy(np.concatenate([part.pixels[name].numpy() for part in parts]))
            for name in first.pixels
        },
        labels={name: torch.cat([part.labels[name] for part in parts]) for name in first.labels},
        scaling=first.scaling,
        **{name: cat(name) for name in ("lonlat", "time", "weight", "positions", "epochs")},
    )


@pytest.fixture(scope="module")
def reference(tiny_dataset: Path) -> list[Batch]:
    return list(shards.open(tiny_dataset).loader(BATCH, seed=5, threads=1, steps=9))


def test_batches_hold_what_was_written(reference: list[Batch]) -> None:
    written = {sample.key: sample for sample in tiny_samples()}
    for batch in reference:
        assert batch.weight.tolist() == [1.0] * BATCH
        assert batch.scaling["s2l1c_20"] == (1e-4, 0.0)
        for slot, key in enumerate(batch.keys):
            sample = written[key]
            for name, array in sample.arrays.items():
                assert batch.pixels[name].dtype == torch.uint16
                assert np.array_equal(batch.pixels[name][slot].numpy(), array)
            assert batch.lonlat[slot].tolist() == list(sample.lonlat)
            assert batch.labels["cover"][slot] == sample.labels["cover"]
            assert batch.labels["level"][slot] == sample.labels["level"]
            hot = torch.zeros(3)
            hot[sample.labels["tags"]] = 1
            assert torch.equal(batch.labels["tags"][slot], hot)
            when = np.datetime64(sample.time.rstrip("Z"), "s").astype(np.int64)
            assert batch.time[slot] == when


def test_the_stream_goes_on_from_epoch_to_epoch(reference: list[Batch]) -> None:
    keys = [key for batch in reference for key in batch.keys]
    epochs = torch.cat([batch.epochs for batch in reference]).tolist()
    positions = torch.cat([batch.positions for batch in reference]).tolist()
    assert positions == list(range(90))
    assert epochs == [place // TINY for place in positions]
    for epoch in range(3):
        assert len(set(keys[epoch * TINY : (epoch + 1) * TINY])) == TINY
    assert keys[:TINY] != keys[TINY : 2 * TINY]


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_change_nothing(threads: int, tiny_dataset: Path, reference: list[Batch]) -> None:
    found = shards.open(tiny_dataset).loader(BATCH, seed=5, threads=threads, steps=9)
    assert all(same(a, b) for a, b in zip(found, reference, strict=True))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_the_global_batch(
    world: int, tiny_dataset: Path, reference: list[Batch]
) -> None:
    ds = shards.open(tiny_dataset)
    ranks = [ds.loader(BATCH, seed=5, rank=r, world_size=world, steps=9) for r in range(world)]
    for step, parts in enumerate(zip(*ranks, strict=True)):
        assert same(joined(list(parts)), reference[step])


def sequence(
    ds: shards.Dataset, batch: int, world: int, threads: int, start: int, stop: int
) -> tuple[list[str], list[int]]:
    """Keys and labels at the positions `[start, stop)` of the global stream."""
    steps = -(-(stop - start) // batch)
    settings: dict = {"seed": 9, "position": start, "steps": steps, "threads": threads}
    ranks = [
        ds.loader(batch, rank=rank, world_size=world, modalities=["s2l1c_60"], **settings)
        for rank in range(world)
    ]
    keys, pixels = [], []
    for parts in zip(*ranks, strict=True):
        assert len({len(part.keys) for part in parts}) <= 2
        whole = joined(list(parts))
        keys += whole.keys
        pixels += whole.pixels["s2l1c_60"].numpy().sum((1, 2, 3), dtype=np.int64).tolist()
    return keys[: stop - start], pixels[: stop - start]


@pytest.fixture(scope="module")
def two_epochs(tiny_dataset: Path) -> tuple[list[str], list[int]]:
    return sequence(shards.open(tiny_dataset), 1, 1, 0, 0, 2 * TINY)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("threads", [0, 1, 2, 3, 4])
def test_two_epochs_hold_every_sample_twice_in_one_sequence(
    world: int, threads: int, tiny_dataset: Path, two_epochs: tuple[list[str], list[int]]
) -> None:
    ds = shards.open(tiny_dataset)
    batch = 8 + (7 * world + 5 * threads) % 23  # all kinds of sizes
    found = sequence(ds, batch, world, threads, 0, 2 * TINY)
    assert found == two_epochs
    assert Counter(found[0]) == dict.fromkeys(ds.keys, 2)


@given(
    cuts=st.lists(st.integers(0, 2 * TINY), max_size=3),
    runs=st.lists(
        st.tuples(st.integers(8, 40), st.sampled_from((1, 2, 3, 8)), st.integers(0, 4)),
        min_size=4,
        max_size=4,
    ),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_stopped_anywhere_and_resumed_with_other_counts_the_union_is_exact(
    cuts: list[int],
    runs: list[tuple[int, int, int]],
    tiny_dataset: Path,
    two_epochs: tuple[list[str], list[int]],
) -> None:
    ds = shards.open(tiny_dataset)
    ends = [0, *sorted(cuts), 2 * TINY]
    keys: list[str] = []
    pixels: list[int] = []
    for (start, stop), (batch, world, threads) in zip(pairwise(ends), runs, strict=False):
        found = sequence(ds, batch, world, threads, start, stop)
        keys, pixels = keys + found[0], pixels + found[1]
    assert (keys, pixels) == two_epochs


@given(step=st.integers(0, 8), threads=st.integers(1, 3))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_resume_at_any_position(
    step: int, threads: int, tiny_dataset: Path, reference: list[Batch]
) -> None:
    ds = shards.open(tiny_dataset)
    again = ds.loader(BATCH, seed=5, position=step * BATCH, threads=threads, steps=9 - step)
    for a, b in zip(again, reference[step:], strict=True):
        assert same(a, b)


def test_a_position_that_is_no_multiple_of_the_batch(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    whole = [key for batch in ds.loader(7, steps=8) for key in batch.keys]
    assert [key for batch in ds.loader(7, position=31, steps=3) for key in batch.keys] == whole[
        31:52
    ]


def test_evaluation_sees_each_sample_once_and_pads(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    for world in (1, 3):
        ranks = [
            ds.loader(BATCH, rank=r, world_size=world, shuffle=False, pad=True)
            for r in range(world)
        ]
        batches = [joined(list(parts)) for parts in zip(*ranks, strict=True)]
        assert len(batches) == 3
        keys = [key for batch in batches for key in batch.keys]
        assert keys == ds.keys + [""] * 6
        last = batches[-1]
        assert last.weight.tolist() == [1.0] * 4 + [0.0] * 6
        assert all(not pixels[4:].numpy().any() for pixels in last.pixels.values())
        assert last.labels["cover"][4:].tolist() == [-1] * 6
        assert torch.isnan(last.lonlat[4:]).all()


def test_batches_that_are_kept_are_not_overwritten(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    kept, views, copies = [], [], []
    for step, batch in enumerate(ds.loader(4, seed=1, steps=40)):
        if step % 3 == 0:
            kept.append(batch)
            copies.append(batch.pixels["s2l1c_10"].numpy().copy())
        elif step % 3 == 1:
            views.append(
                (batch.pixels["s2l1c_20"][1, 2], batch.pixels["s2l1c_20"][1, 2].numpy().copy())
            )
        del batch
    assert all(
        np.array_equal(a.pixels["s2l1c_10"].numpy(), b) for a, b in zip(kept, copies, strict=True)
    )
    assert all(np.array_equal(view.numpy(), copy) for view, copy in views)


def damage(folder: Path, keys: list[str], member: str = "s2l1c_20") -> None:
    index = shards.open(folder).index.to_pylist()
    for row in index:
        if row["key"] in keys:
            with open(folder / row["shard"], "r+b") as stream:
                stream.seek(row[f"{member}.offset"] + row[f"{member}.bytes"] // 2)
                byte = stream.read(1)
                stream.seek(-1, os.SEEK_CUR)
                stream.write(bytes([byte[0] ^ 4]))


@pytest.fixture
def copy(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))


def test_a_damaged_sample_is_quarantined_and_the_rest_goes_on(
    copy: Path, reference: list[Batch]
) -> None:
    damage(copy, ["tiny_004"])
    said: list[tuple[str, str]] = []
    loader = shards.open(copy).loader(
        BATCH, seed=5, steps=9, threads=3, on_quarantine=lambda *x: said.append(x)
    )
    hits = 0
    for batch, good in zip(loader, reference, strict=True):
        assert batch.keys == good.keys
        bad = torch.tensor([key == "tiny_004" for key in batch.keys])
        hits += int(bad.sum())
        assert torch.equal(batch.weight, (~bad).float())
        for name, pixels in batch.pixels.items():
            assert not pixels.numpy()[bad.numpy()].any()
            assert np.array_equal(
                pixels.numpy()[~bad.numpy()], good.pixels[name].numpy()[~bad.numpy()]
            )
    assert hits >= 3
    assert said == [("tiny_004", "s2l1c_20: checksum mismatch in tiny-000000.tar")]
    with pytest.raises(FMError, match=r"tiny_004: s2l1c_20: checksum mismatch.*fm shards verify"):
        shards.open(copy)[4]


def test_a_shard_that_vanished_or_was_cut_short_is_quarantined(copy: Path) -> None:
    with open(copy / "tiny-000003.tar", "r+b") as stream:
        stream.truncate(700)
    said: dict[str, str] = {}
    list(
        shards.open(copy).loader(
            8, shuffle=False, pad=True, max_bad=0.5, on_quarantine=said.__setitem__
        )
    )
    assert set(said) == {"tiny_021", "tiny_022", "tiny_023"}
    assert "ends early" in said["tiny_022"]
    (copy / "tiny-000003.tar").unlink()
    list(
        shards.open(copy).loader(
            8, shuffle=False, pad=True, max_bad=0.5, on_quarantine=said.__setitem__
        )
    )
    assert "No such file" in said["tiny_022"]


def test_past_the_allowed_rate_it_stops_with_the_keys(copy: Path) -> None:
    damage(copy, ["tiny_001", "tiny_009", "tiny_017"])
    loader = shards.open(copy).loader(4, max_bad=0.1, on_quarantine=lambda *_: None)
    with pytest.raises(FMError) as caught:
        list(zip(range(20), loader, strict=False))
    text = str(caught.value)
    assert "3 of 24" in text
    assert all(key in text for key in ("tiny_001", "tiny_009", "tiny_017"))
    assert "\n" not in text
    # the same two samples again and again are two, not more
    (copy / "tiny-000000.tar").unlink()
    damage_free = shards.open(copy, where="key not in ('tiny_009', 'tiny_017')")
    list(damage_free.loader(4, steps=40, max_bad=7 / 22, on_quarantine=lambda *_: None))


def test_closing_ends_threads_and_files(tiny_dataset: Path) -> None:
    def alive() -> tuple[int, int]:
        gc.collect()
        threads = [t for t in threading.enumerate() if t.name.startswith("shards-reader")]
        tars = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                place = os.readlink(f"/proc/self/fd/{name}")
                tars += place.startswith(str(tiny_dataset)) and place.endswith(".tar")
            except OSError:
                continue
        return len(threads), tars

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    loader = shards.open(tiny_dataset).loader(4, threads=2)
    next(loader)
    assert min(alive()) > 0
    loader.close()
    assert alive() == (0, 0)
    for _ in shards.open(tiny_dataset).loader(4, steps=2):
        pass
    next(shards.open(tiny_dataset).loader(4))  # dropped without a close
    shards.open(tiny_dataset)[0]
    assert alive() == (0, 0)


def ragged(tmp_path: Path) -> shards.Dataset:
    def samples() -> Iterator[shards.Sample]:
        for size in (24, 36):
            for sample in tiny_samples(3, seed=size, size=size):
                sample.key += f"_{size}"
                yield sample

    info = shards.open(write_folder(tmp_path / "base")).info
    shards.write_dataset(
        tmp_path / "ragged",
        samples(),
        name="ragged",
        modalities={
            name: shards.Declared(m.sensor, m.bands) for name, m in info.modalities.items()
        },
        labels=info.labels,
        provenance={},
        licence="",
    )
    return shards.open(tmp_path / "ragged")


def write_folder(folder: Path) -> Path:
    write_tiny(folder, 3)
    return folder


def test_ragged_sizes_need_a_filter_or_a_crop(tmp_path: Path) -> None:
    ds = ragged(tmp_path)
    with pytest.raises(FMError, match=r"filter with where=.* or pass crop="):
        ds.loader(2)
    small = shards.open(tmp_path / "ragged", where="height == 24")
    assert next(small.loader(2)).pixels["s2l1c_10"].shape == (2, 4, 24, 24)
    with pytest.raises(UsageError, match="multiple of"):
        ds.loader(2, crop=16)
    with pytest.raises(UsageError, match="too small for crop=30"):
        ds.loader(2, crop=30)
    # every grid's crop is the same ground: 36 px wide, crop 24 begins at 6 px = 1 px of 60 m
    for batch in ds.loader(3, crop=24, shuffle=False, pad=True):
        for slot, key in enumerate(batch.keys):
            whole = ds.read(ds.keys.index(key))
            start = 6 if key.endswith("36") else 0
            for name, ratio in (("s2l1c_10", 1), ("s2l1c_20", 2), ("s2l1c_60", 6)):
                cut = slice(start // ratio, (start + 24) // ratio)
                assert np.array_equal(batch.pixels[name][slot].numpy(), whole[name][:, cut, cut])


def test_absent_modalities_are_never_zeros(tmp_path: Path) -> None:
    def samples() -> Iterator[shards.Sample]:
        for place, sample in enumerate(tiny_samples(4)):
            if place == 2:
                del sample.arrays["s2l1c_60"]
            yield sample

    info = shards.open(write_folder(tmp_path / "base")).info
    shards.write_dataset(
        tmp_path / "d",
        samples(),
        name="d",
        modalities={n: shards.Declared(m.sensor, m.bands) for n, m in info.modalities.items()},
        labels=info.labels,
        provenance={},
        licence="",
    )
    ds = shards.open(tmp_path / "d")
    with pytest.raises(FMError, match=r"1 of 4 samples have no s2l1c_60 .*tiny_002"):
        ds.loader(2)
    assert set(next(ds.loader(2, modalities=["s2l1c_10"])).pixels) == {"s2l1c_10"}
    assert len(shards.open(tmp_path / "d", where="has('s2l1c_60')")) == 3
    with pytest.raises(UsageError, match="has no s2l1c_60"):
        ds.read(2, ["s2l1c_60"])


def test_masks_and_unknown_labels(tmp_path: Path) -> None:
    pixels = np.ones((4, 4, 4), np.uint16)
    truth = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    samples = [
        shards.Sample(
            "a", {"s2l1c_10": pixels, "truth": truth}, labels={"kind": 1, "tags": [1, 9]}
        ),
        shards.Sample("b", {"s2l1c_10": pixels}),
    ]
    for ignore in (255, None):
        folder = tmp_path / f"d{ignore}"
        shards.write_dataset(
            folder,
            samples,
            name="d",
            modalities={"s2l1c_10": shards.Declared("sentinel2-l1c", ("B02", "B03", "B04", "B08"))},
            labels={
                "map": shards.LabelInfo("map", "mask", ("x", "y", "z"), ignore, member="truth"),
                "kind": shards.LabelInfo("kind", "class", ("x", "y"), ignore),
                "tags": shards.LabelInfo("tags", "multilabel", ("x", "y"), ignore=9),
                "size": shards.LabelInfo("size", "regression"),
            },
            provenance={},
            licence="",
        )
    batch = next(shards.open(tmp_path / "d255").loader(2, shuffle=False, steps=1))
    assert np.array_equal(batch.labels["map"][0].numpy(), truth)
    assert (batch.labels["map"][1] == 255).all()
    assert batch.labels["kind"].tolist() == [1, 255]
    assert batch.labels["tags"][0].tolist() == [0.0, 1.0]
    assert torch.isnan(batch.labels["tags"][1]).all()
    assert torch.isnan(batch.labels["size"]).all()
    bare = shards.open(tmp_path / "dNone")
    with pytest.raises(FMError, match="have no truth"):
        bare.loader(2)
    assert next(bare.loader(2, labels=["kind"], shuffle=False)).labels["kind"].tolist() == [1, -1]


def test_a_batch_moves_to_a_device(reference: list[Batch]) -> None:
    moved = reference[0].to("meta")
    assert moved.pixels["s2l1c_10"].device.type == moved.weight.device.type == "meta"
    assert moved.keys == reference[0].keys


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"batch_size": 2, "world_size": 3},
        {"rank": 1},
        {"rank": -1},
        {"position": -1},
        {"epoch": -1},
        {"threads": -1},
        {"threads": 1.5},
        {"batch_size": 2.5},
        {"position": 1.5},
        {"steps": 2.5},
        {"seed": 0.5},
        {"rank": 0, "world_size": 0},
        {"modalities": "s2l1c_10"},
        {"labels": "cover"},
        {"crop": 0},
        {"random_crop": True},
        {"pad": True, "replacement": True},
        {"pad": True, "position": 500},
        {"device": "nonsense"},
        {"max_bad": "x"},
        {"epoch": 0.5},
        {"window": 1.5},
        {"window": 0},
        {"device": "cuda:99"},
        {"steps": -1},
        {"max_bad": 2.0},
        {"modalities": ["s2l1c_1"]},
        {"modalities": []},
        {"labels": ["covr"]},
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments: dict, tiny_dataset: Path) -> None:
    with pytest.raises(UsageError) as caught:
        shards.open(tiny_dataset).loader(**arguments)
    assert "\n" not in str(caught.value)
