"""LESS ViT: cells of channels by positions under Kronecker attention.

Read in this order: `axis` (which channels stack), `embed` (pixels to cells), `positions`, `rope`,
`mask` and `codes` (what tells cells apart), `attention`, `block`, `model`.
"""

from fm.models.less.attention import AttentionShape, Context
from fm.models.less.axis import Axis, Part
from fm.models.less.block import LessBlock
from fm.models.less.codes import Codes, CodeSettings, PositionChannelCode
from fm.models.less.model import LessViT
from fm.models.less.rope import WavelengthAxis

__all__ = [
    "AttentionShape",
    "Axis",
    "CodeSettings",
    "Codes",
    "Context",
    "LessBlock",
    "LessViT",
    "Part",
    "PositionChannelCode",
    "WavelengthAxis",
]
