"""Small checkpoints to export, one a family."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fm import checkpoint
from fm.models import Backbone, create_model
from fm.normalize import Kind, Normalisation
from fm.sensors import Band, sensor
from tests.conformance.backbones import BACKBONES

SMALL = {"width": 32, "depth": 2, "heads": 2}
S2 = sensor("sentinel2-l2a").modalities
RGB = {"s2l2a_10": tuple(band for band in S2["s2l2a_10"] if band.name in ("B02", "B03", "B04"))}


def normal(bands: dict[str, tuple[Band, ...]], kind: Kind = "zscore") -> dict[str, Normalisation]:
    """Return normalisations with a number of its own for every band."""
    return {
        m: Normalisation(
            kind,
            tuple(0.1 + 0.01 * i for i in range(len(b))),
            tuple(0.05 + 0.01 * i for i in range(len(b))),
        )
        for m, b in bands.items()
    }


def vit(
    bands: dict[str, tuple[Band, ...]] = RGB, kind: Kind = "zscore", **options: Any
) -> Backbone:
    """Make a ViT with 80 m tokens and weights that no symmetry hides."""
    torch.manual_seed(0)
    model = create_model(
        "vit_nano",
        bands=bands,
        token_m=options.pop("token_m", 80),
        normalisation=normal(bands, kind),
        **{**SMALL, **options},
    )
    return stirred(model)


def resnet(bottleneck: bool = False) -> Backbone:
    """Make a ResNet whose batch norms have seen something."""
    torch.manual_seed(0)
    model = create_model(
        "resnet_50" if bottleneck else "resnet_18",
        bands=RGB,
        normalisation=normal(RGB),
        blocks=(1, 1, 1, 1),
        planes=4,
    )
    return stirred(model)


def efficientnet(**options: Any) -> Backbone:
    """Make the smallest EfficientNet whose batch norms have seen something."""
    torch.manual_seed(0)
    made = create_model("efficientnet_lite0", bands=RGB, normalisation=normal(RGB), **options)
    return stirred(made)


def stirred(model: Backbone) -> Backbone:
    """Move every norm, bias and statistic away from where it begins."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.LayerNorm | nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.3, 0.3)
            if isinstance(part, nn.Linear) and part.bias is not None:
                part.bias.uniform_(-0.3, 0.3)
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.uniform_(-0.2, 0.2)
                assert part.running_var is not None
                part.running_var.uniform_(0.5, 1.5)
    return model.eval()


def family(name: str) -> Backbone:
    """Make a member of the conformance suite."""
    return stirred(BACKBONES[name].build())


def saved(folder: Path, model: Backbone) -> Path:
    """Write a checkpoint."""
    checkpoint.save(folder / "model", model)
    return folder / "model"
