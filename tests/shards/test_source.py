from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import shards
from fm.errors import FMError, UsageError
from shards.ordering.order import Order
from tests.conftest import TINY, write_tiny

S2 = ("B02", "B03", "B04", "B08")


def written(tmp_path: Path, samples: Iterator[shards.Sample] | list[shards.Sample], **more: object):
    settings: dict = {
        "name": "d",
        "modalities": {"s2l1c_10": shards.Declared("sentinel2-l1c", S2)},
        "provenance": {},
        "licence": "",
    }
    shards.write_dataset(tmp_path / "d", samples, **(settings | more))
    return shards.open(tmp_path / "d")


def test_some_bands_in_the_order_asked_for(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    whole = next(ds.loader(5, seed=2))
    bands = {"s2l1c_10": ("B08", "B02"), "s2l1c_60": ("B10",)}
    some = next(ds.loader(5, seed=2, bands=bands))
    assert set(some.pixels) == {"s2l1c_10", "s2l1c_60"}  # others are not read
    assert some.bands == bands
    assert some.keys == whole.keys
    assert np.array_equal(
        some.pixels["s2l1c_10"].numpy(), whole.pixels["s2l1c_10"].numpy()[:, [3, 0]]
    )
    place = ds.modalities["s2l1c_60"].bands.index("B10")
    assert np.array_equal(
        some.pixels["s2l1c_60"][:, 0].numpy(), whole.pixels["s2l1c_60"][:, place].numpy()
    )
    both = next(ds.loader(5, seed=2, bands=bands, modalities=["s2l1c_10", "s2l1c_20", "s2l1c_60"]))
    assert both.pixels["s2l1c_20"].shape[1] == 6


def test_only_members_asked_for_are_read(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = shards.open(tiny_dataset)
    read = []
    plain = type(ds.storage).read_into

    def counting(self, name: str, offset: int, view: memoryview) -> None:
        read.append(len(view))
        plain(self, name, offset, view)

    monkeypatch.setattr(type(ds.storage), "read_into", counting)
    list(ds.loader(TINY, steps=1, bands={"s2l1c_60": ["B10"]}, threads=1))
    assert sum(read) == sum(ds.index.column("s2l1c_60.bytes").to_pylist())


@pytest.mark.parametrize(
    "bands",
    [{"s2l1c_10": ["B8"]}, {"s2l1c_10": "B02"}, {"s2l1c_10": []}, {"s2l1c_11": ["B02"]}],
)
def test_bands_that_are_not_there_are_refused(bands: dict, tiny_dataset: Path) -> None:
    with pytest.raises(UsageError) as caught:
        shards.open(tiny_dataset).loader(2, bands=bands)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no modality 's2l1c_10'"):
        shards.open(tiny_dataset).loader(2, bands={"s2l1c_10": ["B02"]}, modalities=["s2l1c_20"])


def test_random_crops_depend_on_the_position_alone(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    settings: dict = {"seed": 3, "crop": 12, "random_crop": True}
    one = list(ds.loader(8, steps=6, **settings))
    many = [
        list(ds.loader(8, steps=6, rank=rank, world_size=2, threads=3, **settings))
        for rank in (0, 1)
    ]
    seen = set()
    for step, batch in enumerate(one):
        for name in batch.pixels:
            parts = [many[rank][step].pixels[name].numpy() for rank in (0, 1)]
            assert np.array_equal(batch.pixels[name].numpy(), np.concatenate(parts))
        for slot, key in enumerate(batch.keys):
            whole = ds.read(ds.keys.index(key))
            found = [
                (row, column)
                for row in (0, 6, 12)
                for column in (0, 6, 12)
                if all(
                    np.array_equal(
                        batch.pixels[name][slot].numpy(),
                        whole[name][:, row // k :, column // k :][:, : 12 // k, : 12 // k],
                    )
                    for name, k in (("s2l1c_10", 1), ("s2l1c_20", 2), ("s2l1c_60", 6))
                )
            ]
            assert len(found) == 1  # the same ground on every grid
            seen |= set(found)
    assert len(seen) == 9  # 48 draws among nine places


def test_temporal_samples_texts_and_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cubes = rng.integers(1, 9999, (4, 3, 4, 6, 6)).astype(np.uint16)
    days = [[f"2020-0{1 + i}-{d:02d}T00:00:00Z" for d in (1, 11, 21)] for i in range(4)]
    samples = [
        shards.Sample(
            f"t{i}",
            {"s2l1c_10": cubes[i]},
            times=days[i],
            labels={"words": f"feld {i} ä"} if i != 2 else {},
            crs="EPSG:32632",
            transform=(10.0, 0.0, 5e5 + i, 0.0, -10.0, 5e6),
        )
        for i in range(4)
    ]
    ds = written(tmp_path, samples, labels={"words": shards.LabelInfo("words", "text")})
    batch = next(ds.loader(4, shuffle=False, steps=1))
    assert batch.pixels["s2l1c_10"].shape == (4, 3, 4, 6, 6)
    assert np.array_equal(batch.pixels["s2l1c_10"].numpy(), cubes)
    want = np.array(
        [[np.datetime64(t.rstrip("Z"), "s").astype(np.int64) for t in row] for row in days]
    )
    assert batch.times is not None
    assert np.array_equal(batch.times.numpy(), want)
    assert batch.time.tolist() == want[:, 0].tolist()
    assert batch.texts == {"words": ["feld 0 ä", "feld 1 ä", None, "feld 3 ä"]}
    assert "words" not in batch.labels
    back = ds[1]
    assert (back.crs, back.transform) == ("EPSG:32632", (10.0, 0.0, 500001.0, 0.0, -10.0, 5e6))
    assert [t[:10] for t in back.times or ()] == [t[:10] for t in days[1]]
    assert back.labels == {"words": "feld 1 ä"}
    padded = next(ds.loader(6, shuffle=False, pad=True))
    assert padded.times is not None
    assert torch.isnan(padded.times[4:]).all()
    assert padded.texts["words"][4:] == [None, None]


def test_what_has_no_data_is_said_element_by_element(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 9, dtype=np.uint16).reshape(2, 4, 3, 3)
    pixels[1, 1, 0] = 65535
    ds = written(
        tmp_path,
        [shards.Sample(f"n{i}", {"s2l1c_10": pixels[i]}) for i in range(2)],
        modalities={
            "s2l1c_10": shards.Declared("sentinel2-l1c", S2, nodata=(0, 65535, None, 0)),
        },
    )
    batch = next(ds.loader(3, shuffle=False, pad=True))
    assert batch.nodata == {"s2l1c_10": (0, 65535, None, 0)}
    valid = batch.valid("s2l1c_10").numpy()
    want = np.ones((3, 4, 3, 3), bool)
    want[0, 0, 0, 0] = want[1, 1, 0] = want[2] = False
    assert np.array_equal(valid, want)
    some = next(ds.loader(2, shuffle=False, bands={"s2l1c_10": ["B08", "B03"]}))
    assert some.nodata == {"s2l1c_10": (0, 65535)}
    assert np.array_equal(some.valid("s2l1c_10").numpy(), want[:2][:, [3, 1]])


def test_floats_have_no_data_where_they_are_not_finite(tmp_path: Path) -> None:
    pixels = np.ones((2, 2, 2), np.float32)
    pixels[1, 0, 1] = np.nan
    ds = written(
        tmp_path,
        [shards.Sample("f", {"s1grd_10": pixels})],
        modalities={"s1grd_10": shards.Declared("sentinel1-grd", ("VV", "VH"))},
    )
    batch = next(ds.loader(1, shuffle=False))
    assert np.array_equal(batch.valid("s1grd_10")[0].numpy(), np.isfinite(pixels))


def test_drawing_with_replacement(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    batches = list(ds.loader(8, seed=4, replacement=True, steps=12))
    order = Order(TINY, 4, replacement=True).indices(0, 96)
    assert [key for batch in batches for key in batch.keys] == [ds.keys[i] for i in order]
    again = list(ds.loader(8, seed=4, replacement=True, steps=3, position=72))
    assert [b.keys for b in again] == [b.keys for b in batches[9:]]


def test_only_keeps_keys_in_the_order_of_the_index(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    some = ds.only(["tiny_020", "tiny_003", "tiny_011"])
    assert some.keys == ["tiny_003", "tiny_011", "tiny_020"]
    assert some[1].key == "tiny_011"
    assert some.index.column("key").to_pylist() == some.keys
    assert sorted(next(some.loader(3, labels=["cover"])).keys) == some.keys
    both = ds.where("split == 'train'").only(["tiny_004"])
    assert both.keys == ["tiny_004"]
    assert some.where("key == 'tiny_011'").keys == ["tiny_011"]
    with pytest.raises(FMError, match=r"no sample tiny_999 \(1 are missing\)"):
        ds.only(["tiny_001", "tiny_999"])


def test_samples_of_another_number_of_times_need_a_filter(tmp_path: Path) -> None:
    samples = [
        shards.Sample(f"t{i}", {"s2l1c_10": np.ones((1 + i, 4, 6, 6), np.uint16)}) for i in range(2)
    ]
    with pytest.raises(FMError, match=r"shape \(1, 4, 6, 6\) in sample t0 but \(2, 4, 6, 6\)"):
        written(tmp_path, samples).loader(1)


def test_a_tensor_of_every_kind_moves(tmp_path: Path) -> None:
    write_tiny(tmp_path / "t", 4)
    batch = next(shards.open(tmp_path / "t").loader(2, device="meta"))
    assert {tensor.device.type for tensor in batch.tensors()} == {"meta"}
    assert len(batch.tensors()) == 3 + 3 + 5
