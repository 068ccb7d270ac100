"""The normalisation of physical values, band by band, made from their statistics.

Everything here is in physical units (reflectance fraction, dB): stored integers become physical
by scale and offset first, so the same numbers serve every processing baseline. The module imports
no torch; `Normalisation` takes torch tensors as they come.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from fm.errors import FMError, UsageError, suggest

Kind = Literal["zscore", "clip_sigma", "divide", "percentile"]
KINDS: tuple[str, ...] = get_args(Kind)
CLIPPED = ("clip_sigma", "percentile")
"""Kinds whose result is clipped to [0, 1]."""

STORED = (
    "got stored numbers ({}); apply the dataset's scale and offset first: statistics and "
    "normalisation work on physical floating values"
)
"""What is said of integers, where `{}` is their type."""

_NEEDS = {
    "zscore": ("mean", "std"),
    "clip_sigma": ("mean", "std"),
    "divide": ("min", "max"),
    "percentile": ("p2", "p98"),
}


@dataclass(frozen=True)
class Normalisation:
    """`(x - shift) / scale` band by band; `clip_sigma` and `percentile` then clip to [0, 1].

    | kind | shift | scale |
    | --- | --- | --- |
    | `zscore` | mean | std |
    | `clip_sigma` | mean - 2 std | 4 std |
    | `divide` | 0 | divisor |
    | `percentile` | p2 | p98 - p2 |

    Attributes:
        kind: which of the four.
        shift: one number a band, physical units.
        scale: one positive number a band, physical units.
    """

    kind: Kind
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"there is no normalisation {self.kind!r}; {suggest(str(self.kind), KINDS)}"
            )
        if len(self.shift) != len(self.scale):
            raise FMError(
                f"{self.kind}: {len(self.shift)} shifts but {len(self.scale)} scales; "
                "give one of each a band"
            )
        if not self.shift:
            raise FMError(f"{self.kind}: no bands; give one shift and one scale a band")
        for index, (shift, scale) in enumerate(zip(self.shift, self.scale, strict=True)):
            _check(self.kind, band_label((), index), shift, scale)

    @classmethod
    def fit(
        cls, kind: Kind, statistics: Mapping[str, Sequence[float]], bands: Iterable[Any] = ()
    ) -> Self:
        """Make a normalisation from per-band statistics.

        Args:
            kind: `zscore` and `clip_sigma` need mean and std, `percentile` p2 and p98. `divide`
                divides by the largest magnitude (needs min and max), which keeps the sign and puts
                values into [-1, 1].
            statistics: lists of one number a band, as `Statistics.to_dict` gives them.
            bands: band names (or `Band`s) for error messages and to check the count.

        Returns:
            the normalisation.

        Raises:
            UsageError: an unknown kind.
            FMError: statistics are missing, of unequal length, not finite, or a band is constant.
        """
        if kind not in _NEEDS:
            raise UsageError(f"there is no normalisation {kind!r}; {suggest(str(kind), KINDS)}")
        names = band_names(bands)
        columns = []
        for key in _NEEDS[kind]:
            if key not in statistics:
                raise FMError(f"{kind} needs the statistic {key!r}; compute it for the dataset")
            columns.append([float(value) for value in statistics[key]])
        first, second = columns
        for key, column in zip(_NEEDS[kind], columns, strict=True):
            expected = len(names) or len(first)
            if len(column) != expected:
                missing = band_label(names, min(len(column), expected))
                raise FMError(
                    f"{kind}: {len(column)} values of {key!r} for {expected} bands "
                    f"(the first that does not match: {missing}); give one a band"
                )
        shift: list[float] = []
        scale: list[float] = []
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            if kind == "zscore":
                pair = a, b
            elif kind == "clip_sigma":
                pair = a - 2 * b, 4 * b
            elif kind == "percentile":
                pair = a, b - a
            else:
                pair = 0.0, max(abs(a), abs(b))
            _check(kind, band_label(names, index), *pair)
            shift.append(pair[0])
            scale.append(pair[1])
        return cls(kind, tuple(shift), tuple(scale))

    @classmethod
    def identity(cls, count: int) -> Self:
        """Leave values as they are: `divide` by 1 for `count` bands."""
        return cls("divide", (0.0,) * count, (1.0,) * count)

    def __len__(self) -> int:
        return len(self.shift)

    def __call__(self, x: Any, band_axis: int = -3) -> Any:
        """Normalise.

        Args:
            x: numpy array or torch tensor of physical floating values, any shape.
            band_axis: which axis counts the bands.

        Returns:
            float32 of the same shape, kind of array and device. Invalid values (NaN) stay NaN.

        Raises:
            FMError: integers (stored numbers; apply scale and offset first), or another number of
                bands along the axis.
        """
        if not -x.ndim <= band_axis < x.ndim or x.shape[band_axis] != len(self):
            raise FMError(
                f"normalisation of {len(self)} bands got shape {list(x.shape)} with bands on axis "
                f"{band_axis}; select the model's bands and name their axis"
            )
        shape = [1] * x.ndim
        shape[band_axis] = len(self)
        torch = sys.modules.get("torch")  # a tensor cannot exist unless torch is loaded
        if torch is not None and isinstance(x, torch.Tensor):
            if not x.is_floating_point():
                raise FMError(STORED.format(x.dtype))
            made = {"dtype": torch.float32, "device": x.device}
            shift = torch.tensor(self.shift, **made).view(shape)
            scale = torch.tensor(self.scale, **made).view(shape)
            result = (x.to(torch.float32) - shift) / scale
            return result.clamp(0.0, 1.0) if self.kind in CLIPPED else result
        x = np.asarray(x)
        if x.dtype.kind != "f":
            raise FMError(STORED.format(x.dtype))
        numbers = np.array([self.shift, self.scale], dtype=np.float32)
        shifted = x.astype(np.float32) - numbers[0].reshape(shape)
        normal = shifted / numbers[1].reshape(shape)
        return normal.clip(0.0, 1.0) if self.kind in CLIPPED else normal

    def select(self, indices: Iterable[int]) -> Self:
        """Keep some bands.

        Args:
            indices: positions from 0, in the new order.

        Returns:
            a normalisation of those bands.

        Raises:
            FMError: a position that is not there.
        """
        chosen = list(indices)
        if wrong := [i for i in chosen if not 0 <= i < len(self)]:
            raise FMError(f"there is no band {wrong[0]}; positions run from 0 to {len(self) - 1}")
        return type(self)(
            self.kind, tuple(self.shift[i] for i in chosen), tuple(self.scale[i] for i in chosen)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": self.kind, "shift": list(self.shift), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            FMError: a key is missing or unknown, or a number is not usable.
        """
        if set(values) != {"kind", "shift", "scale"}:
            raise FMError(f"a normalisation has the keys kind, shift, scale; got {sorted(values)}")
        try:
            shift, scale = (tuple(float(v) for v in values[key]) for key in ("shift", "scale"))
        except (TypeError, ValueError):
            raise FMError("normalisation: shift and scale must be lists of numbers") from None
        return cls(values["kind"], shift, scale)


def band_names(bands: Iterable[Any]) -> tuple[str, ...]:
    """Return the names of bands, given as names or `Band`s.

    Raises:
        UsageError: one string.
    """
    if isinstance(bands, str):
        raise UsageError(f"bands must be a list of names, got the string {bands!r}")
    return tuple(band if isinstance(band, str) else band.name for band in bands)


def band_label(names: Sequence[str], index: int) -> str:
    """Name a band in an error: by its name, or by its place where there are no names."""
    return f"band {names[index]!r}" if index < len(names) else f"band {index} (counted from 0)"


def _check(kind: str, band: str, shift: float, scale: float) -> None:
    if not (math.isfinite(shift) and math.isfinite(scale)):
        raise FMError(f"{kind}: the statistics of {band} are not finite; compute them again")
    if scale <= 0:
        raise FMError(f"{kind}: {band} does not vary (its spread is {scale:g}); leave the band out")
