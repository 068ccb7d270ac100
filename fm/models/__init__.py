"""Backbones: tokens from pixels on native grids, trunks, and what they are made from.

Read in this order: `layout` (which pixels make one token), `embed` (pixels to tokens), `backbone`
(what every backbone promises), `vit` (the plain trunk), `registry` (names and sizes).
"""

from fm import torchvision_guard

torchvision_guard.install()  # before the first import of timm

from fm.models.backbone import Backbone  # noqa: E402
from fm.models.features import Features  # noqa: E402
from fm.models.inputs import Inputs  # noqa: E402
from fm.models.registry import create_model, list_models, rebuild  # noqa: E402
from fm.models.vit import VisionTransformer  # noqa: E402

__all__ = [
    "Backbone",
    "Features",
    "Inputs",
    "VisionTransformer",
    "create_model",
    "list_models",
    "rebuild",
]
