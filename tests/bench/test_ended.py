"""What was ended while it was made is not there, so that reuse by existence takes nothing half."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shards
from bench import probes_data, scenes
from bench.studies import scoring
from shards.sources.base import Content

BANDS = ("B02", "B03", "B04", "B08")
COUNT = 300
"""More samples than a shard has."""


class Ending:
    """Makes samples, and is ended at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, number: int) -> shards.Sample:
        if number == self.at:
            raise KeyboardInterrupt
        array = np.full((4, 8, 8), number + 1, np.uint16)
        return shards.Sample(f"s{number}", {"s2l2a_10": array})


def test_datasets_of_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def source(at: int) -> SimpleNamespace:
        modalities = {"s2l2a_10": shards.Declared("sentinel2-l2a", BANDS, nodata=0)}
        about = (modalities, {"source": "made"}, "CC0-1.0")
        content = Content("tiny", range(COUNT), Ending(at), *about)
        return SimpleNamespace(configure=lambda parser: None, read=lambda arguments: content)

    folder = tmp_path / "work" / "tiny"
    monkeypatch.setattr(scoring, "get_source", lambda name: source(at=280))
    with pytest.raises(KeyboardInterrupt):
        scoring.dataset("tiny", folder, tmp_path)
    assert list(folder.parent.iterdir()) == []
    monkeypatch.setattr(scoring, "get_source", lambda name: source(at=-1))
    assert len(shards.open(str(scoring.dataset("tiny", folder, tmp_path)))) == COUNT
    monkeypatch.setattr(scoring, "get_source", None)
    assert scoring.dataset("tiny", folder, tmp_path) == folder


def test_windows_of_the_shard_benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(quick: bool):
        yield np.ones((len(scenes.BANDS), scenes.SIDE, scenes.SIDE), np.uint16)
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "DATA", tmp_path)
    monkeypatch.setattr(scenes, "one_grid", ended)
    for make in (
        lambda: scenes.dataset("one", "blosc-lz4", True),
        lambda: scenes.flat_file(True),
        lambda: scenes.geotiffs(True),
    ):
        with pytest.raises(KeyboardInterrupt):
            make()
        assert list(tmp_path.iterdir()) == []


def test_features_of_the_probe_benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = probes_data.Patches(np.ones((2, 3), np.float32), np.arange(2), np.ones((2, 19), bool))
    monkeypatch.setattr(probes_data, "ROOT", tmp_path)
    monkeypatch.setattr(probes_data, "_encode", lambda count: made)
    save = np.savez

    def ended(path, **arrays) -> None:
        Path(path).write_bytes(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", ended)
    with pytest.raises(KeyboardInterrupt):
        probes_data.patches(True)
    monkeypatch.setattr(np, "savez", save)
    assert np.array_equal(probes_data.patches(True).x, made.x)
    (path,) = (tmp_path / ".cache" / "bench-data").iterdir()
    assert path.suffix == ".npz"
