"""EfficientNet-Lite on the bands of one grid."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import timm
from torch import nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.features import Features, pool
from fm.models.inputs import Inputs, Scaling
from fm.models.layout import Group
from fm.models.resnet import filled_image
from fm.normalize import Normalisation
from fm.sensors import Band

STRIDE = 32
"""Pixels along one side of a token: the stem and four of the seven stages halve the image."""

Variant = Literal["lite0", "lite1", "lite2"]


class EfficientNetLite(Backbone):
    """EfficientNet (Tan and Le, arXiv 1905.11946) in its Lite form, as timm builds it.

    Without squeeze-and-excitation, with ReLU6; convolutions are padded as TensorFlow pads
    ("same": what is odd goes right and below) and batch norms have its eps of 0.001, which the
    released weights were trained with. Keys are timm's under `net.`. Tokens are the positions of
    the last map (1280 channels), and `pooled` their mean.

    Args:
        groups: one group of one modality, 32 pixels to a token.
        bands: modality to its bands, tied to their place in the list.
        normalisation: modality to its normalisation, in physical units.
        scaling: modality to (scale, offset) of its stored integers.
        variant: which of the published sizes.
        architecture: see `Backbone`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        bands: Mapping[str, tuple[Band, ...]],
        normalisation: Mapping[str, Normalisation],
        scaling: Scaling,
        variant: Variant,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            groups,
            bands=bands,
            normalisation=normalisation,
            scaling=scaling,
            architecture=architecture,
        )
        members = [member for group in groups for member in group.members]
        if len(members) != 1 or members[0].channels is not None:
            raise UsageError(
                f"an EfficientNet takes one modality without token_groups; got {', '.join(bands)}"
            )
        (self.member,) = members
        if self.member.patch != STRIDE:
            wanted = STRIDE * self.member.bands[0].gsd_m
            raise UsageError(
                f"{self.member.modality}: an EfficientNet makes one token of {STRIDE}x{STRIDE} "
                f"px; give token_m={wanted:g}"
            )
        self.net: Any = timm.create_model(
            f"tf_efficientnet_{variant}",
            pretrained=False,
            num_classes=0,
            in_chans=len(self.member.bands),
        )
        self.width = self.net.num_features

    def block_modules(self) -> list[nn.Module]:
        """Return the blocks of all stages."""
        return [block for stage in self.net.blocks for block in stage]

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        x, mask = filled_image(self.member, inputs)
        x = self.net.bn1(self.net.conv_stem(x))
        outputs = []
        for stage in self.net.blocks:
            x = stage(x)
            if hidden:
                outputs.append(x.flatten(2).mT)
        tokens = self.net.bn2(self.net.conv_head(x)).flatten(2).mT
        return Features(
            tokens=tokens,
            pooled=pool(tokens, mask),
            grid=self.grids(inputs.pixels),
            hidden=tuple(outputs),
            mask=mask,
        )
