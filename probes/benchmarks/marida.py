"""MARIDA (Kikaki et al., doi 10.1371/journal.pone.0262247): debris and other things on the sea.

1,381 patches of 256 px of Sentinel-2, 11 bands (no B09 and B10) on one grid of 10 m, Rayleigh-
corrected reflectance in floating numbers (ACOLITE). That lies between Level-1C and Level-2A; it is
given as Level-2A, whose unit it has. Few pixels are drawn: 0 is none and does not count. The
authors' evaluation joins waves, cloud shadows, wakes and mixed water (12 to 15) to marine water,
which leaves 11 classes.

GFM-Bench's MARIDA (arXiv 2503.12843) is these patches cut into nine of 96 px that overlap, with val
and test joined to its test list; its scores are not comparable.
"""

from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures, spectra
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import Files, MaskFiles, numbers, read_lines
from shards.sources.raster_io import header

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES = (
    *("Marine Debris", "Dense Sargassum", "Sparse Sargassum", "Natural Organic Material"),
    *("Ship", "Clouds", "Marine Water", "Sediment-Laden Water", "Foam", "Turbid Water"),
    "Shallow Water",
)
WATER = CLASSES.index("Marine Water")
TABLE = {0: -1} | {n: n - 1 for n in range(1, 12)} | dict.fromkeys(range(12, 16), WATER)


class _Floats(Files):
    """Floating numbers of any width as float32: no source tells the files' width."""

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        stored = super().image(place, array, date, window)
        return stored.astype(np.float32) if stored.dtype.kind == "f" else stored


def scan(folder: Path) -> Listing:
    """List `splits/{train,val,test}_X.txt`: date, tile and number of a patch a line."""
    ids: list[str] = []
    split: list[str] = []
    for part in ("train", "val", "test"):
        path = folder / "splits" / f"{part}_X.txt"
        for line in read_lines(path):
            if line.count("_") < 2:
                raise FMError(f"{path}: {line!r} is no patch, such as 1-12-19_48MYU_0")
            ids.append(line)
            split.append(part)
    scenes = [name.rpartition("_")[0] for name in ids]

    def path_of(i: int, kind: str = "") -> Path:
        return folder / "patches" / f"S2_{scenes[i]}" / f"S2_{ids[i]}{kind}.tif"

    return Listing(
        ids=ids,
        split=split,
        source=_Floats(lambda i, array, date: path_of(i)),
        mask=MaskFiles(lambda i: path_of(i, "_cl"), numbers(TABLE)),
        groups=scenes,
        lonlat=lambda i: header(path_of(i)).lonlat,
    )


DECLARATIONS = (
    Declaration(
        name="marida",
        version=1,
        help="debris, sargassum, ships and waters of the sea, 11 bands of Sentinel-2, 256 px",
        task="segmentation",
        primary="miou",
        classes=CLASSES,
        arrays=(Array("s2l2a_10", "sentinel2-l2a", BANDS, "float32", (256, 256), 10.0),),
        scan=scan,
        published={"train": 694, "val": 328, "test": 359},
        split="MARIDA's lists",
        layout="patches/S2_DATE_TILE/S2_DATE_TILE_N.tif, S2_DATE_TILE_N_cl.tif and "
        "splits/{train,val,test}_X.txt",
        paper="Kikaki et al., doi 10.1371/journal.pone.0262247",
        witness="",
        leaks="Rayleigh-corrected reflectance is given as Level-2A; patches of one scene may be in "
        "train and test",
        unit="scene",
        checks=(
            signatures.reflectance,
            signatures.b8a_beside_b08,
            spectra.rises("B12", "B02", 1.3),
        ),
        verified="fixtures only (no reader but ours)",
    ),
)
