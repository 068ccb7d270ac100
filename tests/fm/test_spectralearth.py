"""SpectralEarth's ViTs are ours with the spectral adapter: sizes, keys and outputs."""

from functools import partial

import pytest
import torch

from fm.models import VisionTransformer, create_model
from fm.models.registry import SIZES
from tests.fm.bands import spectrometer

PUBLISHED = {
    "tiny": 5.99,
    "small": 22.53,
    "base": 87.47,
    "large": 305.52,
    "huge": 633.67,
    "giant": 1138,
}
"""Millions of parameters of the encoders with a learned table of 1 + 32 x 32 positions."""


def build(size: str, **options: object) -> VisionTransformer:
    model = create_model(
        f"vit_{size}",
        bands={"enmap_30": spectrometer(202)},
        token_m=120,
        tokenizer="spectral_adapter",
        tokenizer_options={"norm": "batch"},
        positions="learned",
        grid=32,
        **options,
    )
    assert isinstance(model, VisionTransformer)
    return model


def released(name: str) -> str:
    """Translate one of our keys into the one of the released file."""
    embedding = "patch_embed.enmap.embed.enmap_30."
    if name.startswith(embedding):
        rest = name.removeprefix(embedding)
        if rest.startswith("spectral."):
            return "spectral_adapter." + rest.removeprefix("spectral.")
        return "vit_core.patch_embed." + rest
    return "vit_core." + name


def released_inventory(size: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a released file: the adapter beside timm's ViT with 128 channels."""
    from timm.models.vision_transformer import VisionTransformer as Timm

    given = SIZES[size]
    with torch.device("meta"):
        core = Timm(
            img_size=128,
            patch_size=4,
            in_chans=128,
            embed_dim=given["width"],
            depth=given["depth"],
            num_heads=given["heads"],
            num_classes=0,
        )
    keys = {f"vit_core.{key}": tuple(value.shape) for key, value in core.state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var")
    for number, shape in ((0, (32, 1, 7, 1, 1)), (3, (64, 32, 7, 1, 1)), (6, (128, 64, 5, 1, 1))):
        keys[f"spectral_adapter.{number}.weight"] = shape
        keys[f"spectral_adapter.{number}.bias"] = shape[:1]
        keys |= {f"spectral_adapter.{number + 1}.{part}": shape[:1] for part in norm}
        keys[f"spectral_adapter.{number + 1}.num_batches_tracked"] = ()
    return keys


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_and_released_keys(size: str) -> None:
    with torch.device("meta"):
        model = build(size)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(millions, 0 if size == "giant" else 2) == PUBLISHED[size]
    inventory = released_inventory(size)
    ours = {released(key): value for key, value in model.state_dict().items()}
    assert set(ours) == set(inventory)
    assert {k: v.numel() for k, v in ours.items()} == {
        k: torch.Size(shape).numel() for k, shape in inventory.items()
    }


def test_released_weights_would_give_the_released_features() -> None:
    """Made-up weights of timm's ViT and a dense adapter, mapped: the same tokens."""
    from timm.models.vision_transformer import VisionTransformer as Timm

    torch.manual_seed(0)
    core = Timm(
        img_size=16,
        patch_size=4,
        in_chans=128,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=0,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    ).eval()
    adapter: list[torch.nn.Module] = []
    for inside, outside, kernel, stride in ((1, 32, 7, 5), (32, 64, 7, 5), (64, 128, 5, 3)):
        convolution = torch.nn.Conv3d(
            inside, outside, (kernel, 1, 1), (stride, 1, 1), padding=(1, 0, 0)
        )
        adapter += [convolution, torch.nn.BatchNorm3d(outside), torch.nn.ReLU()]
    dense = torch.nn.Sequential(*adapter).eval()
    image = torch.rand(2, 202, 16, 16)
    with torch.no_grad():
        want = core.forward_features(dense(image[:, None]).mean(dim=2))

    model = create_model(
        "vit_nano",
        bands={"enmap_30": spectrometer(202)},
        token_m=120,
        tokenizer="spectral_adapter",
        tokenizer_options={"norm": "batch"},
        positions="learned",
        grid=4,
        width=32,
        depth=2,
        heads=2,
    ).eval()
    theirs = {f"vit_core.{k}": v for k, v in core.state_dict().items()}
    theirs |= {f"spectral_adapter.{k}": v for k, v in dense.state_dict().items()}
    state = {k: theirs[released(k)].reshape(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        got = model.encode({"enmap_30": image})
    assert torch.allclose(got.tokens, want[:, 1:], atol=1e-5)
