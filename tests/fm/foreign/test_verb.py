"""`fm models show` and `convert` on foreign files."""

import json
from pathlib import Path

import pytest
import torch

from fm import checkpoint, foreign
from fm.cli import main
from fm.models.registry import list_models
from tests.fm.foreign.states import GROUPS, TEN, identity, state_of

BANDS = ",".join(band.name for band in TEN["s2l1c_10"])
WORDS = ";".join(f"{name}={','.join(bands)}" for name, bands in GROUPS.items())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"model": state_of("satmaepp_group"), "epoch": 49}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_show_says_what_it_is_and_what_is_missing(file: Path, capsys) -> None:
    assert main(["models", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "satmaepp_group" in shown
    assert "not in the file, give: bands, normalisation, heads, token_groups" in shown
    assert main(["models", "show", str(file), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["numbers"]["channels"] == [4, 4, 2]


def test_convert_writes_the_checkpoint_that_load_makes(file: Path, tmp_path: Path, capsys) -> None:
    scales = {"kind": "zscore", "shift": [0.1] * 10, "scale": [0.5] * 10}
    (tmp_path / "normal.json").write_text(json.dumps(scales))
    out = tmp_path / "ours"
    words = ["models", "convert", str(file), "--out", str(out), "--groups", WORDS, "--heads", "3"]
    words += ["--bands", f"sentinel2-l1c:{BANDS}@10", "--licence", "Apache-2.0"]
    assert main([*words, "--normalisation", str(tmp_path / "normal.json")]) == 0
    assert "dropped" in capsys.readouterr().out
    model = checkpoint.load(out)
    assert model.card is not None
    assert model.card.licence == "Apache-2.0"
    assert (model.card.parent or "").startswith("satmaepp_group, sha256 ")
    normal = identity(TEN)["s2l1c_10"].__class__.from_dict(scales)
    wanted, _ = foreign.load(file, bands=TEN, normalisation=normal, heads=3, token_groups=GROUPS)
    x = {"s2l1c_10": torch.rand(1, 10, 8, 8)}
    with torch.no_grad():
        assert torch.equal(model.encode(x).tokens, wanted.encode(x).tokens)
    assert main([*words, "--normalisation", "identity"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_errors_are_one_line(file: Path, tmp_path: Path, capsys) -> None:
    start = ["models", "convert", str(file), "--out", str(tmp_path / "x")]
    bands = ["--bands", f"sentinel2-l1c:{BANDS}@10"]
    for words, said in (
        ([*bands, "--normalisation", "identity"], "give token_groups="),
        ([*bands, "--normalisation", str(tmp_path / "none.json")], "no such normalisation"),
        (["--bands", "sentinel2-l1c", "--normalisation", "identity"], "add the one the file takes"),
        ([*bands, "--normalisation", "identity", "--groups", "a"], "write NAME=BAND"),
        ([*bands, *bands, "--normalisation", "identity"], "s2l1c_10 was given before"),
    ):
        assert main([*start, *words]) in (1, 2)
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_list_is_also_json(capsys) -> None:
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(list_models())
    assert rows["vit_base"]["width"] == 768
