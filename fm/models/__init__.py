"""Backbones: tokens from pixels on native grids, a ViT trunk, and what they are made from.

Read in this order: `layout` (which pixels make one token), `patch_embed` (pixels to tokens),
`vit` (the trunk and `encode`), `registry` (names and sizes).
"""

from fm import torchvision_guard

torchvision_guard.install()  # before the first import of timm

from fm.models.registry import create_model, list_models, rebuild  # noqa: E402
from fm.models.vit import Features, VisionTransformer  # noqa: E402

__all__ = ["Features", "VisionTransformer", "create_model", "list_models", "rebuild"]
