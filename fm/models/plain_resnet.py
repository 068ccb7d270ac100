"""ResNet with its stem, on the bands of one grid."""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.features import Features, pool
from fm.models.inputs import Inputs, Scaling
from fm.models.layout import Group, sole_member
from fm.models.resnet import filled_image
from fm.normalize import Normalisation
from fm.sensors import Band

STRIDE = 32
"""Pixels along one side of a token: stem, pooling and three stages halve the image."""


class PlainResNet(Backbone):
    """ResNet (He et al., arXiv 1512.03385) as timm builds it.

    Keys are timm's (and torchvision's) under `resnet.`. Tokens are the positions of the last map,
    and `pooled` their mean.

    Args:
        groups: one group of one modality, 32 pixels to a token.
        bands: modality to its bands, tied to their place in the list.
        normalisation: modality to its normalisation, in physical units.
        scaling: modality to (scale, offset) of its stored integers.
        blocks: number of blocks in each of the four stages.
        bottleneck: three convolutions a block instead of two.
        planes: channels inside the first stage's blocks; each stage has twice those before.
        architecture: see `Backbone`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        bands: Mapping[str, tuple[Band, ...]],
        normalisation: Mapping[str, Normalisation],
        scaling: Scaling,
        blocks: Sequence[int],
        bottleneck: bool,
        planes: int = 64,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            groups,
            bands=bands,
            normalisation=normalisation,
            scaling=scaling,
            architecture=architecture,
        )
        self.member = sole_member(groups, bands, "a ResNet", STRIDE)
        if len(blocks) != 4 or min(blocks) < 1 or planes < 1:
            raise UsageError(f"a ResNet has four stages of at least one block; got {list(blocks)}")
        kind = Bottleneck if bottleneck else BasicBlock
        self.resnet = ResNet(
            kind,
            tuple(blocks),
            num_classes=0,
            in_chans=len(self.member.bands),
            channels=tuple(planes * 2**i for i in range(4)),
        )
        self.width = 8 * planes * kind.expansion

    def block_modules(self) -> list[nn.Module]:
        """Return the residual blocks."""
        return [block for stage in _stages(self.resnet) for block in stage.children()]

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        x, mask = filled_image(self.member, inputs)
        net = self.resnet
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        outputs = []
        for stage in _stages(net):
            x = stage(x)
            if hidden:
                outputs.append(x.flatten(2).mT)
        tokens = x.flatten(2).mT
        return Features(
            tokens=tokens,
            pooled=pool(tokens, mask),
            grid=self.grids(inputs.pixels),
            hidden=tuple(outputs),
            mask=mask,
        )


def _stages(net: ResNet) -> list[nn.Module]:
    return [net.layer1, net.layer2, net.layer3, net.layer4]
