"""Location encoders as graphs."""

from pathlib import Path

import pytest
import torch

import fm
from fm.errors import FMError, UsageError
from fm.export import Settings, export

PLACES = torch.tensor([[13.4, 52.5], [180.0, -90.0], [-70.7, -33.4]], dtype=torch.float64)


def saved(folder: Path, name: str = "sh", season: bool = False, **options: object) -> Path:
    torch.manual_seed(0)
    encoder = fm.location.create(name, width=32, dim=16, season=season, **options)
    fm.location.save(folder / "encoder", encoder.eval(), {"name": "places", "licence": "MIT"})
    return folder / "encoder"


def test_torch_export_of_harmonics_with_a_season(tmp_path: Path) -> None:
    folder = saved(tmp_path, L=12, season=True)
    report = export(folder, to="torch-export", out=tmp_path / "out")
    assert report["inputs"]["month"]["unit"].startswith("1 to 12")
    program = torch.export.load(tmp_path / "out" / "model.pt2")
    month = torch.tensor([1.0, 6.5, 12.0], dtype=torch.float64)
    got = program.module()({"lonlat": PLACES, "month": month})["embedding"]
    wanted = fm.location.load(folder)(PLACES, month=month)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_other_formats_and_settings_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, L=4)
    with pytest.raises(UsageError, match="exported to torch-export or onnx, not timm"):
        export(folder, to="timm", out=tmp_path / "out")
    with pytest.raises(UsageError, match="a location encoder has no use for tokens"):
        export(folder, to="onnx", out=tmp_path / "out", settings=Settings(tokens=(2, 2)))


def test_onnx_of_harmonics(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'eofm[onnx]'")
    import onnxruntime

    folder = saved(tmp_path, L=12)
    report = export(folder, to="onnx", out=tmp_path / "out")
    assert {row["on"] for row in report["verification"]} >= {"poles and date line"}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (got,) = session.run(["embedding"], {"lonlat": PLACES.numpy()})
    wanted = fm.location.load(folder)(PLACES)
    torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch-export", "onnx"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sh", {"L": 40}),
        ("grid", {}),
        ("theory", {}),
        ("sphere_m_plus", {}),
        ("rff", {}),
        ("wrap", {"head": "mlp"}),
        ("cartesian", {"head": "residual_siren"}),
    ],
)
def test_every_kind(name: str, options: dict[str, object], to: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, name, **options)
    if (name, to) == ("rff", "onnx"):  # has no arc sine of float64
        with pytest.raises(FMError, match="onnxruntime does not run it"):
            export(folder, to=to, out=tmp_path / "out")
        return
    report = export(folder, to=to, out=tmp_path / "out")
    assert max(row["max_rel"] for row in report["verification"]) <= 1e-4
