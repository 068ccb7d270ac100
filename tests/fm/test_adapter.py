"""The spectral adapter against the dense 3-D convolutions of SpectralEarth."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.embed import SpectralAdapter
from fm.models.embed.patches import gather_patches
from tests.fm.bands import member

PATCH, WIDTH = 4, 8


class Dense(nn.Module):
    """The paper's order: 3-D convolutions on the whole image, mean, then a p x p convolution."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside, kernel, stride in ((1, 32, 7, 5), (32, 64, 7, 5), (64, 128, 5, 3)):
            layers.append(
                nn.Conv3d(inside, outside, (kernel, 1, 1), (stride, 1, 1), padding=(1, 0, 0))
            )
            layers += [nn.BatchNorm3d(outside), nn.ReLU()]
        self.spectral_adapter = nn.Sequential(*layers)
        self.proj = nn.Conv2d(128, WIDTH, PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.spectral_adapter(image[:, None]).mean(dim=2)
        return rearrange(self.proj(maps), "b d h w -> b (h w) d")


def pair(bands: int = 90) -> tuple[Dense, SpectralAdapter]:
    """The same weights in both, keys mapped one to one."""
    torch.manual_seed(0)
    dense = Dense()
    for layer in dense.spectral_adapter:
        if isinstance(layer, nn.BatchNorm3d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.uniform_(tensor, -0.5, 1.0)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    ours = SpectralAdapter(member(bands, PATCH), WIDTH, norm="batch")
    state = {}
    for key, value in dense.state_dict().items():
        name = key.replace("spectral_adapter.", "spectral.")
        state[name] = value.reshape(ours.state_dict()[name].shape)
    ours.load_state_dict(state)
    return dense.double(), ours.double()


def test_gathered_adapter_equals_the_dense_one_in_evaluation() -> None:
    dense, ours = pair()
    image = torch.randn(2, 90, 12, 8, dtype=torch.float64)
    index = torch.tensor([[5, 0], [3, 2]])
    want = dense.eval()(image)[torch.arange(2)[:, None], index]
    got = ours.eval()(gather_patches(image, PATCH, index), ())
    assert torch.allclose(got, want, atol=1e-5, rtol=0)


def test_batch_statistics_are_those_of_the_dense_one_over_all_tokens() -> None:
    dense, ours = pair()
    image = torch.randn(2, 90, 8, 8, dtype=torch.float64)
    want, got = dense.train()(image), ours.train()(gather_patches(image, PATCH, None), ())
    assert torch.allclose(got, want, atol=1e-5, rtol=0)
    for number in (1, 4, 7):
        theirs, own = dense.spectral_adapter[number], ours.spectral[number]
        assert torch.allclose(own.running_mean, theirs.running_mean, atol=1e-10)
        assert torch.allclose(own.running_var, theirs.running_var, atol=1e-10)


def test_batch_statistics_come_from_kept_pixels_only() -> None:
    """Masked pixels of a masked forward pass leave the running statistics as they are."""
    from fm.models import create_model
    from tests.fm.bands import spectrometer

    torch.manual_seed(0)
    model = create_model(
        "vit_nano",
        bands={"enmap_30": spectrometer(75)},
        token_m=120,
        tokenizer="spectral_adapter",
        tokenizer_options={"norm": "batch"},
        width=32,
        depth=1,
        heads=2,
    ).train()
    adapter = model.embedding("enmap").member_tokenizer("enmap_30")
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    image = torch.rand(2, 75, 8, 8)
    other = image.clone()
    other[:, :, :, 4:] += 5  # columns of tokens 1 and 3
    means = []
    for pixels in (image, other):
        model.load_state_dict(fresh)
        inputs = model.inputs({"enmap_30": pixels})
        model.embed(inputs, keep={"enmap": torch.tensor([[0, 2], [2, 0]])})
        means.append(adapter.spectral[1].running_mean.clone())
    assert means[0].abs().max() > 1e-3
    assert torch.equal(means[0], means[1])


def test_evaluation_is_independent_of_batch_mates() -> None:
    _, ours = pair()
    ours.eval()
    patches = torch.randn(3, 2, 90, PATCH, PATCH, dtype=torch.float64)
    alone = ours(patches[1:2], ())
    assert torch.allclose(ours(patches, ())[1:2], alone, atol=1e-12)


@pytest.mark.parametrize("norm", ["affine", "batch"])
def test_the_adapter_has_the_published_size(norm: str) -> None:
    adapter = SpectralAdapter(member(202, PATCH), WIDTH, norm=norm)
    assert sum(p.numel() for p in adapter.spectral.parameters()) == 56_192


@pytest.mark.parametrize("count", [75, 120, 198, 202, 235])
def test_long_band_lists_pass(count: int) -> None:
    adapter = SpectralAdapter(member(count, 1), WIDTH)
    assert adapter(torch.randn(1, 1, count, 1, 1), ()).shape == (1, 1, WIDTH)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 13, 60, 74])
def test_short_band_lists_are_refused_in_one_line(count: int) -> None:
    with pytest.raises(UsageError, match=f"at least 75 bands, this has {count}") as error:
        SpectralAdapter(member(count, 1), WIDTH)
    assert "\n" not in str(error.value)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(UsageError, match="give one of affine, batch"):
        SpectralAdapter(member(75, 1), WIDTH, norm="group")
