"""SpectralEarth's ResNet: size, keys, tokens, and the adapter on every pixel."""

import pytest
import torch

from fm.errors import UsageError
from fm.models import create_model
from fm.models.spectral_resnet import SpectralResNet
from tests.fm.bands import spectrometer

SMALL = {"blocks": (1, 1, 1, 1), "planes": 4}


def small(count: int = 75, **options: object) -> SpectralResNet:
    torch.manual_seed(0)
    model = create_model(
        "spectral_resnet_50",
        bands={"enmap_30": spectrometer(count)},
        token_m=480,
        **{**SMALL, **options},
    )
    assert isinstance(model, SpectralResNet)
    return model.eval()


def released_keys() -> dict[str, tuple[int, ...]]:
    """The keys of the released file: adapter, a first block of width 256, timm's resnet50."""
    import timm

    with torch.device("meta"):
        plain = timm.create_model("resnet50", num_classes=0).state_dict()
    keys = {f"resnet.{k}": tuple(v.shape) for k, v in plain.items() if k.startswith("layer")}
    first = "resnet.layer1.0."
    for key in [key for key in keys if key.startswith(first)]:
        del keys[key]
    norm = ("weight", "bias", "running_mean", "running_var")
    convolutions = {
        "conv1": (256, 128, 1, 1),
        "conv2": (256, 256, 3, 3),
        "conv3": (256, 256, 1, 1),
        "downsample.0": (256, 128, 1, 1),
    }
    keys |= {f"{first}{name}.weight": shape for name, shape in convolutions.items()}
    for name in ("bn1", "bn2", "bn3", "downsample.1"):
        keys |= {f"{first}{name}.{part}": (256,) for part in norm}
        keys[f"{first}{name}.num_batches_tracked"] = ()
    for number, shape in ((0, (32, 1, 7, 1, 1)), (3, (64, 32, 7, 1, 1)), (6, (128, 64, 5, 1, 1))):
        keys[f"spectral_adapter.{number}.weight"] = shape
        keys[f"spectral_adapter.{number}.bias"] = shape[:1]
        keys |= {f"spectral_adapter.{number + 1}.{part}": shape[:1] for part in norm}
        keys[f"spectral_adapter.{number + 1}.num_batches_tracked"] = ()
    return keys


def test_keys_shapes_and_size_are_the_released_ones() -> None:
    with torch.device("meta"):
        model = create_model(
            "spectral_resnet_50", bands={"enmap_30": spectrometer(202)}, token_m=480
        )
    ours = {}
    for key, value in model.state_dict().items():
        shape = tuple(value.shape)
        if key.startswith("spectral_adapter.") and len(shape) == 3:
            shape = (*shape, 1, 1)
        ours[key] = shape
    assert ours == released_keys()
    assert sum(p.numel() for p in model.parameters()) == 24_202_624


def test_the_maps_equal_primitive_operations() -> None:
    """First block by hand: dense adapter, 1x1, 3x3 of stride 2, 1x1, and the projected shortcut."""
    model = small().double()
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    image = torch.rand(2, 75, 16, 32, dtype=torch.float64)
    functional = torch.nn.functional
    x = image[:, None]
    for number, stride in ((0, 5), (3, 5), (6, 3)):
        layer, norm = model.spectral_adapter[number], model.spectral_adapter[number + 1]
        weight = layer.weight[..., None, None]
        x = functional.conv3d(x, weight, layer.bias, (stride, 1, 1), padding=(1, 0, 0))
        x = bn(x, norm).relu()
    x = x.mean(dim=2)
    block = model.resnet.layer1[0]
    y = bn(functional.conv2d(x, block.conv1.weight), block.bn1).relu()
    y = bn(functional.conv2d(y, block.conv2.weight, stride=2, padding=1), block.bn2).relu()
    y = bn(functional.conv2d(y, block.conv3.weight), block.bn3)
    short, norm = block.downsample
    x = (y + bn(functional.conv2d(x, short.weight, stride=2), norm)).relu()
    model.float()
    got = model.encode({"enmap_30": image.float()}, hidden=True).hidden[0]
    assert got.abs().max() > 0.1
    assert torch.allclose(got.double(), x.flatten(2).mT, atol=1e-4)


def bn(x: torch.Tensor, norm: torch.nn.Module) -> torch.Tensor:
    return torch.nn.functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias
    )


def test_tokens_are_the_positions_of_the_last_map_in_rows() -> None:
    model = small()
    image = torch.rand(2, 75, 48, 32)
    features = model.encode({"enmap_30": image}, hidden=True)
    assert features.grid == {"enmap": (3, 2)}
    assert features.tokens.shape == (2, 6, model.width)
    assert torch.allclose(features.pooled, features.tokens.mean(dim=1), atol=1e-6)
    assert [x.shape[1] for x in features.hidden] == [24 * 16, 12 * 8, 6 * 4, 6]
    far = image.clone()
    far[:, :, :16, :16] += 1
    moved = (model.encode({"enmap_30": far}).tokens - features.tokens).abs().amax(dim=(0, 2))
    assert moved.argmax() == 0


def test_invalid_pixels_cannot_be_seen() -> None:
    model = small()
    image = torch.rand(2, 75, 32, 32)
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[0, :16, :20] = False
    changed = torch.where(valid[:, None], image, 9.0)
    a = model.encode({"enmap_30": image}, valid={"enmap_30": valid})
    b = model.encode({"enmap_30": changed}, valid={"enmap_30": valid})
    assert torch.equal(a.pooled, b.pooled)
    assert a.mask is not None
    assert a.mask.tolist() == [[False, True, True, True], [True] * 4]
    whole = model.encode({"enmap_30": image})
    assert torch.allclose(a.pooled[1], whole.pooled[1], atol=1e-5)


@pytest.mark.parametrize(
    ("bands", "options", "text"),
    [
        ({"enmap_30": spectrometer(202)}, {"token_m": 120}, "give token_m=480"),
        ({"enmap_30": spectrometer(74)}, {"token_m": 480}, "at least 75 bands, this has 74"),
        ({"enmap_30": spectrometer(75)}, {"token_m": 480, "blocks": (1, 1)}, "four stages"),
        (
            {"enmap_30": spectrometer(75), "other_30": spectrometer(75, "other_30")},
            {"token_m": 480, "scaling": {"enmap_30": (1, 0), "other_30": (1, 0)}},
            "takes one modality",
        ),
    ],
)
def test_what_it_cannot_take_is_refused_in_one_line(bands: dict, options: dict, text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        create_model("spectral_resnet_50", bands=bands, **options)
    assert "\n" not in str(error.value)
