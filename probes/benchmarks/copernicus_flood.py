"""Copernicus-Bench's Flood-S1 (Wang et al., arXiv 2503.11849): floods between two dates.

5,000 tiles of 224 px of Kuro Siwo (Bountos et al., arXiv 2311.12056), each with VV and VH before
(`SL1`) and after (`MS1`) a flood; an earlier date (`SL2`) is not used, as in the authors'
benchmark. Kuro Siwo's processing graph calibrates to sigma nought, filters speckle, corrects for
terrain and leaves the values linear (`outputImageScaleInDb` false in its `grd_preprocessing.xml`).
Models take decibels, so the reader gives 10 log10 of the stored numbers; where they are 0 or no
number nothing was measured. The authors clip them to 0..0.15 instead and put 0.15 for no number.

The map holds 0 no water, 1 permanent water, 2 flood; 3, outside the annotated area, does not count.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import Files, MaskFiles, names_in, numbers
from shards.sources.raster_io import header

CLASSES = ("no water", "permanent water", "flood")
DATES = ("SL1", "MS1")
BANDS = ("VV", "VH")


def decibels(linear: np.ndarray, where: str) -> np.ndarray:
    """Bring linear backscatter to dB, float32; NaN where it is 0 or no number.

    Raises:
        FMError: more than one value in a hundred is below 0, so it is not linear.
    """
    known = np.isfinite(linear)
    below = known & (linear < 0)
    if below.sum() > 0.01 * max(int(known.sum()), 1):
        raise FMError(
            f"{where}: backscatter below 0; the published files are linear, these look like dB"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        made = 10 * np.log10(linear.astype(np.float64))
    return np.where(known & (linear > 0), made, np.nan).astype(np.float32)


class _Tiles(Files):
    """Linear backscatter, given in dB; any other type is given as it is, to be refused."""

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        stored = super().image(place, array, date, window)
        found = self.paths(place, array, date)
        assert not isinstance(found, Path)
        return decibels(stored, str(found[0])) if stored.dtype == np.float32 else stored


def vh_is_darker(values: signatures.Values, where: str) -> None:
    """Refuse backscatter of which VH is not darker than VV, as it is over land and water."""
    gap = float(values["VV"].mean() - values["VH"].mean())
    if gap <= 1:
        raise FMError(
            f"{where}: VV is {gap:.1f} dB above VH, expected 1 or more; they are swapped or have "
            f"another unit"
        )


def scan(folder: Path) -> Listing:
    """List `grid_dict_{train,val,test}.json`: a name, then the tile's folder in `data`."""
    ids: list[str] = []
    split: list[str] = []
    homes: list[str] = []
    for part in ("train", "val", "test"):
        path = folder / f"grid_dict_{part}.json"
        tiles = _read(path)
        for key in sorted(tiles):
            home = tiles[key].get("path") if isinstance(tiles[key], Mapping) else None
            if not isinstance(home, str) or ".." in home or home.startswith("/"):
                raise FMError(
                    f"{path}: {key!r} names no folder of its tile; take the published file"
                )
            ids.append(key)
            split.append(part)
            homes.append(home)

    def named(i: int, start: str) -> Path:
        root = folder / "data" / homes[i]
        found = [name for name in names_in(root, ".tif") if name.startswith(f"{start}_")]
        if len(found) != 1:
            raise FMError(f"{root}: {len(found)} files {start}_*.tif, expected one")
        return root / found[0]

    floods = [home.partition("/")[0] for home in homes]
    seen = {flood for flood, part in zip(floods, split, strict=True) if part == "train"}
    tests = [flood for flood, part in zip(floods, split, strict=True) if part == "test"]
    shared = sum(flood in seen for flood in tests)
    return Listing(
        ids=ids,
        split=split,
        source=_Tiles(lambda i, array, date: [named(i, f"{DATES[date]}_I{b}") for b in BANDS]),
        mask=MaskFiles(lambda i: named(i, "MK0_MLU"), numbers({0: 0, 1: 1, 2: 2, 3: -1})),
        groups=floods,
        lonlat=lambda i: header(named(i, "MS1_IVV")).lonlat,
        notes=(f"{shared} of {len(tests)} test tiles are of a flood that train has tiles of",),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise FMError(
            f"{path}: this list cannot be read ({reason}); take the published one"
        ) from None
    if not isinstance(found, dict) or not found:
        raise FMError(f"{path}: no tile; take the published list")
    return found


DECLARATIONS = (
    Declaration(
        name="copernicus-flood-s1",
        version=1,
        help="floods and permanent water, Sentinel-1 before and after, 224 px",
        task="change",
        primary="miou",
        classes=CLASSES,
        arrays=(Array("s1grd_10", "sentinel1-grd", BANDS, "float32", (224, 224), 10.0),),
        scan=scan,
        published={"train": 3000, "val": 1000, "test": 1000},
        split="Copernicus-Bench's",
        layout="data/EVENT/AREA/TILE/{SL1,MS1}_I{VV,VH}_*.tif, MK0_MLU_*.tif there and "
        "grid_dict_{train,val,test}.json in flood_s1",
        paper="Wang et al., arXiv 2503.11849; Bountos et al., arXiv 2311.12056",
        witness="CopernicusBenchFloodS1",
        leaks="tiles of one flood may be in train and test, the notes say how many; linear "
        "backscatter is brought to dB here",
        unit="scene",
        checks=(signatures.decibels, vh_is_darker),
    ),
)
