"""The tied per-channel embedding against the convolutions of the paper."""

import torch
from einops import rearrange
from torch.nn import functional

from fm.models.embed.patches import gather_patches
from fm.models.embed.tied import TiedChannelEmbed


def test_tied_embedding_equals_the_depth_one_convolutions() -> None:
    """Conv3d(1 -> 2D, 1 x p x p) -> ReLU -> Conv3d(2D -> D, 1) of the bands as the depth axis."""
    torch.manual_seed(0)
    patch, width = 4, 8
    embed = TiedChannelEmbed(patch, width).double()
    image = torch.randn(2, 5, 12, 8, dtype=torch.float64)
    first, _, second = embed.proj
    maps = functional.conv3d(
        image[:, None],
        first.weight.reshape(2 * width, 1, 1, patch, patch),
        first.bias,
        stride=(1, patch, patch),
    )
    weight = second.weight[..., None, None, None]
    want = functional.conv3d(maps.relu(), weight, second.bias)
    want = rearrange(want, "b d c h w -> b (h w) c d")
    index = torch.tensor([[5, 0, 2], [1, 1, 4]])
    got = embed(gather_patches(image, patch, index))
    assert got.shape == (2, 3, 5, width)
    assert torch.allclose(got, want[torch.arange(2)[:, None], index], atol=1e-12)
