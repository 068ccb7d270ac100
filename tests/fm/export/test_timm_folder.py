"""Folders that timm loads, and the models that timm cannot hold."""

import json
from pathlib import Path

import pytest
import torch

from fm.errors import FMError, UsageError
from fm.export import Settings, export
from fm.models import Backbone
from tests.fm.export.models import RGB, S2, efficientnet, family, resnet, saved, vit

FOUR = Settings(tokens=(4, 4))


def theirs(folder: Path, pixels: torch.Tensor, clip: bool = False) -> torch.Tensor:
    import timm  # after fm, which mends torchvision's import where it must

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    values = (pixels - mean) / std
    with torch.no_grad():
        return model(values.clamp(0, 1) if clip else values)


@pytest.mark.parametrize(
    ("model", "settings", "shape"),
    [
        (vit(), FOUR, (32, 32)),
        (vit(), Settings(tokens=(2, 5)), (16, 40)),
        (vit(pooling="cls", layer_scale=0.5), FOUR, (32, 32)),
        (vit(pre_pool_norm=True, mlp_ratio=2.0), FOUR, (32, 32)),
        (vit(positions="learned", grid=3, registers=2, pooling="cls"), Settings(), (24, 24)),
        (vit(kind="percentile"), FOUR, (32, 32)),
        (resnet(), Settings(), (64, 96)),
        (resnet(bottleneck=True), Settings(), (64, 64)),
        (efficientnet(), Settings(), (64, 96)),
    ],
)
def test_timm_gives_our_pooled_features(
    model: Backbone, settings: Settings, shape: tuple[int, int], tmp_path: Path
) -> None:
    export(saved(tmp_path, model), to="timm", out=tmp_path / "out", settings=settings)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["eofm"]["bands"] == ["B02", "B03", "B04"]
    pixels = torch.rand(2, 3, *shape)
    got = theirs(tmp_path / "out", pixels, clip=config["eofm"]["clip"] is not None)
    wanted = model.encode({"s2l2a_10": pixels}).pooled
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert got.std() > 0.01


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (vit({m: S2[m] for m in ("s2l2a_10", "s2l2a_20")}), "one array of one grid"),
        (vit(positions="metres"), "positions in metres"),
        (vit(metadata=["time"]), "metadata tokens"),
        (vit(time_code_width=12), "codes of time"),
        (vit(tokenizer="generator"), "the tokenizer generator"),
        (family("vit-groups"), "codes of groups"),
        (family("less-rope"), "timm has no less_nano"),
        (vit(), "give it: --tokens"),
        (efficientnet(padded_for=380), "an EfficientNet of a U-Net"),
        (efficientnet(head=False), "an EfficientNet of a U-Net"),
    ],
)
def test_what_timm_cannot_hold_is_refused(model: Backbone, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        export(saved(tmp_path, model), to="timm", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_difference_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fm.export import timm_folder

    def wrong(model: Backbone, member: object) -> tuple[list[float], list[float], bool]:
        return [0.0] * 3, [1.0] * 3, False

    monkeypatch.setattr(timm_folder, "mean_and_std", wrong)
    with pytest.raises(FMError, match="nothing was written"):
        export(saved(tmp_path, vit(RGB)), to="timm", out=tmp_path / "out", settings=FOUR)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_settings_that_a_format_has_no_use_for(tmp_path: Path) -> None:
    folder = saved(tmp_path, vit())
    with pytest.raises(UsageError, match="timm has no use for values"):
        export(folder, to="timm", out=tmp_path / "out", settings=Settings(values="stored"))
    with pytest.raises(UsageError, match="did you mean 'onnx'"):
        export(folder, to="onx", out=tmp_path / "out")
    with pytest.raises(UsageError, match="say what the pixels will be"):
        export(folder, to="torch-export", out=tmp_path / "out")
