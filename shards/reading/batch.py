"""What a loader yields: one rank's part of one global batch."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Batch:
    """This rank's part of one global batch.

    Attributes:
        keys: sample keys; `""` for padding.
        pixels: by modality, `[B, C, H, W]` or `[B, T, C, H, W]`, of the stored dtype.
        lonlat: `[B, 2]` float64 degrees, NaN where unknown.
        time: `[B]` float64 seconds since 1970 UTC, NaN where unknown.
        labels: by name. class: `[B]` int64 (the label's `ignore`, else -1, where unknown);
            multilabel: `[B, classes]` float32 of 0 and 1 (NaN where unknown); fractions likewise,
            0 to 1; regression: `[B]` float64 (NaN where unknown); mask: `[B, H, W]` of the stored
            dtype. Labels of each image of a series have `[B, T]` in place of `[B]`.
        weight: `[B]` float32: 1, or 0 for a quarantined sample or padding, whose pixels are zero.
        positions: `[B]` int64 places in the stream.
        epochs: `[B]` int64.
        scaling: by modality `(scale, offset)`: physical = stored * scale + offset.
        bands: by modality, the names along the C axis.
        nodata: by modality, the stored number of each band that means "no data" (or None).
        times: `[B, T]` float64 seconds since 1970 UTC of temporal samples; None where the samples
            have no T axis.
        texts: labels that are text, by name; None where unknown.
        part: name of the dataset in a mixture that deals whole batches; None otherwise.
    """

    keys: list[str]
    pixels: dict[str, Tensor]
    lonlat: Tensor
    time: Tensor
    labels: dict[str, Tensor]
    weight: Tensor
    positions: Tensor
    epochs: Tensor
    scaling: dict[str, tuple[float, float]]
    bands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    nodata: dict[str, tuple[int | None, ...] | None] = field(default_factory=dict)
    times: Tensor | None = None
    texts: dict[str, list[str | None]] = field(default_factory=dict)
    part: str | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on a device, when the copies are done.

        The loader uses this batch's memory again as soon as nothing refers to it, so nothing may
        still be copied from it then. Copies that run beside the computation: `device=` of the
        loader.
        """
        return self._moved(device, wait=True)

    def _moved(self, device: torch.device | str, *, wait: bool) -> "Batch":
        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=not wait)
            return {name: move(item) for name, item in value.items()}

        names = ["pixels", "lonlat", "time", "labels", "weight", "positions", "epochs"]
        names += ["times"] if self.times is not None else []
        moved = {name: move(getattr(self, name)) for name in names}
        return dataclasses.replace(self, **moved)

    def tensors(self) -> list[Tensor]:
        """Return every tensor of the batch."""
        loose = [self.lonlat, self.time, self.weight, self.positions, self.epochs]
        loose += [] if self.times is None else [self.times]
        return [*self.pixels.values(), *self.labels.values(), *loose]

    def valid(self, modality: str) -> Tensor:
        """Say which elements hold data.

        Args:
            modality: a key of `pixels`.

        Returns:
            bool of the pixels' shape: finite for floating types; for integers, not the band's
            `nodata`. Computed where the pixels are. Samples of weight 0 have no data.
        """
        pixels = self.pixels[modality]
        codes = self.nodata.get(modality)
        weight = (self.weight > 0).view(-1, *[1] * (pixels.ndim - 1))
        if pixels.is_floating_point():
            return torch.isfinite(pixels) & weight
        result = weight.expand(pixels.shape).clone()
        for band, code in enumerate(codes or ()):
            if code is not None:
                plane = pixels.select(-3, band)
                if plane.dtype == torch.uint16:  # few operations know it; the bits are the same
                    plane, code = plane.view(torch.int16), (code + 2**15) % 2**16 - 2**15
                result.select(-3, band).logical_and_(plane != code)
        return result
