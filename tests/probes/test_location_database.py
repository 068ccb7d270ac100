"""Retrieval heads on a location encoder, from files of embeddings."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import fm.location
from fm.cli import main
from fm.errors import FMError, UsageError
from probes.embed import parquet
from probes.location import database
from probes.location.database import HEADS, open_database
from probes.location.encoders import Encoder, of_module
from tests.probes.test_location import few_continents
from tests.probes.test_location_verb import small_places

__all__ = ["few_continents", "small_places"]  # fixtures

RNG = np.random.default_rng(0)
PLACES = np.stack([RNG.uniform(-180, 180, 40), RNG.uniform(-90, 90, 40)], axis=1)
KEYS = RNG.normal(size=(40, 4)).astype(np.float32)
VALUES = RNG.normal(size=(40, 6)).astype(np.float32)


def released(path: Path, **other: np.ndarray) -> Path:
    arrays = {"locs": PLACES, "satclip_embeddings": KEYS, "image_embeddings": VALUES} | other
    np.savez(path, **arrays)
    return path


def table(path: Path, values: np.ndarray, order: np.ndarray, about: dict | None = None) -> Path:
    lonlat = [[None if np.isnan(v) else v for v in PLACES[order][:, n].tolist()] for n in (0, 1)]
    rows = pa.table(
        {
            "key": [f"s{i}" for i in order.tolist()],
            "lon": pa.array(lonlat[0], pa.float64()),
            "lat": pa.array(lonlat[1], pa.float64()),
            "time": pa.nulls(len(order), pa.timestamp("us")),
        }
    )
    told = {"model_sha256": "m", "manifest_hash": "d", **(about or {})}
    parquet.write(path, rows, values.shape[1], lambda a, b: values[order][a:b], told)
    return path


def encoder() -> Encoder:
    torch.manual_seed(0)
    return of_module("small", fm.location.create("sh", L=4, width=8, dim=4, depth=1))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def unit(lonlat: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(lonlat).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def test_released_file_gives_range_and_range_plus(tmp_path: Path) -> None:
    made = encoder()
    heads = open_database([released(tmp_path / "db.npz")]).on(made)
    assert [head.name for head in heads] == ["small-range", "small-range-plus"]
    asked = np.array([[10.0, 50.0], [-60.0, -10.0], [179.0, 80.0]])
    query = made(asked).astype(np.float64)
    q = query / np.linalg.norm(query, axis=1, keepdims=True)
    k = KEYS / np.linalg.norm(KEYS, axis=1, keepdims=True)
    plain = softmax(15 * q @ k.T) @ VALUES
    mixed = 0.5 * softmax(12 * q @ k.T) + 0.5 * softmax(40 * unit(asked) @ unit(PLACES).T)
    for head, values in zip(heads, (plain, mixed @ VALUES), strict=True):
        np.testing.assert_allclose(head(asked), np.concatenate([query, values], 1), atol=1e-5)
    assert len({head.about["weights_sha256"] for head in heads}) == 2


def test_pieces_of_a_large_database_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = open_database([released(tmp_path / "db.npz")]).on(encoder())[1]
    whole = head(PLACES)
    monkeypatch.setattr("fm.location.retrieval._WEIGHTS", 80)  # two places at a time
    np.testing.assert_allclose(head(PLACES), whole, atol=1e-5)  # softmax of 40 times float32


def test_tables_are_joined_by_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = np.arange(40)
    keys = table(tmp_path / "k.parquet", KEYS, order)
    values = table(tmp_path / "v.parquet", VALUES, order[::-1].copy(), {"model_sha256": "v"})
    found = open_database([keys, values])
    np.testing.assert_array_equal(found.keys, KEYS)
    np.testing.assert_array_equal(found.values, VALUES)
    np.testing.assert_allclose(found.lonlat, PLACES)
    assert (found.about["keys"], found.about["values"]) == ("m", "v")
    alone = open_database([keys])
    np.testing.assert_array_equal(alone.values, KEYS)
    fewer = table(tmp_path / "f.parquet", VALUES, order[:30])
    with pytest.raises(FMError, match="lacks 10 samples"):
        open_database([keys, fewer])
    other = table(tmp_path / "o.parquet", VALUES, order, {"manifest_hash": "e"})
    with pytest.raises(FMError, match="different datasets"):
        open_database([keys, other])
    place = PLACES[3].copy()
    PLACES[3] = np.nan
    try:
        half = table(tmp_path / "n.parquet", KEYS, order)
    finally:
        PLACES[3] = place
    found = open_database([half, values])
    np.testing.assert_array_equal(found.values, np.delete(VALUES, 3, axis=0))
    assert "1 of 40 samples have no place" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"locs": PLACES[:, ::-1] * [1, 1.5]}, r"\(lon, lat\)"),
        ({"locs": PLACES[:, :1]}, "same M"),
        ({"image_embeddings": VALUES[:3]}, "same M"),
        ({"image_embeddings": VALUES[0]}, "expected floats"),
        ({"satclip_embeddings": np.full_like(KEYS, np.nan)}, "NaN"),
        ({"satclip_embeddings": np.zeros_like(KEYS)}, "no direction"),
    ],
)
def test_what_cannot_be_a_database(tmp_path: Path, other: dict, text: str) -> None:
    with pytest.raises(FMError, match=text) as told:
        open_database([released(tmp_path / "db.npz", **other)])
    assert "\n" not in str(told.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", locs=PLACES)
    with pytest.raises(FMError, match="lacks satclip_embeddings, image_embeddings"):
        open_database([tmp_path / "a.npz"])
    np.savez(
        tmp_path / "p.npz", locs=np.array([{}], object), satclip_embeddings=1, image_embeddings=1
    )
    with pytest.raises(FMError, match="without pickles"):
        open_database([tmp_path / "p.npz"])
    with pytest.raises(FMError, match="no such file"):
        open_database([tmp_path / "b.npz"])
    with pytest.raises(UsageError, match="one or two"):
        open_database([tmp_path / "a.npz", tmp_path / "a.npz"])
    narrow = Encoder("xyz", fm.location.create_encoding("cartesian"), "floor")
    with pytest.raises(UsageError, match="keys have 4 numbers and xyz gives 3"):
        open_database([released(tmp_path / "db.npz")]).on(narrow)


@pytest.mark.usefixtures("small_places")
def test_the_verb_judges_heads_beside_the_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.HEADS, "range", HEADS["range"])
    fm.location.save(tmp_path / "place", encoder().module, {"name": "small"})
    words = ["probe", f"location:{tmp_path / 'place'}", "--protocol", "ridge", "--packages", "."]
    words += ["--benchmark", "location-elevation-blocks", "--json"]
    assert main([*words, "--database", str(released(tmp_path / "db.npz"))]) == 0
    found = {one["model"]["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {"small", "small-range", "small-range-plus", "sh10"} <= set(found)
    head = found["small-range-plus"]
    assert head["model"]["database"]["images"] == 40
    assert head["model"]["weights_sha256"] != found["small"]["model"]["weights_sha256"]
    assert "small" in {other["name"] for other in head["versus"]}
    assert "small" not in {other["name"] for other in found["small"]["versus"]}
    assert main(["probe", "m", "--benchmark", "b", "--data", "d", "--database", "x.npz"]) == 2
