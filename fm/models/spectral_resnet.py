"""SpectralEarth's convolutional backbone: the spectral adapter before a ResNet."""

from collections import OrderedDict
from collections.abc import Sequence

from einops import rearrange
from timm.models.resnet import Bottleneck, ResNet, downsample_conv
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.convolutional import filled_image, map_features, through_stages
from fm.models.embed.adapter import MAPS, Norm, check_band_count, spectral_layers
from fm.models.features import Features
from fm.models.inputs import Inputs
from fm.models.intake import Intake

STRIDE = 16
"""Pixels along one side of a token: four stages that halve the image."""


class SpectralResNet(Backbone):
    """Spectral ResNet (Braham et al., arXiv 2408.08447): adapter, then the stages of a ResNet.

    There is no stem: the first block takes the adapter's 128 maps at full resolution and, unlike
    those behind it, is as wide inside as outside. With `blocks` (3, 4, 6, 3) it has 24.2 M
    parameters. State-dict keys are the released ones, `spectral_adapter.*` (convolutions there
    have two more axes of length 1) and `resnet.layer{1..4}.*`. Tokens are the positions of the
    last map.

    Args:
        intake: one group of one modality with at least 75 bands, 16 pixels to a token; bands are
            tied to their place in the list.
        blocks: number of bottlenecks in each of the four stages.
        planes: channels inside the first stage's bottlenecks; a stage puts out four times its own,
            and each has twice those of the stage before.
        norm: of the adapter, see `spectral_layers`.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        blocks: Sequence[int] = (3, 4, 6, 3),
        planes: int = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__(intake)
        self.member = intake.sole_member("a spectral ResNet", STRIDE)
        if len(blocks) != 4 or min(blocks) < 1 or planes < 1:
            raise UsageError(f"a ResNet has four stages of at least one block; got {list(blocks)}")
        check_band_count(self.member.modality, len(self.member.bands))
        self.spectral_adapter = spectral_layers(norm)
        stages = tuple(planes * 2**i for i in range(4))
        whole = ResNet(Bottleneck, tuple(blocks), num_classes=0, channels=stages)
        outside = 4 * planes
        whole.layer1[0] = Bottleneck(
            MAPS,
            planes,
            stride=2,
            base_width=256,  # width inside per 64 planes, so that inside is as wide as outside
            downsample=downsample_conv(MAPS, outside, 1, stride=2),
        )
        whole.init_weights()
        self.resnet = nn.Sequential(
            OrderedDict((f"layer{i}", getattr(whole, f"layer{i}")) for i in range(1, 5))
        )
        self.width = 4 * stages[-1]

    def image(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Scale, normalise and fill the image, see `filled_image`."""
        return filled_image(self.member, inputs)

    def block_modules(self) -> list[nn.Module]:
        """Return the bottlenecks."""
        return [block for stage in self.resnet for block in stage.children()]

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        image, mask = self.image(inputs)
        spectra = rearrange(image, "b c h w -> (b h w) 1 c")
        maps = self.spectral_adapter(spectra).mean(dim=-1)
        height, width = image.shape[-2:]
        x = rearrange(maps, "(b h w) f -> b f h w", h=height, w=width)
        x, outputs = through_stages(self.resnet, x, hidden)
        return map_features(x, mask, self.grids(inputs.pixels), outputs)
