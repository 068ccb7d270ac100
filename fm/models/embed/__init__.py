"""Patch embeddings: functions of pixels, bands and which tokens to keep.

`patches` cuts and scales, `tokenizer` is what a kind of embedding must be, `group` puts the
modalities of one group together; the other files are the kinds, one each.
"""

from fm.models.embed.adapter import SpectralAdapter
from fm.models.embed.basis import Moments, SpectralBasis
from fm.models.embed.generator import GeneratedEmbed
from fm.models.embed.group import TOKENIZERS, PatchEmbed
from fm.models.embed.linear import LinearEmbed
from fm.models.embed.tied import TiedChannelEmbed, TiedEmbed
from fm.models.embed.tokenizer import Tokenizer

__all__ = [
    "TOKENIZERS",
    "GeneratedEmbed",
    "LinearEmbed",
    "Moments",
    "PatchEmbed",
    "SpectralAdapter",
    "SpectralBasis",
    "TiedChannelEmbed",
    "TiedEmbed",
    "Tokenizer",
]
