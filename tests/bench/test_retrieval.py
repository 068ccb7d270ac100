"""Whose rows the study of retrieval compares."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fm.location
from bench.studies import climate, retrieval
from bench.studies.retrieval import beside_each_other
from fm.errors import UsageError
from fm.files import write_json
from probes.location.database import Database
from probes.location.encoders import get_encoder, of_module


def test_values_dealt_out_anew_stand_beside_their_own() -> None:
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-180, 180, 30), rng.uniform(-90, 90, 30)], axis=1)
    keys, values = rng.normal(size=(2, 30, 4)).astype(np.float32)
    torch.manual_seed(0)
    own = of_module("run", fm.location.create("sh", L=4, width=8, dim=4, depth=1))
    database = Database(lonlat, keys, values, "0")
    found = beside_each_other(own, database, Path(), ("satclip", "wrap"))
    heads = ["range", "range-plus", "range, shuffled", "range-plus, shuffled"]
    ours = ["satclip", *(f"satclip, {head}" for head in heads)]
    assert list(found) == [*ours, "wrap", "wrap, range-plus", "wrap, range-plus, shuffled"]
    assert all(encoder.name == name for name, encoder in found.items())
    places = lonlat[:5]
    made = {name: encoder(places) for name, encoder in found.items()}
    assert np.array_equal(made["satclip"], own(places))
    for name in ours[1:]:
        assert np.array_equal(made[name][:, :4], made["satclip"])
    assert not np.allclose(made["satclip, range"], made["satclip, range, shuffled"])
    # the same weights of other values: all of them on the whole
    head = found["satclip, range, shuffled"].module
    assert torch.equal(head.values.sort(0)[0], torch.from_numpy(values).sort(0)[0])
    # a raw encoding has what the head of the run retrieves beside it
    assert np.array_equal(made["wrap, range-plus"][:, :4], get_encoder("wrap", None)(places))
    assert np.array_equal(made["wrap, range-plus"][:, 4:], made["satclip, range-plus"][:, 4:])


def test_another_run_embeds_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def embed(model: Path, data: Path, out: Path) -> None:
        assert data == tmp_path
        out.touch()
        asked.append(f"{model.name} {out.name}")

    monkeypatch.setattr(retrieval, "embed", embed)
    place, export = tmp_path / "location", tmp_path / "export"
    torch.manual_seed(0)
    fm.location.save(place, fm.location.create("sh", L=4, width=8, dim=4, depth=1))
    export.mkdir()
    write_json(export / "card.json", {"weights_sha256": "one"})
    write_json(tmp_path / "dataset.json", {})
    both = ["location keys.parquet", "export values.parquet"]
    for times in (1, 2):
        for _ in range(2):
            paths = retrieval.embedded(place, export, tmp_path, tmp_path)
            assert [path.name for path in paths] == ["keys.parquet", "values.parquet"]
            assert asked == both * times
        write_json(export / "card.json", {"weights_sha256": "other"})


def test_nothing_is_chosen_so_test_alone_is_scored(tmp_path: Path) -> None:
    for study in (climate, retrieval):
        with pytest.raises(UsageError, match="--split val: nothing here is chosen, so test alone"):
            study.run(tmp_path, tmp_path, split="val", seeds=(0,), methods=study.METHODS)
    assert list(tmp_path.iterdir()) == []
