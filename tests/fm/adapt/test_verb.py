"""`fm models adapt`: an ordinary checkpoint with a card, a report, one line for what is wrong."""

import json
from pathlib import Path

import pytest
import torch

from fm.checkpoint import load, save
from fm.cli import main
from fm.models import create_model
from fm.normalize import Normalisation
from fm.sensors import sensor

L2A = sensor("sentinel2-l2a").modalities


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = create_model(
        "vit_nano",
        bands=L2A,
        token_m=120,
        width=24,
        depth=1,
        heads=3,
        normalisation={
            m: Normalisation("zscore", (0.1,) * len(b), (0.05,) * len(b)) for m, b in L2A.items()
        },
    )
    save(tmp_path / "own", model)
    return tmp_path


def test_another_sensor_is_an_ordinary_checkpoint(own: Path, capsys) -> None:
    words = ["models", "adapt", "own", "--sensor", "landsat8-oli-l2", "--policy", "response"]
    assert main([*words, "--out", "new"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("s2l2a -> l8l2: policy response, physical values\n")
    assert "  SR_B5  B08 1 (+31.87 nm, overlap 0.79), B8A 1 (-0.03 nm, overlap 1.00)\n" in out
    assert "not there of s2l2a, constant from now on: B05 at 0.1, B06 at 0.1" in out
    assert (
        "tokens of l8l2: 120 m to 120 m (s2l2a_10 12, s2l2a_20 6, s2l2a_60 2 px to l8l2_30 4" in out
    )
    fewer = "tokens of fewer pixels, by least squares"  # 4 px where there were 12 and 6
    assert f"the original on the estimate, but for {fewer}" in out
    assert out.endswith("own (adapted): written to new\n")
    model = load("new")
    assert model.encode({"l8l2_30": torch.rand(1, 7, 8, 8)}).pooled.shape == (1, 24)
    assert main(["models", "show", "new"]) == 0
    assert "Not as it was trained: made of own" in capsys.readouterr().out
    # nothing is replaced unasked, nor ever the source
    assert main([*words, "--out", "new"]) == 1
    assert main([*words, "--out", "own", "--overwrite"]) == 2
    assert main([*words, "--out", "new", "--overwrite", "--name", "mine"]) == 0
    assert load("new").card.name == "mine"


def test_sizes_and_bands_together(own: Path, capsys) -> None:
    words = ["models", "adapt", "own", "--bands", "sentinel2-l2a:B04,B03,B02", "--patch-size", "16"]
    assert main([*words, "--image-size", "64", "--out", "rgb", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "own (adapted)"
    by_name, size = told["reports"]
    assert by_name["modalities"] == {"s2l2a_10": "s2l2a_10"}
    assert size["token_m"] == {"s2l2a": {"from": 120.0, "to": 160.0}}
    model = load("rgb")
    assert [b.name for b in model.bands["s2l2a_10"]] == ["B04", "B03", "B02"]
    assert model.encode({"s2l2a_10": torch.rand(1, 3, 64, 64)}).grid == {"s2l2a": (4, 4)}
    assert model.card.adapted_from["adapted_from"]["name"] == "own"
    # under a policy the kernels are resized once, to the new pixels
    words = ["models", "adapt", "own", "--bands", "landsat8-oli-l2:SR_B4,SR_B3,SR_B2"]
    assert main([*words, "--policy", "nearest", "--tolerance", "12", "--patch-size", "5"]) == 0
    out = capsys.readouterr().out
    assert "tokens of l8l2: 120 m to 150 m" in out
    assert "not written; --out FOLDER does" in out


def test_pixels_of_a_token_are_counted_on_the_grid_of_each_group(own: Path, capsys) -> None:
    """Defect: those of the finest grid of all, so that the coarser sensor gets other pixels."""
    landsat = sensor("landsat8-oli-l2").modalities
    bands = {"s2l2a_10": L2A["s2l2a_10"], **landsat}
    save(
        own / "two", create_model("vit_nano", bands=bands, token_m=240, width=24, depth=1, heads=3)
    )
    words = ["models", "adapt", "two", "--bands", "sentinel2-l2a:B02,B03,B04"]
    words += ["--bands", "landsat8-oli-l2:SR_B2,SR_B3,SR_B4", "--policy", "response"]
    assert main([*words, "--patch-size", "12", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["token_px"]["s2l2a"]["to"] == {"s2l2a_10": 12}
    assert report["token_px"]["l8l2"]["to"] == {"l8l2_30": 12}
    assert {n: t["to"] for n, t in report["token_m"].items()} == {"s2l2a": 120.0, "l8l2": 360.0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sensor", "landsat8-oli-l2"], "the model has no l8l2_30"),
        (["--sensor", "landsat8-oli-l1", "--policy", "response"], "set beyond=zero"),
        (["--sensor", "landsat9"], "there is no sensor 'landsat9'; did you mean 'landsat9-oli-l"),
        (["--bands", "sentinel2-l2a:B99"], "has no band 'B99'"),
        (["--bands", "sentinel2-l1c:B10", "--policy", "response"], "B10 at 1373.5 nm: B11"),
        (
            ["--bands", "landsat8-oli-l2:SR_B5", "--policy", "nearest", "--tolerance", "0.01"],
            "SR_B5 at 864.67 nm: B8A, the model's nearest, lies 0.03 nm off, the tolerance is 0.01",
        ),
        (["--sensor", "landsat8-oli-l2", "--policy", "nearest"], "needs tolerance_nm"),
        (["--sensor", "sentinel1-grd", "--policy", "response"], "0 groups of radar bands"),
        (["--sensor", "landsat8-oli-l2", "--policy", "near"], "did you mean 'nearest'"),
        (["--bands", "sentinel2-l2a", "--sensor", "sentinel2-l2a"], "s2l2a_10 is given twice"),
        (["--bands", "sentinel2-l2a:B02", "--like", "s2"], "--like 's2': write NEW=OLD"),
        (["--bands", "sentinel2-l2a:B02", "--like", "x=s2l2a"], "are s2l2a_10"),
        (["--bands", "sentinel2-l2a:B02", "--like", "s2l2a=s2l2a"], "like names s2l2a, nothing"),
        (
            ["--sensor", "landsat8-oli-l2", "--policy", "response", "--like", "l8=s2l2a"],
            "like names l8, nothing of the data; names of it are l8l2_30, l8l2",
        ),
        (
            ["--bands", "sentinel2-l2a:B02", "--beyond", "zero"],
            "beyond is for the policies nearest",
        ),
        (
            ["--bands", "sentinel2-l2a:B02", "--beyond", "zeor"],
            "beyond is for the policies nearest",
        ),
        (["--tolerance", "3", "--patch-size", "24"], "--tolerance says how bands are adapted"),
        (["--patch-size", "100000"], "--patch-size 100000: give 1 to 256 px"),
        (
            ["--sensor", "landsat8-oli-l2", "--policy", "response", "--patch-size", "0"],
            "--patch-size 0: give 1 to 256 px",
        ),
        (["--patch-size", "13"], "s2l2a_20: a token of 130 m is not whole pixels of 20 m"),
        (["--patch-size", "24", "--resize", "nearest"], "there is no resize 'nearest'"),
        ([], "name what is to be other"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(own: Path, capsys, words: list, said: str) -> None:
    assert main(["models", "adapt", "own", *words, "--out", "new"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (own / "new").exists()


def test_numbers_of_another_unit_come_with_their_normalisation(own: Path, capsys) -> None:
    words = ["models", "adapt", "own", "--bands", "landsat8-oli-l1:B2,B3,B4,B5"]
    words += ["--policy", "response", "--out", "new"]
    assert main(words) == 2
    assert "B2 cannot stand for the model's B02: one is dn, the other reflectance" in (
        capsys.readouterr().err
    )
    numbers = {"kind": "zscore", "shift": [9000.0] * 4, "scale": [800.0] * 4}
    (own / "l8.json").write_text(json.dumps(numbers))
    assert main([*words, "--normalisation", "l8.json"]) == 0
    assert "policy response, normalised values" in capsys.readouterr().out
    assert load("new").normalisation["l8l1_30"].shift == (9000.0,) * 4
