"""Folders of location encoders: the same embeddings back, damage refused."""

import json
from pathlib import Path

import pytest
import torch

from fm import location
from fm.errors import FMError
from fm.location.checkpoint import DESCRIPTION, describe

PLACES = torch.tensor([[7.0, 50.0], [-179.9, -33.0], [0.0, 90.0]], dtype=torch.float64)


def saved(folder: Path) -> location.LocationEncoder:
    torch.manual_seed(0)
    encoder = location.create("sh", L=5, width=16, dim=8, season=True)
    location.save(folder, encoder, {"name": "small"})
    return encoder.eval()


def test_a_saved_encoder_gives_the_same_embeddings(tmp_path: Path) -> None:
    encoder = saved(tmp_path / "a")
    again = location.load(tmp_path / "a")
    month = torch.tensor([1.0, 6.0, 12.0])
    assert torch.equal(again(PLACES, month=month), encoder(PLACES, month=month))
    assert describe(tmp_path / "a")["name"] == "small"


def test_damage_and_newer_formats_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    with pytest.raises(FMError, match="exists"):
        saved(tmp_path / "a")
    path = tmp_path / "a" / DESCRIPTION
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"format_version": 99}))
    with pytest.raises(FMError, match=r"format 99, written by .* is newer"):
        location.load(tmp_path / "a")
    for wrong in (
        "sh",
        3,
        {"encoding": "sh", "foo": 7},
        {"encoding": ["sh"]},
        {"head": 3},
        {"branches": 3},
        {"branches": []},
        {"branches": [[]]},
        {"dim": "wide"},
    ):
        path.write_text(json.dumps(told | {"architecture": wrong}))
        with pytest.raises(FMError, match=r"location\.json: .*; it is damaged") as error:
            location.load(tmp_path / "a")
        assert "\n" not in str(error.value)
    wide = told["architecture"] | {"width": 1 << 20, "depth": 3}  # 9 TB
    path.write_text(json.dumps(told | {"architecture": wide}))
    with pytest.raises(FMError, match="the weights do not fit"):
        location.load(tmp_path / "a")
    path.write_text(json.dumps(told | {"weights_sha256": "0" * 64}))
    with pytest.raises(FMError, match="not what location"):
        location.load(tmp_path / "a")
    with pytest.raises(FMError, match="no location encoder"):
        location.load(tmp_path / "b")
