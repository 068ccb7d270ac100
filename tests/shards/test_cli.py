"""`fm shards` as a user types it."""

import json
import shutil
from pathlib import Path

import pytest

from fm.cli import main

SCENE = ["build", "sentinel2-scene", "--out", "x", "--folder", "/no/such"]


def test_info_and_verify_on_a_good_dataset(tiny_dataset: Path, capsys) -> None:
    assert main(["shards", "info", str(tiny_dataset)]) == 0
    text = capsys.readouterr().out
    assert "tiny: 24 samples" in text
    assert "s2l1c_10: sentinel2-l1c, 4 bands of 10 m, uint16" in text
    assert main(["shards", "info", str(tiny_dataset), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 12, "val": 6, "test": 6}
    assert {s: sum(n) for s, n in found["class_counts"]["cover"].items()} == found["splits"]
    assert main(["shards", "verify", str(tiny_dataset)]) == 0
    assert "all well" in capsys.readouterr().out


def test_verify_names_the_sample_and_exits_1(tiny_dataset: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "ds"
    shutil.copytree(tiny_dataset, folder)
    shard = sorted(folder.glob("*.tar"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    assert main(["shards", "verify", str(folder), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert any((p["key"] or "").startswith("tiny_") for p in problems)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["info", "/no/such"], 1, "/no/such"),
        (["verify", "/no/such"], 1, "/no/such"),
        (["build", "nothing", "--out", "x"], 2, "there is no 'nothing'"),
        ([*SCENE, "--sensor", "sentinel2-l1c"], 1, "no such folder"),
        ([*SCENE, "--sensor", "sentinel2-l1d"], 2, "did you mean 'sentinel2-l1c'"),
        (SCENE, 2, "required: --sensor"),
        (["build", "indian-pines", "--out", "/tmp", "--cache", "x"], 1, "exists already"),
        (["frobnicate"], 2, "there is no 'frobnicate'"),
    ],
)
def test_bad_input_is_one_line(words, status, text, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["shards", *words]) == status
    error = capsys.readouterr().err
    assert text in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
