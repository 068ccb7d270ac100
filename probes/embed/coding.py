"""How embeddings are stored: float32 as they are, float16 rounded, int8 with a scale a feature."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError

DTYPES = ("float32", "float16", "int8")
MISSING = -128
"""Of int8; floats have NaN."""
_LEVELS = 127
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Coding:
    """Numbers to stored numbers.

    Attributes:
        dtype: one of `DTYPES`.
        scale: `[D]`; number = stored * scale + offset. None where numbers are stored as they are.
        offset: `[D]`.
    """

    dtype: str
    scale: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, dtype: str, parts: Iterable[np.ndarray]) -> "Coding":
        """Look at all numbers for what a type needs to know of them.

        Args:
            dtype: one of `DTYPES`.
            parts: arrays `[..., D]`; NaN is no number.

        Raises:
            FMError: float16 cannot hold them, or none is finite.
        """
        if dtype == "float32":
            return cls(dtype)
        low, high = np.float64(np.inf), np.float64(-np.inf)
        for part in parts:
            known = part.reshape(-1, part.shape[-1])
            known = known[np.isfinite(known).all(axis=1)]
            if len(known):
                low = np.minimum(low, known.min(axis=0))
                high = np.maximum(high, known.max(axis=0))
        if not np.all(low <= high):
            raise FMError("there is no finite embedding to write")
        if dtype == "float16":
            largest = float(np.maximum(-low, high).max())
            if largest > _LARGEST:
                raise FMError(
                    f"embeddings reach {largest:.3g} and float16 holds {_LARGEST:.0f}; give "
                    f"--dtype float32"
                )
            return cls(dtype)
        spread = np.asarray(high - low, np.float64)
        scale = np.where(spread > 0, spread, 1.0) / (2 * _LEVELS)
        return cls(dtype, scale, np.asarray((low + high) / 2, np.float64))

    @property
    def missing(self) -> float:
        """The stored number where there is none."""
        return MISSING if self.dtype == "int8" else float("nan")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Code `[..., D]` numbers."""
        if self.scale is None or self.offset is None:
            return values.astype(self.dtype)
        levels = np.rint((values - self.offset) / self.scale)
        stored = np.clip(levels, -_LEVELS, _LEVELS)
        return np.where(np.isnan(stored), MISSING, stored).astype(np.int8)
