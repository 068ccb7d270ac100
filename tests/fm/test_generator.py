"""The wavelength-conditioned embedding: any bands in any order, and DOFA's numbers."""

from dataclasses import replace

import pytest
import torch

from fm.errors import UsageError
from fm.models import create_model
from fm.models.embed import GeneratedEmbed
from fm.models.layout import Member
from fm.sensors import sensor
from tests.fm.bands import COUNTS, member, spectrometer

PATCH, WIDTH = 4, 16


def embedding(count: int = 6, **options: object) -> GeneratedEmbed:
    torch.manual_seed(0)
    return GeneratedEmbed(member(count, PATCH), WIDTH, codes=32, learned=8, **options).eval()


@pytest.mark.parametrize("bandwidth", [False, True])
def test_the_order_of_the_bands_does_not_matter(bandwidth: bool) -> None:
    """Bands and channels permuted together: the same; channels alone: not the same."""
    embed, bands = embedding(bandwidth=bandwidth, scale=1.0), spectrometer(6)
    patches = torch.randn(2, 3, 6, PATCH, PATCH)
    order = [4, 1, 5, 0, 3, 2]
    want = embed(patches, bands)
    got = embed(patches[:, :, order], [bands[i] for i in order])
    assert torch.allclose(got, want, atol=1e-4)
    assert not torch.allclose(embed(patches[:, :, order], bands), want, atol=1e-2)


def test_a_kernel_belongs_to_its_band_row_and_column() -> None:
    """One bright pixel of one band reads one row of the generated matrix, and no other's."""
    embed, bands = embedding(scale=1.0), spectrometer(6)
    weight, bias = embed.kernels(bands)
    assert weight.shape == (6 * PATCH**2, WIDTH)
    patches = torch.zeros(1, 1, 6, PATCH, PATCH)
    patches[0, 0, 4, 1, 2] = 1.0
    want = weight[(4 * PATCH + 1) * PATCH + 2] + bias
    assert torch.allclose(embed(patches, bands)[0, 0], want, atol=1e-6)
    # the same band in another list keeps its weights up to what the others' presence changes
    shuffled = embed.kernels(bands[::-1])[0].unflatten(0, (6, -1)).flip(0).flatten(0, 1)
    assert torch.allclose(shuffled, weight, atol=1e-5)


