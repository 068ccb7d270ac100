import json
import multiprocessing
import os
import shutil
import signal
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fm
import shards
from fm.cli import main
from fm.errors import FMError, UsageError
from probes.embed import parquet
from probes.embed.stage import Stage, work_folder
from probes.embed.table import embed
from probes.features.extraction import model_hash
from shards.building.writer import Declared, Sample, write_dataset
from tests.probes import standin


def _model():
    bands = {**fm.sensor("sentinel2-l2a").modalities, **fm.sensor("sentinel1-grd").modalities}
    return fm.create_model("vit_nano", bands=bands, token_m=120, width=32, depth=1, heads=2)


def test_one_row_a_sample_with_place_and_hash(pairs, tmp_path):
    model = _model()
    path = embed(model, pairs, tmp_path / "e.parquet", batch_size=5)
    table = pq.read_table(path)
    ds = shards.open(pairs)
    assert table.column_names == ["key", "lon", "lat", "time", "split", "embedding", "geometry"]
    assert table.column("key").to_pylist() == list(ds.keys)
    assert str(table.schema.field("embedding").type.value_type) == "float"
    assert table.schema.field("embedding").type.list_size == 32
    vectors = np.array(table.column("embedding").to_pylist())
    assert vectors.shape == (18, 32)
    assert np.ptp(vectors, axis=0).max() > 0
    wkb = table.column("geometry")[3].as_py()
    assert struct.unpack("<BIdd", wkb) == (1, 1, table.column("lon")[3].as_py(), 48.0)
    about = json.loads(table.schema.metadata[b"eofm"])
    assert about["model_sha256"] == model_hash(model)
    assert about["manifest_hash"] == ds.manifest_hash
    assert about["normalisation"].keys() == set(about["modalities"])
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    alone = pq.read_table(embed(model, pairs, tmp_path / "f.parquet", batch_size=1))
    np.testing.assert_allclose(np.array(alone.column("embedding").to_pylist()), vectors, atol=1e-5)


def test_a_batch_larger_than_the_dataset_takes_no_more_memory(pairs, tmp_path, monkeypatch):
    """Defect: the last batch is filled up to its size, a thousand million samples of zeros."""
    sizes, loader = [], shards.Dataset.loader

    def watched(self, size, **options):
        sizes.append(size)
        return loader(self, size, **options)

    monkeypatch.setattr(shards.Dataset, "loader", watched)
    path = embed(_model(), pairs, tmp_path / "e.parquet", batch_size=50)
    assert pq.read_table(path).num_rows == 18
    assert set(sizes) == {18}


def test_samples_without_a_place_and_of_other_sizes(tmp_path):
    pixels, label = standin.scene(side=40)
    ds = standin.write_scene(tmp_path / "ragged", pixels, label)
    table = pq.read_table(embed(standin.Encoder(), ds, tmp_path / "e.parquet"))
    assert table.num_rows == 9
    assert table.column("geometry").null_count == 9


def test_it_streams_and_loads_no_index(pairs, tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise AssertionError("one sample at a time, or the whole index")

    monkeypatch.setattr(shards.Dataset, "read", refused)
    monkeypatch.setattr(shards.Dataset, "index", property(refused))
    path = embed(_model(), pairs, tmp_path / "e.parquet", where="split != 'train'", batch_size=5)
    table = pq.read_table(path)
    keys = shards.open(pairs, where="split != 'train'").keys
    assert table.column("key").to_pylist() == keys
    assert table.num_rows == 12


def test_samples_of_several_kinds_stay_in_their_rows(tmp_path):
    pixels, label = standin.scene(side=40)
    ds = standin.write_scene(tmp_path / "ragged", pixels, label)  # blocks of 16 and 8 pixels
    model = standin.Encoder()
    table = pq.read_table(embed(model, ds, tmp_path / "e.parquet", batch_size=2))
    for key, vector in zip(table["key"].to_pylist(), table["embedding"].to_pylist(), strict=True):
        one = embed(model, ds, tmp_path / f"{key}.parquet", where=f"key == '{key}'")
        alone = pq.read_table(one)["embedding"].to_pylist()[0]
        np.testing.assert_allclose(alone, vector, rtol=1e-5)


def test_a_damaged_sample_is_named(pairs, tmp_path):
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    row = shards.open(folder).index.to_pylist()[4]
    with open(folder / row["shard"], "r+b") as stream:
        stream.seek(row["s2l2a_20.offset"] + 20)
        stream.write(b"\xff\x00\xff")
    with pytest.raises(FMError, match=row["key"]) as caught:
        embed(_model(), folder, tmp_path / "e.parquet")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "e.parquet").exists()


