"""EfficientNet on the bands of one grid."""

from typing import Any, Literal

import timm
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.convolutional import filled_image, map_features, through_stages
from fm.models.features import Features
from fm.models.inputs import Inputs
from fm.models.intake import Intake

STRIDE = 32
"""Pixels along one side of a token: the stem and four of the seven stages halve the image."""

Variant = Literal["lite0", "lite1", "lite2", "b4"]


class EfficientNet(Backbone):
    """EfficientNet (Tan and Le, arXiv 1905.11946) as timm builds it, B4 and three Lite sizes.

    Convolutions are padded as TensorFlow pads ("same": what is odd goes right and below) and batch
    norms have its eps of 0.001, which the released weights were trained with. Keys are timm's under
    `net.`. Tokens are the positions of the last map, and `pooled` their mean.

    Args:
        intake: one group of one modality, 32 pixels to a token; bands are tied to their place in
            the list.
        variant: which of the published sizes.
        head: the last map is that of the 1x1 convolution behind the blocks; without it that of the
            last block, as encoders of U-Nets have it.
        padded_for: side of the images that the padding of every convolution is fixed for, whatever
            comes in, as `efficientnet_pytorch` does it (380 for B4); None pads for the image.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        variant: Variant,
        head: bool = True,
        padded_for: int | None = None,
    ) -> None:
        super().__init__(intake)
        self.member = intake.sole_member("an EfficientNet", STRIDE)
        self.net: Any = timm.create_model(
            f"tf_efficientnet_{variant}",
            pretrained=False,
            num_classes=0,
            in_chans=len(self.member.bands),
        )
        self.width = self.net.num_features
        if not head:
            self.width = self.net.conv_head.in_channels
            self.net.conv_head, self.net.bn2 = nn.Identity(), nn.Identity()
        # images of whole tokens are halved evenly by every stage, so that each needs the same zeros
        self._fix_padding(7 * STRIDE if padded_for is None else padded_for)

    def _fix_padding(self, side: int) -> None:
        """Pad each strided convolution for the size that it has on images of `side` pixels.

        Those of stride 1 need the same padding on images of any size.
        """
        if side < STRIDE:
            raise UsageError(f"padded_for {side}: the side of an image, at least {STRIDE} px")
        owners = [(self.net, "conv_stem")]
        owners += [(block, "conv_dw") for block in self.block_modules()]
        for owner, name in owners:
            conv = getattr(owner, name)
            (stride, _), (kernel, _) = conv.stride, conv.kernel_size
            after = -(-side // stride)
            if stride > 1:
                total = max((after - 1) * stride + kernel - side, 0)
                setattr(owner, name, _Padded(conv, (total // 2, total - total // 2)))
            side = after

    def block_modules(self) -> list[nn.Module]:
        """Return the blocks of all stages."""
        return [block for stage in self.net.blocks for block in stage]

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        x, mask = filled_image(self.member, inputs)
        x = self.net.bn1(self.net.conv_stem(x))
        x, outputs = through_stages(self.net.blocks, x, hidden)
        return map_features(
            self.net.bn2(self.net.conv_head(x)), mask, self.grids(inputs.pixels), outputs
        )


class _Padded(nn.Conv2d):
    """A convolution whose zeros `(before, after)` along each axis are fixed; keys as it was."""

    def __init__(self, conv: nn.Conv2d, zeros: tuple[int, int]) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=False,
        )
        self.zeros = zeros
        self.weight = conv.weight

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, (*self.zeros, *self.zeros)))
