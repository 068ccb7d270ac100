"""The authors' code, brought in from a folder, and what a comparison tells."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from fm import foreign
from fm.errors import FMError
from fm.models import Backbone
from fm.normalize import Normalisation
from fm.sensors import Band

TOLERANCE = 1e-5
"""Largest difference of two outputs, in their own units: float32, sums in another order."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: was compared, in words.
        difference: the largest, in the outputs' units.
        spread: standard deviation of the authors' outputs, which says what the units are.
    """

    what: str
    difference: float
    spread: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within `TOLERANCE`; NaN is not."""
        return self.difference <= TOLERANCE

    @classmethod
    def of(cls, what: str, ours: Tensor, theirs: Tensor) -> "Row":
        """Compare two outputs.

        Raises:
            FMError: they have other shapes.
        """
        if ours.shape != theirs.shape:
            raise FMError(f"{what}: {list(ours.shape)} here, {list(theirs.shape)} there")
        return cls(what, float((ours - theirs).abs().max()), float(theirs.std()))


Compare = Callable[[str, Path, Path], Iterator[Row]]
"""A family's comparison: of the catalogue's name, the authors' code, their weights."""


PLACES = ((13.4, 52.5), (-70.7, -33.4))
"""(lon, lat) of the two samples."""


def as_released(
    name: str, weights: Path, bands: Mapping[str, Sequence[Band]]
) -> tuple[Backbone, Tensor]:
    """Return our model of a file, which takes values as they are, and `PLACES` `[2, 2]`."""
    ours, _ = foreign.load(
        weights,
        known=name,
        bands=bands,
        normalisation={m: Normalisation.identity(len(b)) for m, b in bands.items()},
        scaling=dict.fromkeys(bands, (1.0, 0.0)),
    )
    return ours, torch.tensor(PLACES, dtype=torch.float64)


def module(code: Path, name: str) -> ModuleType:
    """Import a module or package that lies in a folder or a wheel.

    Raises:
        FMError: it does not lie there, or does not import.
    """
    if not code.exists():
        raise FMError(f"{code}: no such folder; give the authors' repository or package as --code")
    sys.path.insert(0, str(code))
    try:
        found = importlib.import_module(name)
    except ImportError as error:
        raise FMError(f"{code}: {name} does not import from it ({error})") from None
    finally:
        sys.path.remove(str(code))
    if not str(found.__file__).startswith(str(code)):
        raise FMError(f"{name} was imported from {found.__file__}; {code} has none")
    return found


def beside(modality: str, units: Mapping[str, str]) -> dict[str, tuple[Band, ...]]:
    """Return bands that no sensor has, on 10 m pixels: name to unit."""
    made = (Band(n, None, None, 10.0, unit, modality=modality) for n, unit in units.items())
    return {modality: tuple(made)}


def drawn(bands: Mapping[str, tuple[Band, ...]], *sizes: int, seed: int = 0) -> dict[str, Tensor]:
    """Draw normal numbers for a series: `[B, T, C, H, W]` of sizes B, T, H, W.

    Sentinel-2's are positive, so that its vegetation index has no pole.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, images, height, width = sizes
    made = {
        m: torch.randn(batch, images, len(items), height, width, generator=generator)
        for m, items in bands.items()
    }
    return {m: x.abs() * 0.2 + 0.01 if m.startswith("s2") else x for m, x in made.items()}


def index(red: Tensor, infrared: Tensor) -> Tensor:
    """The vegetation index, as both families' authors compute it from reflectance."""
    return (infrared - red) / (infrared + red)
