"""SSL4EO-L's benchmark (Stewart et al., NeurIPS 2023): land cover and crops from Landsat.

25,000 patches of 264 px of 30 m over the United States a sensor and level, each with a map of the
Cropland Data Layer and of the National Land Cover Database of its year. Pixels are 8-bit: see
`fm.sensors.landsat`. The classes are those of the paper's experiments (its configurations beside
torchgeo): 17 of the CDL, 13 of the NLCD; all others do not count.

The lists are not in the release: torchgeo draws them from the sorted names with NumPy's generator
of seed 0, 70, 15 and 15 %, and so does this, name by name. A test opens torchgeo's class beside it.
"""

from functools import partial
from pathlib import Path

import numpy as np

from fm.errors import FMError
from fm.sensors import sensor
from probes.benchmarks import legends, signatures, spectra
from probes.benchmarks.coded_maps import CodedMaps
from probes.benchmarks.declare import Array, Check, Declaration, Listing
from probes.benchmarks.files import Files

SIDE = 264
SHARES = (0.7, 0.15, 0.15)
# fmt: off
CODES = {
    "cdl": (1, 5, 24, 36, 37, 61, 111, 121, 122, 131, 141, 142, 143, 152, 176, 190, 195),
    "nlcd": (11, 21, 22, 31, 41, 42, 43, 52, 71, 81, 82, 90, 95),
}
# fmt: on
LEGENDS = {"cdl": legends.CDL, "nlcd": legends.NLCD}
VARIANTS = {
    "tm-toa": ("landsat5-tm-toa8", "Landsat 5, 7 bands at the top of the atmosphere", 2011),
    "etm-toa": ("landsat7-etm-toa8", "Landsat 7, 9 bands at the top of the atmosphere", 2019),
    "etm-sr": ("landsat7-etm-sr8", "Landsat 7, 6 bands of surface reflectance", 2019),
    "oli-tirs-toa": ("landsat8-oli-toa8", "Landsat 8, 11 bands at the top of the atmosphere", 2019),
    "oli-sr": ("landsat8-oli-sr8", "Landsat 8, 7 bands of surface reflectance", 2019),
}
CHECKS: dict[str, tuple[Check, ...]] = {
    "tm-toa": (spectra.rises("B3", "B4", 1.1), spectra.rises("B7", "B6", 1.2)),
    "etm-toa": (spectra.rises("B3", "B4", 1.1), spectra.rises("B7", "B6_VCID_2", 1.2)),
    "etm-sr": (spectra.rises("SR_B3", "SR_B4", 1.1),),
    "oli-tirs-toa": (spectra.rises("B4", "B5", 1.1), spectra.rises("B9", "B10", 3.0)),
    "oli-sr": (spectra.rises("SR_B4", "SR_B5", 1.1),),
}
"""Land is brighter in the near infrared than in the red, and a thermal band (250 K is 7, 290 K is
152) brighter than the short-wave band beside it. Order of the files, so a shift shows."""


def draw(count: int) -> list[str]:
    """Split of each of `count` sorted names, as torchgeo's class draws it."""
    sizes = (np.array(SHARES) * count).astype(int)
    order = np.random.RandomState(0).permutation(count)
    split = np.full(count, "test", dtype="<U5")
    split[order[: sizes[0]]] = "train"
    split[order[sizes[0] : sizes[0] + sizes[1]]] = "val"
    return [str(part) for part in split]


def scan(folder: Path, variant: str, product: str) -> Listing:
    """List the patches of a sensor and level with the maps of a product."""
    images = folder / f"ssl4eo_l_{variant.replace('-', '_')}_benchmark"
    masks = folder / f"ssl4eo_l_{variant.partition('-')[0]}_{product}"
    file = f"{product}_{VARIANTS[variant][2]}.tif"
    for home in (images, masks):
        if not home.is_dir():
            raise FMError(f"{home}: no such folder; take the published layout")
    names = sorted(path.parent.relative_to(images) for path in images.glob("*/*/all_bands.tif"))
    missing = [name for name in names if not (masks / name / file).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FMError(f"{masks}: no {missing[0]}/{file}{more}; the download is incomplete")
    if not names:
        raise FMError(f"{images}: no ID/SCENE/all_bands.tif; take the published layout")
    mask = CodedMaps(lambda i: masks / names[i] / file, CODES[product], LEGENDS[product])
    mask.look(len(names), masks)
    return Listing(
        ids=[str(name) for name in names],
        split=draw(len(names)),
        source=Files(lambda i, array, date: images / names[i] / "all_bands.tif"),
        mask=mask,
        groups=[name.parts[0] for name in names],
        lonlat=lambda i: _place(images / names[i] / "all_bands.tif"),
    )


def _place(path: Path) -> tuple[float, float]:
    from shards.sources.raster_io import header

    return header(path).lonlat


def _declare(variant: str, product: str) -> Declaration:
    table, words, year = VARIANTS[variant]
    bands = sensor(table).bands
    what = {"cdl": "17 crops and covers", "nlcd": "13 land covers"}[product]
    return Declaration(
        name=f"ssl4eo-l-{variant}-{product}",
        version=1,
        help=f"{what} of the USA in {year}, {words}",
        task="segmentation",
        primary="miou",
        classes=tuple(LEGENDS[product][code] for code in CODES[product]),
        arrays=(
            Array(
                bands[0].modality,
                table,
                tuple(band.name for band in bands),
                "uint8",
                (SIDE, SIDE),
                30.0,
            ),
        ),
        scan=partial(scan, variant=variant, product=product),
        published={"train": 17500, "val": 3750, "test": 3750},
        split="torchgeo's, patch by patch",
        layout=(
            f"ssl4eo_l_{variant.replace('-', '_')}_benchmark/ID/SCENE/all_bands.tif and "
            f"ssl4eo_l_{variant.partition('-')[0]}_{product}/ID/SCENE/{product}_{year}.tif"
        ),
        paper="Stewart et al., NeurIPS 2023 (SSL4EO-L)",
        witness="SSL4EOLBenchmark",
        leaks="patches do not overlap, but neighbours are in train and test",
        checks=(signatures.eight_bits, *CHECKS[variant]),
    )


DECLARATIONS = tuple(_declare(variant, product) for variant in VARIANTS for product in CODES)
