"""`.pt2` files: any batch, any size, without eofm."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fm
from fm.errors import UsageError
from fm.export import Settings, export
from tests.fm.export.models import S2, family, resnet, saved, vit

PHYSICAL = Settings(values="physical")


def run(folder: Path, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    program = torch.export.load(folder / "model.pt2")
    with torch.no_grad():
        return program.module()(inputs)


def test_native_grids_of_any_size_agree(tmp_path: Path) -> None:
    model = vit({m: S2[m] for m in ("s2l2a_10", "s2l2a_20")})
    report = export(
        saved(tmp_path, model), to="torch-export", out=tmp_path / "out", settings=PHYSICAL
    )
    assert report["inputs"]["s2l2a_20"]["shape"] == ["batch", 6, "4*rows", "4*columns"]
    assert {row["output"] for row in report["verification"]} == {"pooled", "tokens"}
    inputs = {"s2l2a_10": torch.rand(5, 4, 24, 56), "s2l2a_20": torch.rand(5, 6, 12, 28)}
    got, wanted = run(tmp_path / "out", inputs), model.encode(inputs)
    torch.testing.assert_close(got["tokens"], wanted.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got["pooled"], wanted.pooled, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == report


def test_stored_numbers_are_scaled_inside(tmp_path: Path) -> None:
    model = resnet()
    settings = Settings(values="stored")
    report = export(
        saved(tmp_path, model), to="torch-export", out=tmp_path / "out", settings=settings
    )
    assert report["inputs"]["s2l2a_10"]["dtype"] == "int32"
    assert report["inputs"]["s2l2a_10"]["scale"] == 1e-4
    stored = torch.randint(0, 4000, (1, 3, 96, 64), dtype=torch.int32)
    got = run(tmp_path / "out", {"s2l2a_10": stored})
    wanted = model.encode({"s2l2a_10": model.scaling["s2l2a_10"][1] + stored * 1e-4})
    torch.testing.assert_close(got["pooled"], wanted.pooled, rtol=1e-4, atol=1e-5)


def test_learned_positions_at_their_own_size_and_others(tmp_path: Path) -> None:
    model = vit(positions="learned", grid=3, pooling="cls")
    export(saved(tmp_path, model), to="torch-export", out=tmp_path / "out", settings=PHYSICAL)
    for height, width in ((24, 24), (24, 40)):
        inputs = {"s2l2a_10": torch.rand(1, 3, height, width)}
        got, wanted = run(tmp_path / "out", inputs), model.encode(inputs)
        torch.testing.assert_close(got["tokens"], wanted.tokens, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_dinov2_positions_need_a_size(tmp_path: Path) -> None:
    folder = saved(tmp_path, vit(positions="learned", grid=3, position_resize="dinov2"))
    with pytest.raises(UsageError, match="fix the size with --tokens"):
        export(folder, to="torch-export", out=tmp_path / "out", settings=PHYSICAL)
    assert not (tmp_path / "out").exists()
    fixed = Settings(values="physical", tokens=(3, 3))
    report = export(folder, to="torch-export", out=tmp_path / "out", settings=fixed)
    assert report["inputs"]["s2l2a_10"]["shape"] == ["batch", 3, 24, 24]


@pytest.mark.slow
def test_the_file_needs_torch_alone(tmp_path: Path) -> None:
    model = vit()
    export(saved(tmp_path, model), to="torch-export", out=tmp_path / "out", settings=PHYSICAL)
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('fm', 'timm', 'einops')))\n"
        "import torch\n"
        "program = torch.export.load('model.pt2')\n"
        "x = torch.full((2, 3, 16, 24), 0.2)\n"
        "print(program.module()({'s2l2a_10': x})['pooled'].sum().item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wanted = model.encode({"s2l2a_10": torch.full((2, 3, 16, 24), 0.2)}).pooled.sum().item()
    assert float(done.stdout) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "vit-groups",
        "vit-metres",
        "vit-metadata",
        "vit-times",
        "vit-spectral_adapter",
        "vit-generator",
        "vit-tied",
        "vit-channel_attention",
        "vit-basis",
        "spectral_resnet",
        "towers",
        "croma",
        "less-rope",
        "less-sum",
        "less-pooled",
        pytest.param("efficientnet", marks=pytest.mark.slow),
        "copernicus",
        "presto",
        "galileo",
    ],
)
def test_every_family(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, family(name))
    report = export(folder, to="torch-export", out=tmp_path / "out", settings=PHYSICAL)
    assert max(row["max_rel"] for row in report["verification"]) <= 1e-5
    assert fm.load(folder).card is not None
