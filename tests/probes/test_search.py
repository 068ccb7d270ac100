"""`fm search`: exact cosines against a plain loop, and what is printed, written and refused."""

import csv
import json
import re
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

import fm
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.geo import great_circle_m
from probes.embed import parquet, search
from probes.embed.search_verb import search as verb
from probes.features.extraction import model_hash

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(50, 8)).astype(np.float32)
PLACES = np.stack([RNG.uniform(-180, 180, 50), RNG.uniform(-80, 80, 50)], axis=1)


def write(path: Path, vectors: np.ndarray = VECTORS, **about: str) -> Path:
    lon, lat = PLACES[: len(vectors)].T.tolist()
    lon[7] = lat[7] = None
    rows = pa.table(
        {
            "key": [f"<s{i}>" for i in range(len(vectors))],
            "lon": pa.array(lon, pa.float64()),
            "lat": pa.array(lat, pa.float64()),
            "time": pa.array([1_500_000_000_000_000] * len(vectors), pa.timestamp("us")),
        }
    )
    told = {"model": "m", "dataset": "d", **about}
    parquet.write(path, rows, vectors.shape[1], lambda a, b: vectors[a:b], told)
    return path


def run(*words: object) -> int:
    parser = ArgumentParser()
    verb.configure(parser)
    return verb.run(parser.parse_args([str(word) for word in words])) or 0


def plain(query: np.ndarray) -> np.ndarray:
    x, q = VECTORS.astype(np.float64), query.astype(np.float64)
    return (x @ q) / np.linalg.norm(x, axis=1) / np.linalg.norm(q)


def test_the_rows_with_the_largest_cosines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_ROWS", 7)
    found = parquet.read(write(tmp_path / "e.parquet"))
    hits = search.nearest(found, search.of_row(found, "<s3>"), 12)
    cosines = plain(VECTORS[3])
    order = [i for i in np.argsort(-cosines).tolist() if i != 3][:12]
    assert [hit.key for hit in hits] == [f"<s{i}>" for i in order]
    np.testing.assert_allclose([hit.cosine for hit in hits], cosines[order], atol=1e-5)
    for hit, row in zip(hits, order, strict=True):
        if row != 7:
            assert (hit.lon, hit.lat) == pytest.approx(tuple(PLACES[row]), abs=1e-6)
            away = great_circle_m(PLACES[row], PLACES[3]) / 1000
            assert hit.km == pytest.approx(float(away), abs=1e-5)
        else:
            assert (hit.lon, hit.lat, hit.km) == (None, None, None)
    assert hits[0].time == "2017-07-14T02:40:00Z"
    assert len(search.nearest(found, search.of_row(found, "<s3>"), 1000)) == 49


def test_equal_cosines_keep_the_order_of_rows_and_zeros_are_left_out(tmp_path: Path) -> None:
    vectors = np.ones((12, 8), np.float32)
    vectors[2] = 0
    found = parquet.read(write(tmp_path / "e.parquet", vectors))
    hits = search.nearest(found, search.of_row(found, "<s4>"), 5)
    assert [hit.key for hit in hits] == ["<s0>", "<s1>", "<s3>", "<s5>", "<s6>"]
    with pytest.raises(FMError, match="like nothing"):
        search.nearest(found, search.of_row(found, "<s2>"), 5)


def test_a_place_is_its_nearest_row(tmp_path: Path) -> None:
    found = parquet.read(write(tmp_path / "e.parquet"))
    lon, lat = PLACES[20]
    query = search.of_row(found, f"{lon + 360 + 0.01:.6f}, {lat:.6f}")
    assert query.row == 20
    assert "<s20>" in query.words
    for text, kind in (
        ("1,95", "no place"),
        ("500000,45", "no place"),
        ("s20", r"did you mean"),
        ("lon,lat", "no key"),
    ):
        with pytest.raises(UsageError, match=kind):
            search.of_row(found, text)


def test_a_place_in_the_west_is_no_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "e.parquet")
    for words in (["-70.7,-33.4"], ["--", "-70,-33.4"]):
        assert main(["search", str(file), "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["query"] == words[-1]
    assert main(["search", str(file), "-7x"]) == 2


def test_nothing_is_written_over_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "e.parquet")
    before = file.read_bytes()
    for words, text in (
        (["--csv", file], "which it is made of"),
        (["--csv", tmp_path], "is a folder|made of"),
        (["--csv", tmp_path / "a.html", "--map", tmp_path / "a.html"], "give two files"),
    ):
        assert main(["search", str(file), "<s3>", *map(str, words)]) == 2
        assert re.search(text, capsys.readouterr().err)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["e.parquet"]


def test_an_image_by_the_model_of_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    bands = {"s2l1c_10": fm.sensor("sentinel2-l1c").modalities["s2l1c_10"]}
    model = fm.create_model("vit_nano", bands=bands, token_m=40, width=8, depth=1, heads=2)
    fm.checkpoint.save(tmp_path / "model", model)
    loaded = fm.load(tmp_path / "model")
    pixels = RNG.integers(300, 3000, (4, 16, 24)).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint16", "crs": "EPSG:32633"}
    profile |= {"height": 16, "width": 24, "transform": from_origin(500_000, 4e6, 10, 10)}
    with rasterio.open(tmp_path / "chip.tif", "w", **profile) as out:
        out.write(pixels)
    image = np.zeros((1, 4, 24, 24), np.uint16)
    image[0, :, :16] = pixels
    valid = torch.zeros(1, 24, 24, dtype=bool)
    valid[:, :16] = True
    with torch.inference_mode():
        pooled = loaded.encode(
            {"s2l1c_10": torch.from_numpy(image)}, valid={"s2l1c_10": valid}
        ).pooled
    vectors = VECTORS.copy()
    vectors[31] = 3 * pooled[0].numpy()
    file = write(tmp_path / "e.parquet", vectors, model_sha256=model_hash(loaded))
    words = [file, tmp_path / "chip.tif", "--bands", "sentinel2-l1c:B02,B03,B04,B08"]
    assert run(*words, "--model", tmp_path / "model", "--csv", tmp_path / "hits.csv") == 0
    first = next(csv.DictReader((tmp_path / "hits.csv").open()))
    assert first["key"] == "<s31>"
    assert float(first["cosine"]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UsageError, match="--model"):
        run(*words)
    other = write(tmp_path / "o.parquet", VECTORS, model_sha256="0" * 64)
    with pytest.raises(FMError, match="not the model that made the file"):
        run(other, *words[1:], "--model", tmp_path / "model")


def test_json_and_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.seeing.land._land", lambda: None)  # its file takes seconds
    file, page = write(tmp_path / "e.parquet"), tmp_path / "map.html"
    assert run(file, "<s3>", "--count", 49, "--map", page, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [hit["rank"] for hit in told["hits"]] == list(range(1, 50))
    text = page.read_text(encoding="utf-8")
    assert "<s3>" not in text  # text is no markup
    assert text.count('class="hit"') == 48  # one row has no place
    assert "1 of 49 rows have no place" in text
    assert "default-src &#x27;none&#x27;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert run(file, "<s3>", "--count", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[0] == "1"
    for words in (("--count", 0), ("--map", "a.png"), ("--model", "x")):
        with pytest.raises(UsageError):
            run(file, "<s3>", *words)
