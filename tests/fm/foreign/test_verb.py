"""`fm models show` and `convert` on foreign files."""

import json
from pathlib import Path

import pytest
import torch

from fm import checkpoint, foreign, location
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


def test_a_name_nearly_right_and_a_file_in_its_own_way(file: Path, tmp_path: Path, capsys) -> None:
    assert main(["models", "show", "softcon-rn5-s2"]) == 2
    assert "did you mean 'softcon-rn50-s2'?" in capsys.readouterr().err
    assert main(["models", "show", "runs/none"]) == 1
    assert "no such checkpoint folder" in capsys.readouterr().err
    words = ["--known", "softcon-rn50-s2", "--overwrite"]
    assert main(["models", "convert", str(file), "--out", str(file.parent), *words]) == 2
    assert "which it is made of" in capsys.readouterr().err
    assert file.is_file()


def test_backbones_are_listed(capsys) -> None:
    assert main(["models", "list", "--backbones", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(list_models())
    assert rows["vit_base"]["width"] == 768
    assert main(["models", "list", "--backbones"]) == 0
    assert "vit_base" in capsys.readouterr().out


def listed(capsys, *words: str) -> dict[str, dict]:
    assert main(["models", "list", "--json", *words]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_released_weights_are_listed_with_what_they_are(capsys) -> None:
    rows = listed(capsys)
    one = rows["softcon-vitb14-s2"]
    assert (one["takes"], one["architecture"]) == (
        "sentinel2-l1c, 13 bands",
        "ViT 768 x 12, patch 14",
    )
    # a ViT-B/14 of 13 bands at 224 px, by hand: embedding, cls, 256 + 1 positions, blocks, norm
    block = 12 * 768**2 + 13 * 768 + 2 * 768
    embedding = (13 * 14**2 + 1) * 768 + 768 + 257 * 768
    assert one["parameters"] == embedding + 12 * block + 2 * 768
    # timm's own count of a ResNet-50's features with 13 bands
    assert rows["ssl4eo-moco-rn50-s2"]["parameters"] == 23_508_032 + 10 * 64 * 49
    # a SIREN of L^2, 512, 512 and 256
    siren = (40**2 + 1) * 512 + 513 * 512 + 513 * 256
    assert rows["satclip-vit16-l40"]["parameters"] == siren
    assert round(rows["geoclip"]["parameters"] / 1e6, 2) == 9.45
    assert rows["presto"]["pinned"] == "sha256"
    assert rows["softcon-rn50-s2"]["pinned"] == "revision"
    assert rows["decur-rn50-s2"]["pinned"] == "revision, 8 digits"
    assert rows["satclip-vit16-l40"]["pinned"] == "no"
    for row in rows.values():
        assert row["parameters"] is None or row["parameters"] > 100_000
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[0].split()[:3] == ["name", "takes", "architecture"]
    assert any("8 bands and NDVI" in line for line in lines)
    ends = {line.split()[0]: line.rpartition("(")[2] for line in lines[1:]}
    assert ends["presto"] == "sha256 559c9d76)"
    assert ends["decur-rn50-s2"].startswith("only 8 digits of sha256: ")
    assert ends["softcon-rn50-s2"] == "no hash published)"
    assert ends["satclip-vit16-l40"] == "no hash published, no revision published)"


def test_options_that_would_do_nothing_are_refused(tmp_path: Path, capsys) -> None:
    assert main(["models", "list", "--backbones", "--sensor", "rgb"]) == 2
    assert "--sensor is of weights" in capsys.readouterr().err
    location.save(tmp_path / "place", location.create("sh", L=4, dim=4, width=8, depth=1))
    for model in ("eofm/mae-aviris", "presto", str(tmp_path / "place")):
        assert main(["models", "show", model, "--part", "teacher"]) == 2
        assert "--part is of a weight file" in capsys.readouterr().err
    assert main(["models", "show", "missing.pth", "--part", "teacher"]) == 2
    assert "missing.pth: no such folder or file" in capsys.readouterr().err


def test_show_tells_a_location_encoder(tmp_path: Path, capsys) -> None:
    told = location.save(tmp_path / "place", location.create("sh", L=4, dim=4, width=8, depth=1))
    assert main(["models", "show", str(tmp_path / "place")]) == 0
    assert told["weights_sha256"] in capsys.readouterr().out
    assert main(["models", "show", str(tmp_path / "place"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_filters(capsys) -> None:
    assert set(listed(capsys, "--sensor", "enmap")) == {
        *(f"spectralearth-vit{size}" for size in "sbl"),
        "spectralearth-rn50",
    }
    assert {row["licence"] for row in listed(capsys, "--licence", "mit").values()} == {"MIT"}
    places = listed(capsys, "--kind", "location")
    assert len(places) == 7
    both = listed(capsys, "--sensor", "sentinel1", "--objective", "softcon")
    assert len(both) == 3
    assert main(["models", "list", "--sensor", "sentinel9"]) == 2
    assert "no weights fit these filters" in capsys.readouterr().err
    whole = listed(capsys, "--torchgeo")
    assert "ResNet18_Weights.LANDSAT_TM_TOA_MOCO" in whole
    assert main(["models", "show", "ResNet18_Weights.LANDSAT_TM_TOA_MOCO"]) == 0
    assert "torchgeo/ssl4eo_landsat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bands", "normal", "text"),
    [
        (f"sentinel2-l1c:{BANDS}@nan", "identity", "'nan' is no number of metres"),
        (f"sentinel2-l1c:{BANDS}@-10", "identity", "'-10' is no number of metres"),
        (f"sentinel2-l1c:{BANDS}@10", '{"kind": "zscore", "shift": [1], "scale": [0]}', "n.json:"),
        (f"sentinel2-l1c:{BANDS}@10", '{"s2l1c_10": 3}', "n.json: a normalisation has the keys"),
    ],
)
def test_a_wrong_grid_or_normalisation_is_told_with_its_file(
    file: Path, tmp_path: Path, capsys, bands: str, normal: str, text: str
) -> None:
    (tmp_path / "n.json").write_text(normal)
    given = normal if normal == "identity" else str(tmp_path / "n.json")
    words = ["models", "convert", str(file), "--out", str(tmp_path / "x"), "--groups", WORDS]
    assert main([*words, "--heads", "3", "--bands", bands, "--normalisation", given]) in (1, 2)
    assert text in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
