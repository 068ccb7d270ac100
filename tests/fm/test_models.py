"""Backbones: what `encode` promises, and patch gathering against primitive operations."""

import math

import numpy as np
import pytest
import torch

import fm
from fm.errors import UsageError
from fm.models import create_model
from fm.models.embed import SpectralAdapter
from fm.models.embed.patches import gather_patches, to_physical
from fm.models.layout import groups
from fm.models.positions import sincos_2d
from fm.normalize import Normalisation
from fm.sensors import sensor


def s2_pixels(batch: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(seed)
    shapes = {"s2l1c_10": (4, 48), "s2l1c_20": (6, 24), "s2l1c_60": (3, 8)}
    return {
        name: torch.from_numpy(
            generator.integers(200, 4000, (batch, bands, size, size)).astype(np.uint16)
        )
        for name, (bands, size) in shapes.items()
    }


@pytest.fixture(scope="module")
def model() -> fm.models.VisionTransformer:
    torch.manual_seed(0)
    bands = sensor("sentinel2-l1c").modalities
    normalisation = {
        m: Normalisation.fit("zscore", {"mean": [0.2] * len(b), "std": [0.1] * len(b)})
        for m, b in bands.items()
    }
    return create_model(
        "vit_nano", bands=bands, token_m=120, normalisation=normalisation, depth=2
    ).eval()


def test_gather_equals_slicing() -> None:
    x = torch.randint(0, 60000, (2, 3, 12, 8)).to(torch.uint16)
    index = torch.tensor([[5, 0], [2, 2]])
    cut = gather_patches(x, 4, index)
    assert cut.dtype == torch.uint16
    for b in range(2):
        for k in range(2):
            row, column = divmod(int(index[b, k]), 2)
            want = x[b, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert np.array_equal(cut[b, k].numpy(), want.numpy())
    everything = gather_patches(x, 4, None)
    assert np.array_equal(everything[0, 5].numpy(), cut[0, 0].numpy())


def test_integers_are_stored_numbers_and_floats_are_physical() -> None:
    stored = torch.tensor([1000, 65535]).to(torch.uint16)
    physical = to_physical(stored, 1e-4, -0.1)
    assert torch.allclose(physical, torch.tensor([0.0, 6.4535]), atol=1e-6)
    assert torch.equal(to_physical(physical, 1e-4, -0.1), physical)


def test_sincos_equals_the_closed_form() -> None:
    code = sincos_2d(8, 2, 3)
    for row in range(2):
        for column in range(3):
            half = []
            for x in (column, row):
                w = [1.0, 10000.0**-0.5]
                half += [math.sin(x * v) for v in w] + [math.cos(x * v) for v in w]
            assert torch.allclose(code[row * 3 + column], torch.tensor(half), atol=1e-6)


def test_trunk_keys_are_timms(model: fm.models.VisionTransformer) -> None:
    from timm.models.vision_transformer import VisionTransformer as Timm

    theirs = Timm(embed_dim=128, depth=2, num_heads=4, num_classes=0).state_dict()
    ours = model.state_dict()
    shared = [k for k in theirs if k.startswith(("blocks.", "norm.")) or k == "cls_token"]
    assert len(shared) == 2 * 12 + 2 + 1
    for key in shared:
        assert ours[key].shape == theirs[key].shape


def test_encode_shapes(model: fm.models.VisionTransformer) -> None:
    features = model.encode(s2_pixels(), hidden=True)
    assert features.tokens.shape == (2, 16, 128)
    assert features.pooled.shape == (2, 128)
    assert features.grid == {"s2l1c": (4, 4)}
    assert len(features.hidden) == 2
    assert torch.allclose(features.pooled, features.tokens.mean(dim=1), atol=1e-6)


def test_stored_and_physical_pixels_give_the_same_features(
    model: fm.models.VisionTransformer,
) -> None:
    pixels = s2_pixels()
    physical = {name: x.to(torch.float32) * 1e-4 for name, x in pixels.items()}
    a, b = model.encode(pixels).pooled, model.encode(physical).pooled
    assert torch.allclose(a, b, atol=1e-5)
    shifted = {name: (x.to(torch.int32) + 1000) for name, x in pixels.items()}
    scaling = dict.fromkeys(pixels, (1e-4, -0.1))
    assert torch.allclose(model.encode(shifted, scaling=scaling).pooled, a, atol=1e-5)


def test_bands_are_put_in_order_by_name(model: fm.models.VisionTransformer) -> None:
    pixels = s2_pixels()
    names = [band.name for band in model.bands["s2l1c_20"]]
    shuffled = {**pixels, "s2l1c_20": pixels["s2l1c_20"][:, [3, 0, 5, 1, 2, 4]]}
    bands = {"s2l1c_20": [names[i] for i in (3, 0, 5, 1, 2, 4)]}
    want = model.encode(pixels).pooled
    assert torch.equal(model.encode(shuffled, bands=bands).pooled, want)
    assert not torch.allclose(model.encode(shuffled).pooled, want, atol=1e-4)


def test_mismatches_are_refused_in_one_line(model: fm.models.VisionTransformer) -> None:
    pixels = s2_pixels()
    wrong = [
        ({"landsat": pixels["s2l1c_10"]}, {}, "does not take landsat"),
        ({}, {}, "no pixels"),
        ({"s2l1c_10": pixels["s2l1c_10"][:, :3]}, {}, r"expected \[B, 4, H, W\]"),
        ({"s2l1c_10": pixels["s2l1c_10"][..., :47]}, {}, "whole number of tokens"),
        ({**pixels, "s2l1c_60": pixels["s2l1c_60"][..., :6, :]}, {}, "same ground"),
        (pixels, {"bands": {"s2l1c_10": ["B02", "B03", "B04", "B05"]}}, "missing B08"),
        (pixels, {"bands": {"s2l1c_10": ["B02", "B03", "B04"]}}, "name each channel once"),
        (pixels, {"gsd": {"s2l1c_10": 20.0}}, "resample"),
    ]
    for given, options, text in wrong:
        with pytest.raises(UsageError, match=text) as error:
            model.encode(given, **options)
        assert "\n" not in str(error.value)


def test_invalid_pixels_cannot_be_seen(model: fm.models.VisionTransformer) -> None:
    """Values under an invalid mask change nothing, and emptied tokens are not pooled."""
    pixels = s2_pixels()
    valid = {name: torch.ones(2, *x.shape[-2:], dtype=torch.bool) for name, x in pixels.items()}
    for name, edge in (("s2l1c_10", 15), ("s2l1c_20", 7), ("s2l1c_60", 2)):
        valid[name][0, :, :edge] = False
    changed = {name: x.clone() for name, x in pixels.items()}
    for name, x in changed.items():
        hidden = (~valid[name])[:, None].expand(x.shape)
        x.view(torch.int16)[hidden] = 31000
    a, b = model.encode(pixels, valid=valid), model.encode(changed, valid=valid)
    assert torch.equal(a.pooled, b.pooled)
    # the first token column has no valid pixel left, the second one some
    assert a.mask is not None
    assert a.mask[0].reshape(4, 4)[:, 0].sum() == 0
    assert a.mask[0].reshape(4, 4)[:, 1:].all()
    assert a.mask[1].all()
    whole = model.encode(pixels)
    assert torch.allclose(a.pooled[1], whole.pooled[1], atol=1e-5)


def test_spectral_adapter_has_the_published_size_and_mixes_no_pixels() -> None:
    bands = sensor("aviris-indian-pines").modalities
    (member,) = groups(bands, 40)[0].members
    adapter = SpectralAdapter(member, 64)
    assert sum(p.numel() for p in adapter.spectral.parameters()) == 56_192
    patches = torch.randn(1, 3, 200, 2, 2)
    changed = patches.clone()
    changed[0, 1, :, 1, 1] += 1
    difference = (
        (adapter(patches, member.bands) - adapter(changed, member.bands)).abs().amax(dim=2)[0]
    )
    assert difference[1] > 1e-4
    assert difference[[0, 2]].max() == 0
    with pytest.raises(UsageError, match="at least 75"):
        create_model("vit_nano", bands=sensor("sentinel2-l1c"), tokenizer="spectral_adapter")


def test_wrong_requests_for_a_model_are_one_line() -> None:
    s2 = sensor("sentinel2-l1c")
    with pytest.raises(UsageError, match="did you mean 'vit_small'"):
        create_model("vit_smal", bands=s2)
    with pytest.raises(UsageError, match="not whole pixels"):
        create_model("vit_nano", bands=s2, token_m=90)
    with pytest.raises(UsageError, match=r"token_m names \['s2'\]"):
        create_model("vit_nano", bands=s2, token_m={"s2": 120})
    with pytest.raises(UsageError, match="no tokenizer"):
        create_model("vit_nano", bands=s2, tokenizer="conv")
    with pytest.raises(UsageError, match="empty"):
        create_model("vit_nano", bands={})
