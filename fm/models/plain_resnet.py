"""ResNet with its stem, on the bands of one grid."""

from collections.abc import Sequence

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.convolutional import filled_image, map_features, through_stages
from fm.models.features import Features
from fm.models.inputs import Inputs
from fm.models.intake import Intake

STRIDE = 32
"""Pixels along one side of a token: stem, pooling and three stages halve the image."""


class PlainResNet(Backbone):
    """ResNet (He et al., arXiv 1512.03385) as timm builds it.

    Keys are timm's (and torchvision's) under `resnet.`. Tokens are the positions of the last map,
    and `pooled` their mean.

    Args:
        intake: one group of one modality, 32 pixels to a token; bands are tied to their place in
            the list.
        blocks: number of blocks in each of the four stages.
        bottleneck: three convolutions a block instead of two.
        planes: channels inside the first stage's blocks; each stage has twice those before.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        blocks: Sequence[int],
        bottleneck: bool,
        planes: int = 64,
    ) -> None:
        super().__init__(intake)
        self.member = intake.sole_member("a ResNet", STRIDE)
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
        x, outputs = through_stages(_stages(net), x, hidden)
        return map_features(x, mask, self.grids(inputs.pixels), outputs)


def _stages(net: ResNet) -> list[nn.Module]:
    return [net.layer1, net.layer2, net.layer3, net.layer4]
