"""Checkpoints as backbones of TerraTorch: `import fm.export.terratorch` in its custom modules.

TerraTorch (1.2) asks of a backbone that `forward` returns a list of feature maps and that
`out_channels` says how wide each is. Its registry takes sources by prefix, so that

    backbone: eofm_checkpoint
    backbone_folder: runs/mae/export
    backbone_values: stored

builds one of our checkpoints.
"""

import importlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fm import checkpoint
from fm.errors import FMError, UsageError, suggest
from fm.export.graph import METADATA

PREFIX, NAME = "eofm", "checkpoint"


class TerraTorchBackbone(nn.Module):
    """A checkpoint whose forward pass returns maps.

    Args:
        folder: of the checkpoint.
        values: `physical` (reflectance as a fraction, dB) or `stored`: what pixels are, which
            nothing else tells, for TerraTorch's datasets give floats in either case.
        out_indices: blocks (stages of a ResNet) whose maps are returned, from the end where
            negative; the last one when None, and that has passed the final norm.
        bands: modality to the names of the channels, or a list of names where there is one
            modality; the model's own when None.
        pretrained: False draws fresh weights.

    Attributes:
        out_channels: width of each map.
        patch_size: pixels of a token on the finest grid; TerraTorch pads images to it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        values: str | None = None,
        out_indices: Sequence[int] | None = None,
        bands: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        if values not in ("physical", "stored"):
            raise UsageError(
                f"values={values}: say what the pixels are: physical (reflectance as a fraction, "
                f"dB) or stored (the product's numbers)"
            )
        self.model = checkpoint.load(folder, weights="pretrained" if pretrained else "random")
        if len(self.model.groups) != 1:
            raise UsageError(
                f"{folder}: {len(self.model.groups)} token groups; TerraTorch wants one map a layer"
            )
        if self.model.series:
            raise UsageError(f"{folder}: the model takes series of images; TerraTorch gives one")
        self.stored = values == "stored"
        if bands is not None and not isinstance(bands, Mapping):
            bands = {self._only("bands"): list(bands)}
        self.bands = None if bands is None else {m: list(names) for m, names in bands.items()}
        members = next(iter(self.model.groups.values())).members
        self.patch_size = max(member.patch for member in members)
        with torch.no_grad():
            widths = [x.shape[1] for x in self._maps(self._blank(members))]
        indices = [-1] if out_indices is None else list(out_indices)
        if wrong := [i for i in indices if not -len(widths) <= i < len(widths)]:
            raise UsageError(f"out_indices: there is no layer {wrong[0]} of {len(widths)}")
        self.out_indices = [i % len(widths) for i in indices]
        self.out_channels = [widths[i] for i in self.out_indices]

    def _only(self, what: str) -> str:
        if len(self.model.bands) != 1:
            raise UsageError(
                f"{what}: the model takes {', '.join(self.model.bands)}; give one entry for each"
            )
        return next(iter(self.model.bands))

    def _blank(self, members: Sequence[Any]) -> dict[str, Tensor]:
        return {
            m.modality: torch.zeros(1, len(self.model.bands[m.modality]), m.patch, m.patch)
            for m in members
        }

    def forward(self, x: Tensor | Mapping[str, Tensor], **told: Any) -> list[Tensor]:
        """Make maps.

        Args:
            x: `[B, C, H, W]`, or modality to such an array where the model takes several.
            told: `lonlat` and `time` where the model uses them.

        Returns:
            `[B, D, rows, columns]` for each of `out_indices`.
        """
        pixels = {self._only("x"): x} if isinstance(x, Tensor) else dict(x)
        if self.stored:
            scaling = self.model.scaling
            pixels = {
                m: image.float() * scaling[m][0] + scaling[m][1] if m in scaling else image
                for m, image in pixels.items()
            }
        else:
            pixels = {m: image.float() for m, image in pixels.items()}
        known = {name: told[name] for name in METADATA if told.get(name) is not None}
        maps = self._maps(pixels, **known)
        return [maps[i] for i in self.out_indices]

    def _maps(self, pixels: dict[str, Tensor], **told: Any) -> list[Tensor]:
        given = (
            None if self.bands is None else {m: self.bands[m] for m in pixels if m in self.bands}
        )
        features = self.model.encode(pixels, bands=given, hidden=True, **told)
        ((rows, columns),) = features.grid.values()
        made = []
        for tokens in (*features.hidden[:-1], features.tokens):
            finer = math.isqrt(tokens.shape[1] // (rows * columns))  # stages of a ResNet
            made.append(tokens.mT.unflatten(2, (rows * finer, columns * finer)))
        return made


class Source:
    """What TerraTorch's `MultiSourceRegistry` asks of a source."""

    def __iter__(self) -> Iterator[str]:
        return iter((NAME,))

    def __len__(self) -> int:
        return 1

    def __contains__(self, name: object) -> bool:
        return name == NAME

    def __getitem__(self, name: str) -> type[TerraTorchBackbone]:
        if name not in self:
            raise KeyError(name)
        return TerraTorchBackbone

    def build(self, name: str, *arguments: Any, **options: Any) -> TerraTorchBackbone:
        """Build a backbone.

        Raises:
            UsageError: another name than `checkpoint`.
        """
        if name not in self:
            raise UsageError(f"eofm has no backbone {name!r}; {suggest(name, self)}")
        return TerraTorchBackbone(*arguments, **options)


def register() -> None:
    """Add ours to TerraTorch's backbones, once.

    Raises:
        FMError: TerraTorch is not installed.
    """
    try:
        registry = importlib.import_module("terratorch.registry").BACKBONE_REGISTRY
    except ModuleNotFoundError as error:
        raise FMError(f"TerraTorch cannot be imported ({error}); pip install terratorch") from None
    if PREFIX not in registry.keys():  # noqa: SIM118 (its `in` asks for models)
        registry.register_source(PREFIX, Source())
