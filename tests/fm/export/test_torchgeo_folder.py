"""Weights for torchgeo's own models."""

import json
from pathlib import Path

import pytest
import torch

from fm.errors import UsageError
from fm.export import Settings, export
from fm.export.single_file import loaded
from fm.models import Backbone, create_model
from tests.fm.export.models import RGB, normal, resnet, saved, stirred, vit

STORED = Settings(values="stored")


def pooled(folder: Path, stored: torch.Tensor) -> torch.Tensor:
    import torchgeo.models

    made = loaded(folder / "eofm_weights.py")
    weights = made.WEIGHTS.EOFM
    model = getattr(torchgeo.models, made.model_name)(weights, **made.kwargs).eval()
    with torch.no_grad():
        return model(weights.transforms(stored.float()))


def agrees(model: Backbone, folder: Path) -> None:
    export(saved(folder, model), to="torchgeo", out=folder / "out", settings=STORED)
    stored = torch.randint(0, 4000, (1, 3, 224, 224), dtype=torch.int32)
    wanted = model.encode({"s2l2a_10": stored}).pooled
    torch.testing.assert_close(pooled(folder / "out", stored), wanted, rtol=1e-4, atol=1e-4)


def test_a_resnet_goes_through_torchgeos_enum(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = stirred(create_model("resnet_18", bands=RGB, normalisation=normal(RGB)))
    agrees(model, tmp_path)
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["in_chans"], meta["bands"]) == (3, ["B02", "B03", "B04"])
    assert meta["mean"] == pytest.approx([1000, 1100, 1200])
    weights = loaded(tmp_path / "out" / "eofm_weights.py").WEIGHTS.EOFM
    assert weights.meta["model"] == "resnet18"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"positions": "learned", "grid": 14, "pooling": "cls"}])
def test_a_vit_goes_through_torchgeos_enum(options: dict, tmp_path: Path) -> None:
    agrees(vit(token_m=160, width=384, depth=12, heads=6, **options), tmp_path)


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    for number, (model, said) in enumerate(
        (
            (resnet(), r"no ResNet of blocks \[1, 1, 1, 1\] and 4 planes"),
            (vit(), "no such ViT"),
            (vit(tokenizer="tied"), "torchgeo has no place for the tokenizer tied"),
        )
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(UsageError, match=said):
            export(
                saved(tmp_path / str(number), model),
                to="torchgeo",
                out=tmp_path / "out",
                settings=STORED,
            )
