"""`fm shards split` as a user types it."""

import json
from pathlib import Path

import numpy as np
import pytest

import shards
from fm.cli import main
from shards.splits import Split, continents


@pytest.fixture
def two_towns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for GeoNames' towns, which take seconds to read (`test_splits.py` asks them)."""
    places = continents.unit_vectors(np.array([[10.0, 50.0], [20.0, 0.0]]))
    belongs = np.array([continents.CONTINENTS.index(name) for name in ("Europe", "Africa")])
    found = continents.nearest_tree(places), belongs
    monkeypatch.setattr(continents, "_towns", lambda: found)


@pytest.mark.usefixtures("two_towns")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["block", "--km", "5", "--share", "train=0.5", "--share", "test=0.5"], "train test"),
        (["random", "--seed", "3"], "train val test"),
        (["time", "--part", "train=..2021-06", "--part", "test=2021-07.."], "train test"),
        (["continent", "--part", "test=Europe", "--rest", ""], "test"),
    ],
)
def test_a_split_is_written_and_applied(
    words: list[str], parts: str, tiny_dataset: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "made" / "mine.json"
    line = ["shards", "split", str(tiny_dataset), "--by", *words, "--out", str(out), "--json"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    split = Split.read(out, shards.open(tiny_dataset).manifest_hash)
    assert (split.name, split.method) == ("mine", words[0])
    assert list(split.lists) == parts.split()
    assert found["counts"] == {part: len(keys) for part, keys in split.lists.items()}
    assert found["sha256"] == split.sha256
    for part, keys in split.lists.items():
        assert shards.open(tiny_dataset, split=(out, part)).keys == list(keys)


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        (["block", "--part", "a=b"], "--part does not go with --by block", 2),
        (["time", "--km", "4", "--part", "a=2021"], "--km does not go with --by time", 2),
        (["random", "--share", "train"], "--share train: write PART=WHAT", 2),
        (["random", "--share", "train=x"], "'x' is no number", 2),
        (["continent", "--part", "test=Atlantis"], "no continent 'Atlantis'", 2),
        (["time"], "at least one part", 2),
        (["random", "--where", "split == 'nothing'"], "no sample has", 2),
        (["block", "--km", "4000"], "gets no sample", 1),
    ],
)
def test_wrong_requests_are_one_line_and_write_nothing(
    words: list[str], text: str, status: int, tiny_dataset: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "mine.json"
    assert main(["shards", "split", str(tiny_dataset), "--by", *words, "--out", str(out)]) == status
    error = capsys.readouterr().err.strip()
    assert text in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_a_split_is_never_replaced(tiny_dataset: Path, tmp_path: Path, capsys) -> None:
    words = ["shards", "split", str(tiny_dataset), "--by", "random", "--out"]
    assert main([*words, str(tmp_path / "a.json")]) == 0
    assert "train 19, val 3, test 2 of 24 samples" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "a.json")]) == 1
    assert "exists already" in capsys.readouterr().err
