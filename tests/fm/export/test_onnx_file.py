"""ONNX files under onnxruntime."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fm.export import Settings, export
from tests.fm.export.models import S2, family, resnet, saved, vit

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="pip install 'eofm[onnx]'")


def test_native_grids_of_any_size_agree(tmp_path: Path) -> None:
    import onnxruntime

    model = vit({m: S2[m] for m in ("s2l2a_10", "s2l2a_20")})
    settings = Settings(values="stored")
    report = export(saved(tmp_path, model), to="onnx", out=tmp_path / "out", settings=settings)
    assert max(row["max_rel"] for row in report["verification"]) <= 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [item.name for item in session.get_inputs()] == ["s2l2a_10", "s2l2a_20"]
    told = session.get_modelmeta().custom_metadata_map
    card, about = json.loads(told["card"]), json.loads(told["eofm"])
    assert [band["name"] for band in card["bands"]["s2l2a_10"]] == ["B02", "B03", "B04", "B08"]
    assert about["inputs"]["s2l2a_20"]["unit"] == "stored numbers"
    rng = np.random.default_rng(0)
    inputs = {
        "s2l2a_10": rng.integers(0, 4000, (5, 4, 24, 56), dtype=np.int32),
        "s2l2a_20": rng.integers(0, 4000, (5, 6, 12, 28), dtype=np.int32),
    }
    pooled, tokens = session.run(["pooled", "tokens"], inputs)
    wanted = model.encode({name: torch.from_numpy(x) for name, x in inputs.items()})
    np.testing.assert_allclose(pooled, wanted.pooled.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tokens, wanted.tokens.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet",
        "vit-groups",
        "vit-learned",
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
    folder = saved(tmp_path, resnet() if name == "resnet" else family(name))
    report = export(folder, to="onnx", out=tmp_path / "out", settings=Settings(values="physical"))
    assert max(row["max_rel"] for row in report["verification"]) <= 1e-4
