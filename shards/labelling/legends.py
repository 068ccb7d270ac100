"""What the numbers of land-cover maps mean, joined to the nine classes of Dynamic World.

- *Dynamic World* (Brown et al., Scientific Data 9, 251, 2022): band `label`, 0 to 8.
- *ESA WorldCover* v100 and v200 (product user manuals, table of classes): 11 codes. The join is
  ours: wetlands and mangroves are Dynamic World's flooded vegetation, whose definition names both;
  moss and lichen (100) have no class there and count as no data.
- *CORINE* level 3: the join is that of CrisisLandMark (arXiv 2507.10403) to Dynamic World's words;
  burnt areas (334) are a word of its own there, have no class here, and count as no data.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError, UsageError, suggest
from shards.sources.corine import CORINE, NO_CLASS

DYNAMIC_WORLD = (
    "water",
    "trees",
    "grass",
    "flooded vegetation",
    "crops",
    "shrub and scrub",
    "built",
    "bare",
    "snow and ice",
)
# fmt: off
WORLDCOVER: dict[int, str | None] = {
    10: "trees", 20: "shrub and scrub", 30: "grass", 40: "crops", 50: "built", 60: "bare",
    70: "snow and ice", 80: "water", 90: "flooded vegetation", 95: "flooded vegetation",
    100: None,
}
"""Tree cover, shrubland, grassland, cropland, built-up, bare or sparse vegetation, snow and ice,
permanent water, herbaceous wetland, mangroves, moss and lichen."""
CORINE_CODES: dict[str, tuple[int, ...]] = {
    "built": (111, 112, 121, 122, 123, 124),
    "bare": (131, 132, 133, 331, 332, 333, 422, 423),
    "grass": (141, 142, 231, 321),
    "crops": (211, 212, 221, 222, 223, 241, 242, 243),
    "flooded vegetation": (213, 411, 412, 421),
    "trees": (244, 311, 312, 313),
    "shrub and scrub": (322, 323, 324),
    "snow and ice": (335,),
    "water": (511, 512, 521, 522, 523),
}
# fmt: on
"""Level-3 codes of each class."""
GRID_NODATA = (48, -128)
"""Numbers of CORINE's GeoTIFFs, which count the 44 classes from 1, that are no class."""


@dataclass(frozen=True)
class Legend:
    """What the numbers of a map mean.

    Attributes:
        name: of the legend.
        classes: that labels are made of.
        codes: number in the map to place in `classes`; None for numbers that are no class.
    """

    name: str
    classes: tuple[str, ...]
    codes: Mapping[int, int | None]

    def table(self, numbers: np.ndarray, where: str) -> np.ndarray:
        """Return the class of each number, -1 for none: int64 of the same shape.

        Raises:
            FMError: a number that the legend does not know.
        """
        found, inverse = np.unique(numbers, return_inverse=True)
        unknown = [int(n) for n in found if int(n) not in self.codes]
        if unknown:
            raise FMError(
                f"{where}: {unknown[0]} is no number of the legend {self.name} (it has "
                f"{_listed(self.codes)}); name another --legend"
            )
        classes = [self.codes[int(n)] for n in found]
        table = np.array([-1 if c is None else c for c in classes], np.int64)
        return table[inverse].reshape(numbers.shape)


def _listed(codes: Mapping[int, Any]) -> str:
    shown = [str(code) for code in list(codes)[:12]]
    return ", ".join(shown) + (", ..." if len(codes) > len(shown) else "")


def _dynamic_world(codes: Mapping[int, str | None]) -> dict[int, int | None]:
    return {n: None if word is None else DYNAMIC_WORLD.index(word) for n, word in codes.items()}


def _corine() -> dict[int, int | None]:
    of = {code: word for word, codes in CORINE_CODES.items() for code in codes}
    return dict.fromkeys(NO_CLASS) | _dynamic_world({code: of.get(code) for code, _, _ in CORINE})


def _corine_grid() -> dict[int, int | None]:
    codes = _corine()
    places = {n: codes[code] for n, (code, _, _) in enumerate(CORINE, start=1)}
    return dict.fromkeys(GRID_NODATA) | places


LEGENDS: dict[str, Legend] = {
    legend.name: legend
    for legend in (
        Legend("dynamic-world", DYNAMIC_WORLD, {n: n for n in range(len(DYNAMIC_WORLD))}),
        Legend("worldcover", DYNAMIC_WORLD, {0: None, **_dynamic_world(WORLDCOVER)}),
        Legend("corine", DYNAMIC_WORLD, _corine()),
        Legend("corine-grid", DYNAMIC_WORLD, _corine_grid()),
    )
}
"""By name; all end in the nine classes of Dynamic World."""


def find_legend(name: str) -> Legend:
    """Return a legend by its name, or read it from a JSON file.

    A file holds `{"classes": ["forest", ...], "codes": {"5": "forest", "9": null, ...}}`: a number
    of the map to a class, or to null where it is no class.

    Raises:
        FMError: the file is not such a legend.
        UsageError: no such legend or file.
    """
    if name in LEGENDS:
        return LEGENDS[name]
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"--legend {name}: no such legend or file; {suggest(name, LEGENDS)}")
    try:
        found = json.loads(path.read_text())
        classes = tuple(str(word) for word in found["classes"])
        if not classes or len(set(classes)) < len(classes):
            raise ValueError("classes are empty, or one is there twice")
        codes = {
            int(code): None if word is None else classes.index(word)
            for code, word in found["codes"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FMError(
            f'{path}: no legend ({error}); write {{"classes": ["forest"], "codes": {{"5": '
            f'"forest", "9": null}}}}'
        ) from None
    return Legend(path.name, classes, codes)
