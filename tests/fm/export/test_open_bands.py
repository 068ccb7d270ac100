"""Graphs that are told where the bands lie."""

from pathlib import Path

import pytest
import torch

from fm.errors import UsageError
from fm.export import Settings, export
from fm.models import Backbone
from fm.sensors import Band
from tests.fm.export.models import family, saved, vit

ANY = Settings(values="physical", any_bands=True)


def test_bands_that_the_model_never_saw(tmp_path: Path) -> None:
    options = {"codes": 32, "learned": 4}
    model = vit(kind="percentile", tokenizer="generator", tokenizer_options=options)
    report = export(saved(tmp_path, model), to="torch-export", out=tmp_path / "out", settings=ANY)
    assert report["inputs"]["s2l2a_10"]["shape"] == ["batch", "bands", "8*rows", "8*columns"]
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    at = [660.0, 480.0, 530.5, 601.0, 550.0, 500.0]
    bands = [Band(f"n{nm}", nm, None, 10.0, "reflectance") for nm in at]
    pixels = torch.rand(2, 6, 24, 16)
    told = {"s2l2a_10_wavelength_nm": torch.tensor(at, dtype=torch.float64)}
    got = program({"s2l2a_10": pixels, **told})
    wanted = model.encode({"s2l2a_10": pixels}, bands={"s2l2a_10": bands})
    torch.testing.assert_close(got["tokens"], wanted.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got["pooled"], wanted.pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (vit(), "the model is tied to its bands"),
        (family("less-rope"), "less_nano: any bands are exported of ViTs"),
        (family("vit-basis"), "without a spectral basis"),
        (
            vit(tokenizer="generator", tokenizer_options={"codes": 32, "bandwidth": True}),
            "reads the widths of bands",
        ),
    ],
)
def test_what_is_tied_to_its_bands_is_refused(model: Backbone, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        export(saved(tmp_path, model), to="torch-export", out=tmp_path / "out", settings=ANY)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch-export", "onnx"])
@pytest.mark.parametrize("name", ["vit-generator", "vit-tied", "vit-channel_attention"])
def test_every_flexible_tokenizer(name: str, to: str, tmp_path: Path) -> None:
    report = export(saved(tmp_path, family(name)), to=to, out=tmp_path / "out", settings=ANY)
    assert max(row["max_rel"] for row in report["verification"]) <= 1e-4
    assert any("other bands" in row["on"] for row in report["verification"])