def test_gradients_reach_every_parameter_and_weights_are_never_stale() -> None:
    embed, bands = embedding(bandwidth=True), spectrometer(6)
    patches = torch.randn(2, 3, 6, PATCH, PATCH)
    with torch.no_grad():
        before = embed(patches, bands)
        embed.weight_generator.fc_bias.bias += 1
        assert torch.allclose(embed(patches, bands), before + embed.scale, atol=1e-6)
    embed.train()
    for _ in range(2):
        embed.zero_grad()
        embed(patches, bands).square().sum().backward()
        still = [n for n, p in embed.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == []


def test_a_band_without_wavelength_or_width_is_refused() -> None:
    radar = sensor("sentinel1-grd").modalities["s1grd_10"]
    with pytest.raises(UsageError, match="has no wavelength"):
        GeneratedEmbed(Member("s1grd_10", radar, PATCH), WIDTH)
    widthless = [replace(band, fwhm_nm=None) for band in spectrometer(6)]
    embedding().kernels(widthless)
    with pytest.raises(UsageError, match="has no width"):
        embedding(bandwidth=True).kernels(widthless)


def test_building_leaves_the_global_generator_of_a_reader_alone() -> None:
    """No module-level seed: two embeddings built one after the other differ."""
    torch.manual_seed(0)
    first = GeneratedEmbed(member(3, PATCH), WIDTH)
    second = GeneratedEmbed(member(3, PATCH), WIDTH)
    one, two = first.weight_generator.weight_tokens, second.weight_generator.weight_tokens
    assert not torch.equal(one, two)


@pytest.mark.parametrize("tokenizer", ["generator", "tied"])
@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_bands(tokenizer: str, count: int) -> None:
    """Built with 13 bands, given 1 to 235; and built with that many."""
    size = {"width": 32, "depth": 1, "heads": 2, "tokenizer": tokenizer, "token_m": 120}
    torch.manual_seed(0)
    bands = spectrometer(count)
    model = create_model("vit_nano", bands={"enmap_30": spectrometer(13)}, **size).eval()
    own = create_model("vit_nano", bands={"enmap_30": bands}, **size).eval()
    pixels = {"enmap_30": torch.rand(2, count, 8, 8)}
    with torch.no_grad():
        for made in (model.encode(pixels, bands={"enmap_30": bands}), own.encode(pixels)):
            assert made.tokens.shape == (2, 4, 32)
            assert made.tokens.isfinite().all()


def test_equals_the_dynamic_embedding_of_torchgeo() -> None:
    """The installed module's weights in ours: the same tokens, kept or all, from one image."""
    from torchgeo.models.dofa import DOFAEmbedding

    torch.manual_seed(0)
    theirs = DOFAEmbedding(128, kernel_size=8, embed_dim=24).eval()
    with torch.no_grad():  # a visible bias and band codes that do not all look alike
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    bands = sensor("sentinel2-l2a").modalities["s2l2a_10"]
    model = create_model(
        "vit_nano",
        bands={"s2l2a_10": bands},
        token_m=80,
        tokenizer="generator",
        tokenizer_options={"shift": 1},
        width=24,
        depth=1,
        heads=2,
    ).eval()
    embed = model.embedding("s2l2a")
    embed.member_tokenizer("s2l2a_10").load_state_dict(theirs.state_dict(), strict=True)
    image = torch.randn(2, 4, 24, 32)
    waves = torch.tensor([band.wavelength_nm / 1000 for band in bands])
    index = torch.tensor([[11, 0, 5], [4, 3, 3]])
    inputs = model.inputs({"s2l2a_10": image})
    with torch.no_grad():
        want, _ = theirs(image, waves)
        everything, _ = embed(inputs)
        kept, _ = embed(inputs, index)
    assert want.std() > 0.05
    assert torch.allclose(everything, want, atol=1e-5, rtol=0)
    assert torch.allclose(kept, want[torch.arange(2)[:, None], index], atol=1e-5, rtol=0)


def test_shifted_reading_has_zeros_outside_and_leaves_targets_alone() -> None:
    """What is off the image is the mean after normalising, and targets are not moved."""
    bands = spectrometer(3)
    model = create_model(
        "vit_nano",
        bands={"enmap_30": bands},
        token_m=120,
        tokenizer="generator",
        tokenizer_options={"shift": 1},
        width=32,
        depth=1,
        heads=2,
    )
    embed = model.embedding("enmap")
    image = torch.rand(1, 3, 8, 8)
    valid = {"enmap_30": torch.ones(1, 8, 8, dtype=torch.bool)}
    inputs = model.inputs({"enmap_30": image}, valid=valid)
    padded = torch.nn.functional.pad(image, (1, 0, 1, 0))
    cut = torch.stack([padded[:, :, :4, :4], padded[:, :, 4:8, 4:8]], dim=1)
    index = torch.tensor([[0, 3]])
    want = embed.member_tokenizer("enmap_30")(cut, bands)
    got, seen = embed(inputs, index)
    assert torch.allclose(got, want, atol=1e-6)
    assert seen is not None
    assert seen.all()
    target = embed.patches(inputs, index)["enmap_30"]
    assert torch.equal(target[0, 1], image[0, :, 4:, 4:])
    # an invalid pixel is hidden where it is read: this one by token 3 alone, though it lies in 0
    valid["enmap_30"][0, 3, 3] = False
    changed = image.clone()
    changed[0, :, 3, 3] = 9.0
    hidden, _ = embed(model.inputs({"enmap_30": image}, valid=valid), index)
    again, _ = embed(model.inputs({"enmap_30": changed}, valid=valid), index)
    assert torch.equal(hidden, again)
    assert torch.equal(hidden[:, 0], got[:, 0])
    assert not torch.allclose(hidden[:, 1], got[:, 1], atol=1e-5)


def test_chosen_bands_keep_the_weights() -> None:
    embed, bands = embedding(), spectrometer(6)
    chosen = Member("enmap_30", bands[1:3], PATCH)
    other = embed.select([1, 2], chosen)
    patches = torch.randn(1, 1, 2, PATCH, PATCH)
    assert torch.equal(other(patches, chosen.bands), embed(patches, chosen.bands))


def test_tokens_of_more_pixels_have_larger_kernels_where_they_are_of_one_band() -> None:
    """Defect: mixed kernels resized as if a row were a pixel, as it is of others alone."""
    embed, bands = embedding(scale=1.0), spectrometer(6)
    patches = torch.randn(1, 2, 6, PATCH, PATCH)
    large = patches.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    other = embed.resized(PATCH, 2 * PATCH, "area")
    assert torch.allclose(other(large, bands), embed(patches, bands), atol=1e-4)
    with pytest.raises(UsageError, match="GeneratedEmbed cannot take tokens of 8 px instead of 4"):
        embedding(mixed=True).resized(PATCH, 2 * PATCH, "area")


@pytest.mark.parametrize(
    ("options", "text"),
    [({"codes": 30}, "multiple of 4"), ({"learned": -1}, "learned"), ({"shift": 4}, "shift 4")],
)
def test_wrong_options_are_one_line(options: dict, text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        GeneratedEmbed(member(3, PATCH), WIDTH, **options)
    assert "\n" not in str(error.value)