def test_a_dataset_of_another_sensor_is_refused(pairs, tmp_path):
    with pytest.raises(UsageError, match="aviris_20"):
        embed(standin.Encoder(), pairs, tmp_path / "e.parquet")
    assert not (tmp_path / "e.parquet").exists()


def test_series_are_given_with_their_times(tmp_path):
    bands = {"s2l2a_10": fm.sensor("sentinel2-l2a").modalities["s2l2a_10"]}
    sizes = {"token_m": 40, "width": 32, "depth": 1, "heads": 2}
    rng = np.random.default_rng(0)
    times = [f"2019-{1 + 2 * n:02d}-15T10:00:00Z" for n in range(3)]
    samples = [
        shards.Sample(
            key=f"s{n}",
            arrays={"s2l2a_10": rng.integers(100, 4000, (3, 4, 8, 8)).astype(np.uint16)},
            times=times if n else times[::-1],
        )
        for n in range(4)
    ]
    names = tuple(band.name for band in bands["s2l2a_10"])
    shards.write_dataset(
        tmp_path / "ds",
        samples,
        name="series",
        modalities={"s2l2a_10": shards.Declared("sentinel2-l2a", names, 1e-4, 0.0)},
        labels={},
        provenance={},
        licence="CC0-1.0",
    )
    model = fm.create_model("vit_nano", bands=bands, time_code_width=12, **sizes).eval()
    table = pq.read_table(embed(model, tmp_path / "ds", tmp_path / "e.parquet", batch_size=3))
    found = dict(zip(table.column("key").to_pylist(), table.column("embedding"), strict=True))
    for sample in samples:
        moments = [np.datetime64(t.removesuffix("Z"), "s").astype(float) for t in sample.times]
        with torch.inference_mode():
            alone = model.encode(
                {"s2l2a_10": torch.from_numpy(sample.arrays["s2l2a_10"])[None]},
                times=torch.tensor([moments], dtype=torch.float64),
                scaling={"s2l2a_10": (1e-4, 0.0)},
            )
        np.testing.assert_allclose(found[sample.key].as_py(), alone.pooled[0], atol=1e-5)
    single = fm.create_model("vit_nano", bands=bands, **sizes)
    with pytest.raises(UsageError, match=r"series of images .* the model takes single ones"):
        embed(single, tmp_path / "ds", tmp_path / "f.parquet")


def _radar(folder, values):
    samples = [
        Sample(key=f"r{n}", arrays={"s1grd_10": values[n]}, lonlat=(16.0, 48.0)) for n in range(4)
    ]
    write_dataset(
        folder,
        samples,
        name="radar",
        modalities={"s1grd_10": Declared("sentinel1-grd", ("VV", "VH"), 1.0, 0.0)},
        labels={},
        provenance={},
        licence="CC0-1.0",
    )
    return folder


def test_wrong_units_are_refused_and_odd_values_told(tmp_path, capsys):
    power = np.random.default_rng(0).gamma(2.0, 0.05, (4, 2, 24, 24)).astype(np.float32)
    linear = _radar(tmp_path / "linear", power)
    with pytest.raises(UsageError, match="looks like linear backscatter"):
        embed(_model(), linear, tmp_path / "e.parquet")
    assert not (tmp_path / "e.parquet").exists()
    decibels = _radar(tmp_path / "decibels", 10 * np.log10(power))
    made = pq.read_table(embed(_model(), decibels, tmp_path / "e.parquet"))  # not normalised
    [text] = json.loads(made.schema.metadata[b"eofm"])["notes"]
    assert text.startswith("WARNING: what the model is given is far from normalised (VV")
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("series", [False, True])
def test_numbers_that_say_no_data_are_not_seen(tmp_path, series):
    """Defect: the number that stands for no data is embedded as if it were measured."""
    bands = {"s2l2a_10": fm.sensor("sentinel2-l2a").modalities["s2l2a_10"]}
    sizes = {"token_m": 40, "width": 32, "depth": 1, "heads": 2}
    more = {"time_code_width": 12} if series else {}
    model = fm.create_model("vit_nano", bands=bands, **sizes, **more)
    pixels = np.random.default_rng(0).integers(1000, 3000, (2, 4, 16, 16)).astype(np.uint16)
    found = []
    for number, code in ((0, None), (0, 0), (7, 7)):
        pixels[..., :5] = number
        empty = np.full_like(pixels, number)
        arrays = {"a": pixels, "empty": empty} if code is not None else {"a": pixels}
        times = ["2019-01-15T10:00:00Z", "2019-03-15T10:00:00Z"] if series else None
        names = tuple(band.name for band in bands["s2l2a_10"])
        folder = tmp_path / str(len(found))
        write_dataset(
            folder,
            [
                Sample(key=key, arrays={"s2l2a_10": x if series else x[0]}, times=times)
                for key, x in arrays.items()
            ],
            name="edge",
            modalities={"s2l2a_10": Declared("sentinel2-l2a", names, 1e-4, 0.0, nodata=code)},
            provenance={},
            licence="CC0-1.0",
        )
        found.append(parquet.read(embed(model, folder, folder / "e.parquet")).embedding)
    plain, zero, seven = found
    np.testing.assert_array_equal(zero, seven)
    assert np.abs(plain[0] - zero[0]).max() > 1e-3


