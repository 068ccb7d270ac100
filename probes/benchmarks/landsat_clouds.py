"""Hand-drawn clouds on whole Landsat scenes: L7 Irish and L8 Biome of the US Geological Survey.

L7 Irish (doi 10.5066/F7XD0ZWC): 206 scenes of Landsat 7. L8 Biome (doi 10.5066/F7251GDH): 96 scenes
of Landsat 8. As torchgeo publishes them: one file of all bands on 30 m a scene beside its mask, in
folders by biome. Numbers are the product's own (0 is fill). Masks hold 64 (shadow), 128 (clear),
192 (thin cloud), 255 (cloud) and 0 (fill); older copies of L7 Irish write thin cloud as 191.

There is no published list: torchgeo draws scenes with its own generator, and scenes of one path and
row may be apart then. Here paths and rows are dealt out whole.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from fm.errors import FMError
from fm.sensors import sensor
from probes.benchmarks import spectra
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing
from probes.benchmarks.files import Files, MaskFiles, numbers, picture_size

CLASSES = ("Cloud Shadow", "Clear", "Thin Cloud", "Cloud")
TABLE = {0: -1, 64: 0, 128: 1, 191: 2, 192: 2, 255: 3}
IRISH = re.compile(r"L71(\d{3})(\d{3})_\2\d{8}\.TIF")
BIOME = re.compile(r"LC8(\d{3})(\d{3})\d{7}[A-Z]{3}\d{2}\.TIF")
HOLDOUT = Holdout("all", {"test": 0.2, "val": 0.2, "train": 0.6})
"""torchgeo's shares."""
ETM = Array(
    "l7l1_30",
    "landsat7-etm-l1",
    tuple(band.name for band in sensor("landsat7-etm-l1").bands),
    "uint8",
    None,
    30.0,
    nodata=0,
)
OLI = Array(
    "l8l1_30",
    "landsat8-oli-l1",
    tuple(band.name for band in sensor("landsat8-oli-l1").bands),
    "uint16",
    None,
    30.0,
    nodata=0,
)


def _irish_mask(path: Path) -> Path:
    """The mask beside a scene of L7 Irish: `L7_pPATH_rROW_newmask2015.TIF`."""
    found = sorted(path.parent.glob("L7_p*_r*_newmask2015.TIF"))
    if len(found) != 1:
        raise FMError(
            f"{path.parent}: {len(found)} files L7_p*_r*_newmask2015.TIF, expected one; take the "
            f"published files"
        )
    return found[0]


def _biome_mask(path: Path) -> Path:
    """The mask beside a scene of L8 Biome: `SCENE_fixedmask.TIF`."""
    mask = path.with_name(f"{path.stem}_fixedmask.TIF")
    if not mask.is_file():
        raise FMError(f"{mask}: no such file; the download is incomplete")
    return mask


def scan(folder: Path, irish: bool) -> Listing:
    """List the scenes in `BIOME/SCENE/`."""
    pattern, mask_of = (IRISH, _irish_mask) if irish else (BIOME, _biome_mask)
    found = {
        path: match
        for path in sorted(folder.glob("*/*/*.TIF"))
        if (match := pattern.fullmatch(path.name))
    }
    if not found:
        example = "L71226098_09820011112.TIF" if irish else "LC80420082013220LGN00.TIF"
        raise FMError(f"{folder}: no BIOME/SCENE/{example} or the like; take the published layout")
    scenes = list(found)
    masks = [mask_of(path) for path in scenes]
    sizes = [picture_size(path) for path in scenes]
    for path, mask, size in zip(scenes, masks, sizes, strict=True):
        other = picture_size(mask)
        if other != size:
            raise FMError(
                f"{mask}: {other[0]} x {other[1]}, {path.name} is {size[0]} x {size[1]}; take the "
                f"published files"
            )
    return Listing(
        ids=[str(path.relative_to(folder)) for path in scenes],
        split=["all"] * len(scenes),
        source=Files(lambda i, array, date: scenes[i]),
        mask=MaskFiles(lambda i: masks[i], numbers(TABLE)),
        groups=[f"{match[1]}/{match[2]}" for match in found.values()],
        sizes=sizes,
        lonlat=lambda i: _place(scenes[i]),
    )


def _place(path: Path) -> tuple[float, float]:
    from shards.sources.raster_io import header

    return header(path).lonlat


def not_scaled(values: spectra.Values, where: str) -> None:
    """Refuse numbers of which none is above 4,096.

    OLI's 12 bits are stretched over 16; of a scene brought to 8 bits none is as large.
    """
    top = max(float(np.max(one)) for one in values.values())
    if top <= 4096:
        raise FMError(f"{where}: no number is above {top:.0f}; take the product's own numbers")


DECLARATIONS = (
    Declaration(
        name="l7irish",
        version=1,
        help="clouds and their shadows, 9 bands of Landsat 7, whole scenes",
        task="segmentation",
        primary="miou",
        classes=CLASSES,
        arrays=(ETM,),
        scan=partial(scan, irish=True),
        published={"all": 206},
        split="whole paths and rows in train, val and test",
        layout="BIOME/pPATH_rROW/L71PPPRRR_RRRYYYYMMDD.TIF and L7_pPATH_rROW_newmask2015.TIF",
        paper="doi 10.5066/F7XD0ZWC",
        witness="L7Irish",
        leaks="thin cloud and shadow are drawn by eye",
        holdout=HOLDOUT,
        crop=256,
        unit="scene",
    ),
    Declaration(
        name="l8biome",
        version=1,
        help="clouds and their shadows, 11 bands of Landsat 8, whole scenes",
        task="segmentation",
        primary="miou",
        classes=CLASSES,
        arrays=(OLI,),
        scan=partial(scan, irish=False),
        published={"all": 96},
        split="whole paths and rows in train, val and test",
        layout="BIOME/SCENE/SCENE.TIF and SCENE_fixedmask.TIF",
        paper="doi 10.5066/F7251GDH",
        witness="L8Biome",
        leaks="thin cloud and shadow are drawn by eye",
        holdout=HOLDOUT,
        crop=256,
        unit="scene",
        checks=(not_scaled,),
    ),
)
