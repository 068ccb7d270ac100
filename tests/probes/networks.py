"""Small foreign networks and benchmarks in memory, for the tests of backbones."""

import numpy as np
import torch
from torch import nn

from fm.card import Card
from fm.normalize import Normalisation
from probes.backbones.adapter import Adapter, Intake, Output, rgb
from probes.benchmarks.base import Benchmark, Data, Inputs

S2 = {"s2l2a_10": ("B02", "B03", "B04", "B08")}
SCALE = {"s2l2a_10": (1e-4, 0.0)}
HALF = Normalisation("zscore", (0.5,) * 3, (0.5,) * 3)


class Conv(nn.Module):
    """One convolution of stride 2 and a rectifier."""

    def __init__(self, channels=3, width=5, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(channels, width, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


def run(network, image):
    made = network(image)
    tokens = made.flatten(2).mT
    return Output(tokens.mean(1), tokens, tuple(made.shape[-2:]))


def adapter(bands=None, normalisation=HALF, unit="display", seed=0, network=None, **options):
    """An adapter of `Conv` on R, G, B."""
    bands = rgb() if bands is None else bands
    network = Conv(len(bands), seed=seed) if network is None else network
    card = Card("conv", {"name": "conv"}, {"image": bands}, {}, {})
    return Adapter(
        network,
        run,
        Intake(bands, normalisation, unit, **options),
        width=5,
        card=card,
        source="test:conv",
        fresh=lambda seed: adapter(bands, normalisation, unit, seed, **options),
    )


def data(pixels, bands, scaling, valid=None, count=None, classes=2):
    """A benchmark of arrays: modality to [N, C, H, W]; splits go round, classes by the index."""
    n = len(next(iter(pixels.values())))
    split = np.array([("train", "val", "test")[i % 3] for i in range(n)])

    def read(index):
        masks = None if valid is None else {m: v[index] for m, v in valid.items()}
        return Inputs({m: x[index] for m, x in pixels.items()}, masks)

    return Data(
        read=read,
        targets=np.arange(n) % classes,
        split=split,
        unit=np.arange(n),
        shards=split,
        classes=tuple(f"c{k}" for k in range(classes)),
        bands=dict(bands),
        scaling=dict(scaling),
        dataset="memory",
        manifest_hash="0",
        folder=None,
    )


def s2(count=12, side=8, seed=0):
    """Stored Sentinel-2 reflectance, multiples of 40 so that 8 bits of 0.004 hold it too."""
    rng = np.random.default_rng(seed)
    eight = rng.integers(5, 120, (count, 4, side, side)).astype(np.uint8)
    return eight


def benchmark(name="memory", task="class", primary="oa"):
    return Benchmark(
        name=name,
        version=1,
        help="",
        source="",
        task=task,
        primary=primary,
        unit="image",
        split="",
        verified="fixtures only",
        load=lambda folder: None,
    )
