"""The tied per-channel embedding against the convolutions of the paper."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional

from fm.errors import UsageError
from fm.models.embed.patches import gather_patches
from fm.models.embed.tied import TiedChannelEmbed, TiedEmbed
from fm.models.layout import Member
from fm.models.positions import sincos_1d
from fm.sensors import sensor
from tests.fm.bands import member, spectrometer


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


def test_the_pooled_form_knows_which_band_a_value_is_of() -> None:
    """Bands and values permuted together: the same; values alone: another token."""
    torch.manual_seed(0)
    embed, bands = TiedEmbed(member(6, 4), 16), spectrometer(6)
    patches = torch.randn(2, 3, 6, 4, 4)
    order = [4, 1, 5, 0, 3, 2]
    want = embed(patches, bands)
    got = embed(patches[:, :, order], [bands[i] for i in order])
    assert want.shape == (2, 3, 16)
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.allclose(embed(patches[:, :, order], bands), want, atol=1e-2)


def test_the_pooled_form_equals_attention_with_a_query_a_head() -> None:
    """Softmax over bands of the scores, then the mean: each head and token by hand."""
    torch.manual_seed(0)
    embed, bands = TiedEmbed(member(5, 2), 8, heads=2).double(), spectrometer(5)
    patches = torch.randn(1, 2, 5, 2, 2, dtype=torch.float64)
    got = embed(patches, bands)
    centres = torch.tensor([b.wavelength_nm for b in bands], dtype=torch.float64)
    codes = sincos_1d(8, centres).float()
    for token in range(2):
        rows = []
        seen = embed.norm(embed.embed(patches)[0, token] + codes)
        for head in range(2):
            weight = (seen @ embed.query.weight[head]).exp()
            rows.append((weight[:, None] * seen).sum(dim=0) / weight.sum())
        assert torch.allclose(got[0, token], embed.proj(torch.cat(rows)), atol=1e-10)


def test_wrong_bands_and_heads_are_refused() -> None:
    radar = sensor("sentinel1-grd").modalities["s1grd_10"]
    with pytest.raises(UsageError, match="has no wavelength"):
        TiedEmbed(Member("s1grd_10", radar, 4), 16)
    with pytest.raises(UsageError, match="heads >= 1"):
        TiedEmbed(member(3, 4), 16, heads=0)