def _killed(model, dataset, out):
    """Embed in a process that dies by SIGKILL before its third batch is written."""

    def dies(self, piece, values):
        if piece == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, piece, values)

    put, Stage.put = Stage.put, dies
    embed(model, dataset, out, batch_size=4)


def test_a_killed_run_goes_on_to_the_same_file(pairs, tmp_path, monkeypatch):
    model, out = _model(), tmp_path / "e.parquet"
    whole = embed(model, pairs, tmp_path / "w.parquet", batch_size=4).read_bytes()
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(model, pairs, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    made, put = [], Stage.put
    monkeypatch.setattr(Stage, "put", lambda self, n, x: (made.append(n), put(self, n, x)))
    assert embed(model, pairs, out, batch_size=4).read_bytes() == whole
    assert made == [2, 3, 4]
    assert not work_folder(out).exists()


@pytest.mark.parametrize("where", [None, "split != 'train'"])
def test_workers_change_no_byte(pairs, tmp_path, where, monkeypatch):
    monkeypatch.setattr("probes.embed.table._SPAN", 2)
    model = _model()
    parts = [
        embed(model, pairs, tmp_path / f"{n}.parquet", where=where, batch_size=2, workers=n)
        for n in (1, 3)
    ]
    assert parts[0].read_bytes() == parts[1].read_bytes()
    found = parquet.read(parts[0])
    assert found.keys == list(shards.open(pairs, where=where).keys)
    assert found.embedding.shape == (len(found.keys), 32)
    assert found.time[0] is None or found.time[0].endswith("Z")


def test_workers_on_samples_of_several_kinds(tmp_path):
    pixels, label = standin.scene(side=40)
    ds = standin.write_scene(tmp_path / "ragged", pixels, label)
    one = embed(standin.Encoder(), ds, tmp_path / "a.parquet", batch_size=1)
    two = embed(standin.Encoder(), ds, tmp_path / "b.parquet", batch_size=1, workers=2)
    assert one.read_bytes() == two.read_bytes()


def test_what_is_there_is_not_replaced_unasked(pairs, tmp_path, capsys):
    out = embed(_model(), pairs, tmp_path / "e.parquet")
    with pytest.raises(FMError, match="exists already"):
        embed(_model(), pairs, out)
    embed(_model(), pairs, out, where="split == 'test'", overwrite=True)
    assert len(parquet.read(out).keys) < 18
    with pytest.raises(UsageError, match=r"\.parquet"):
        embed(_model(), pairs, tmp_path / "e.csv")
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(FMError, match="is a folder"):
        embed(_model(), pairs, tmp_path / "d.parquet", overwrite=True)
    fm.checkpoint.save(tmp_path / "model", _model())
    words = ["embed", str(tmp_path / "model"), str(pairs), "--out", str(tmp_path / "v.parquet")]
    assert main([*words, "--workers", "2", "--batch-size", "4"]) == 0
    assert "samples in" in capsys.readouterr().err


def test_files_that_hold_no_embeddings(tmp_path):
    with pytest.raises(FMError, match="no such file"):
        parquet.read(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    with pytest.raises(FMError, match=r"not a Parquet file .* makes of a dataset"):
        parquet.read(tmp_path / "b.parquet")
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "c.parquet")
    with pytest.raises(FMError, match="no embeddings of fm embed"):
        parquet.read(tmp_path / "c.parquet")
