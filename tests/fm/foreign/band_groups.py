"""Presto and Galileo, small: weights under the files' keys, series of images, and a block.

The block is written token by token from the keys, for what the models must put out.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from torch import Tensor
from torch.nn import functional

from fm import foreign
from fm.foreign.inventory import inventory
from fm.models import Backbone
from fm.sensors import Band
from tests.fm.foreign.states import AS_THEY_ARE, GALILEO, PIXELS, identity

HEADS = 2
LONLAT = torch.tensor([[13.4, 52.5], [-70.7, -33.4]], dtype=torch.float64)
"""Places of the two samples."""


@dataclass(frozen=True)
class Small:
    """A network of two samples, for tests.

    Attributes:
        kind: its name in the inventory.
        bands: all that it takes.
        months: of the images of each sample.
        rows: of pixels; `columns` likewise.
        spread: of its random kernels.
        width: D, where it is not the inventory's tiny one.
    """

    kind: str
    bands: dict[str, tuple[Band, ...]]
    months: tuple[tuple[int, ...], tuple[int, ...]]
    rows: int
    columns: int
    spread: float
    width: int | None = None

    @property
    def images(self) -> int:
        return len(self.months[0])

    @property
    def times(self) -> Tensor:
        """Of the images `[B, T]`, seconds since 1970."""
        return torch.tensor(
            [[datetime(2021, m, 9, tzinfo=UTC).timestamp() for m in row] for row in self.months],
            dtype=torch.float64,
        )

    def state(self) -> dict[str, Tensor]:
        """Weights of some size under the file's keys, which differ from what the model computes."""
        found = inventory(self.kind)
        sizes = found.tiny if self.width is None else {**found.tiny, "D": self.width}
        generator = torch.Generator().manual_seed(0)
        made = {}
        for key, shape in found.expand(sizes).items():
            spread = self.spread if len(shape) > 1 else 0.2
            value = torch.randn(shape, generator=generator) * spread
            made[key] = value + 1 if "norm" in key and key.endswith("weight") else value
        return made

    def series(self, scale: float = 1.0) -> dict[str, Tensor]:
        """Images in physical units, each side `scale` times as long."""
        generator = torch.Generator().manual_seed(1)
        rows, columns = round(scale * self.rows), round(scale * self.columns)
        made = {
            m: torch.randn(2, self.images, len(b), rows, columns, generator=generator)
            for m, b in self.bands.items()
        }
        made["s2l1c_10"] = made["s2l1c_10"].abs() * 0.3
        return made

    def load(
        self, weights: dict[str, Tensor], modalities: tuple[str, ...] | None = None
    ) -> tuple[Backbone, foreign.Report]:
        """Load weights for some or all modalities, with the identity as normalisation."""
        bands = {m: self.bands[m] for m in modalities or self.bands}
        scaling = {m: AS_THEY_ARE[m] for m in bands}
        return foreign.load(
            weights, bands=bands, normalisation=identity(bands), heads=HEADS, scaling=scaling
        )


PRESTO = Small("presto", PIXELS, ((11, 12, 1, 2, 4), (6, 7, 8, 9, 10)), 2, 2, 0.6)
GALILEO_OF_4 = Small("galileo", GALILEO, ((11, 12, 1), (6, 7, 9)), 8, 12, 0.3, width=32)
"""Two by three patches of four pixels."""


class Layers:
    """Layers of a state by their keys, on one sample's tokens `[N, D]`."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def linear(self, key: str, value: Tensor) -> Tensor:
        weight = self.weights[f"{key}.weight"]
        return functional.linear(value, weight.flatten(1), self.weights[f"{key}.bias"])

    def norm(self, key: str, value: Tensor) -> Tensor:
        weight, bias = self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        return functional.layer_norm(value, value.shape[-1:], weight, bias)

    def block(self, key: str, out: Tensor) -> Tensor:
        """Attention, of one layer `qkv` or of three, and MLP."""
        put = self.norm(f"{key}.norm1", out)
        if f"{key}.attn.qkv.weight" in self.weights:
            parts = self.linear(f"{key}.attn.qkv", put).chunk(3, dim=-1)
        else:
            parts = tuple(self.linear(f"{key}.attn.{name}", put) for name in "qkv")
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(0, 1) for part in parts)
        share = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        out = out + self.linear(f"{key}.attn.proj", (share @ v).transpose(0, 1).flatten(1))
        inside = functional.gelu(self.linear(f"{key}.mlp.fc1", self.norm(f"{key}.norm2", out)))
        return out + self.linear(f"{key}.mlp.fc2", inside)


def on_the_sphere(lonlat: Tensor) -> Tensor:
    """The unit vector of a place `[2]`."""
    lon, lat = (math.radians(float(angle)) for angle in lonlat)
    return torch.tensor(
        [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
    )


def ndvi(x: dict[str, Tensor]) -> Tensor:
    return (x["B08"] - x["B04"]) / (x["B08"] + x["B04"])


def by_name(small: Small, x: dict[str, Tensor], sample: int) -> dict[str, Tensor]:
    """Bands `[T, H, W]` of one sample."""
    return {
        band.name: values[sample, :, channel]
        for modality, values in x.items()
        for channel, band in enumerate(small.bands[modality])
    }
