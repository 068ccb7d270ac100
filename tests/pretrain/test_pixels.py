"""A look at the pixels of a filtered dataset: nothing of what the filter leaves out."""

from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import FMError
from pretrain import pixels
from pretrain.trainer import load_config
from shards.building.declare import Declared
from shards.sample import Sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)

    def samples() -> list[Sample]:
        made = []
        for i in range(12):
            x = generator.integers(1, 900, (6, 8, 8)).astype(np.uint16) + (5000 if i % 3 else 0)
            x[2, :4] = 0
            made.append(Sample(f"s{i}", {"l7l1_30": x}, split="train" if i % 3 == 0 else "test"))
        return made

    bands = ("B1", "B2", "B3", "B4", "B5", "B7")
    declared = {"l7l1_30": Declared("landsat7-etm-l1", bands, nodata=0)}
    shards.write_dataset(
        tmp_path / "ds",
        samples(),
        name="d",
        modalities=declared,
        labels={},
        provenance={},
        licence="none",
    )
    return tmp_path / "ds"


def test_statistics_of_samples_are_those_of_the_filter(folder: Path) -> None:
    ds = shards.open(folder, where="split == 'train'")
    found = pixels.statistics(ds, "l7l1_30", ["B3", "B1"])
    values = np.stack([ds[i].arrays["l7l1_30"] for i in range(len(ds))]).astype(float)
    third = values[:, 2]
    assert found["mean"][0] == pytest.approx(third[third > 0].mean())
    assert found["std"][1] == pytest.approx(values[:, 0].std())
    assert found["max"][0] < 1000 < shards.open(folder).statistics("l7l1_30")["max"][2]


def test_the_look_takes_as_much_from_every_sample(folder: Path) -> None:
    ds = shards.open(folder)
    assert pixels._spread(5) == [0, 4, 2, 1, 3]
    assert sorted(pixels._spread(12)) == list(range(12))
    seen = list(pixels.look(ds, "l7l1_30", ["B3"], pixels=12 * 16))
    assert [physical.shape for physical, _ in seen] == [(1, 16)] * 12
    physical, known = seen[0]
    assert not known[0, :8].any()  # the upper half has no data
    assert known[0, 8:].all()
    assert (physical[~known] == 0).all()


def test_unreadable_samples_are_left_out_up_to_the_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = shards.open(folder)
    read = ds.read

    def broken(i: int, members: list[str]) -> dict[str, np.ndarray]:
        if i == 4:
            raise FMError("sample s4 is damaged")
        return read(i, members)

    monkeypatch.setattr(ds, "read", broken)
    assert len(list(pixels.look(ds, "l7l1_30", ["B1"], max_bad=0.1))) == 11
    with pytest.raises(FMError, match="s4 is damaged"):
        list(pixels.look(ds, "l7l1_30", ["B1"]))


def test_older_runs_keep_their_identity() -> None:
    usual = load_config("mae_s2_tiny")
    assert "statistics" not in usual.identity()["data"]
    other = load_config("mae_s2_tiny", ["data.statistics=samples"])
    assert other.identity()["data"]["statistics"] == "samples"
