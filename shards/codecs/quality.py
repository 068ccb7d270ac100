"""What a lossy codec lost, band by band, in stored numbers, summed over samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

_SUMS = ("max_error", "squared", "count", "low", "high", "bits", "pixels")


@dataclass
class Quality:
    """Sums that turn into error, PSNR and bits; `+` joins those of several samples.

    Attributes:
        max_error: largest absolute error of a valid pixel, for each band.
        squared: sum of squared errors.
        count: valid pixels.
        low: least valid value.
        high: largest valid value.
        bits: of the members.
        pixels: all pixels.
        coders: how many members each encoder made.
    """

    max_error: np.ndarray
    squared: np.ndarray
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bits: np.ndarray
    pixels: np.ndarray
    coders: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: "Quality") -> "Quality":
        """Return both together."""
        names = sorted({*self.coders, *other.coders})
        return Quality(
            max_error=np.maximum(self.max_error, other.max_error),
            squared=self.squared + other.squared,
            count=self.count + other.count,
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            bits=self.bits + other.bits,
            pixels=self.pixels + other.pixels,
            coders={n: self.coders.get(n, 0) + other.coders.get(n, 0) for n in names},
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the sums as arrays, for a file; `from_arrays` reads them."""
        arrays = {name: getattr(self, name) for name in _SUMS}
        arrays["coders"] = np.array(list(self.coders), np.str_)
        arrays["members"] = np.array(list(self.coders.values()), np.int64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Undo `to_arrays`."""
        coders = zip(arrays["coders"].tolist(), arrays["members"].tolist(), strict=True)
        return cls(**{name: arrays[name] for name in _SUMS}, coders=dict(coders))

    @property
    def worst(self) -> float:
        """The largest error of all bands."""
        return float(self.max_error.max())

    def to_dict(self) -> dict[str, Any]:
        """Return what `ModalityInfo.quality` holds.

        The peak of the PSNR is the range of the band's own valid values, not that of its dtype,
        which would add tens of decibels. None where nothing was lost (it would be infinite).
        """
        rmse = np.sqrt(self.squared / np.maximum(self.count, 1))
        peak = np.where(self.count > 0, self.high - self.low, 0.0)
        psnr = [
            20.0 * math.log10(p / e) if e > 0 and p > 0 else None
            for p, e in zip(peak.tolist(), rmse.tolist(), strict=True)
        ]
        return {
            "max_error": self.max_error.tolist(),
            "rmse": rmse.tolist(),
            "psnr_db": psnr,
            "peak": peak.tolist(),
            "bits_per_pixel": (self.bits / self.pixels).tolist(),
            "coders": dict(self.coders),
        }


def measured(
    array: np.ndarray, back: np.ndarray, valid: np.ndarray, bits: np.ndarray, coder: str
) -> Quality:
    """Compare a cube with what its member decodes to.

    Args:
        array: `[..., C, H, W]` as it was given.
        back: as it was decoded.
        valid: which elements are data, bool.
        bits: of the member, for each band.
        coder: which encoder made it.
    """
    bands = array.shape[-3]

    def rows(cube: np.ndarray) -> np.ndarray:
        return np.moveaxis(cube, -3, 0).reshape(bands, -1)

    right, decoded, counted = rows(array), rows(back), rows(valid)
    quality = Quality(
        max_error=np.zeros(bands),
        squared=np.zeros(bands),
        count=np.zeros(bands),
        low=np.full(bands, np.inf),
        high=np.full(bands, -np.inf),
        bits=bits.astype(np.float64),
        pixels=np.full(bands, float(right.shape[1])),
        coders={coder: 1},
    )
    for band in range(bands):
        values = right[band][counted[band]].astype(np.float64)
        if not values.size:
            continue
        error = np.abs(decoded[band][counted[band]].astype(np.float64) - values)
        quality.max_error[band] = error.max()
        quality.squared[band] = np.square(error).sum()
        quality.count[band] = values.size
        quality.low[band], quality.high[band] = values.min(), values.max()
    return quality
