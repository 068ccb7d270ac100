"""EuroSAT (Helber et al., arXiv 1709.00029) and its relatives: ten land uses, 27,000 patches.

The multispectral files hold 13 bands of Sentinel-2 Level-1C on one grid of 64 pixels of about
10 m; the authors brought the 20 and 60 m bands to it. So all bands are the modality `s2l1c_10`:
there are no native coarser grids in these files, and averaging 2x2 pixels would not bring them
back. **B8A is the last band of the files**, which they do not say; `shards.sources.eurosat` has
the evidence. The folder is checked for it each time it is opened.

EuroSAT-SAR (Wang et al., doi 10.1109/JSTARS.2024.3493237) has Sentinel-1 patches under the same
names, read from the folder of Copernicus-Bench.
"""

from functools import partial
from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing
from probes.benchmarks.files import Files, all_there, names_in, read_lines
from shards.sources.raster_io import header

CLASSES = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)
FILE_ORDER = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B09", "B10", "B11", "B12", "B8A"),
)
TIF = "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
S2 = Array("s2l1c_10", "sentinel2-l1c", FILE_ORDER, "uint16", (64, 64), 10.0)
RGB = Array(
    "s2l1c_10", "sentinel2-l1c", FILE_ORDER, "uint16", (64, 64), 10.0, ("B04", "B03", "B02")
)
S1 = Array("s1grd_10", "sentinel1-grd", ("VV", "VH"), "float32", (64, 64), 10.0)
LEAKS = (
    "patches of one scene, some neighbours, are in train and test: eurosat-spatial is the split "
    "without that"
)


def scan(folder: Path, images: str, lists: str) -> Listing:
    """List the files named by three lists.

    Args:
        folder: holds the lists.
        images: folder of the class folders, from there.
        lists: name of a list with `{}` for the split.
    """
    ids: list[str] = []
    split: list[str] = []
    targets: list[int] = []
    for part in ("train", "val", "test"):
        path = folder / lists.format(part)
        for line in read_lines(path):
            stem = Path(line).stem  # the lists say .jpg, the files are .tif
            label = stem.rpartition("_")[0]
            if label not in CLASSES:
                raise FMError(f"{path}: {line} is of no class of EuroSAT")
            ids.append(stem)
            split.append(part)
            targets.append(CLASSES.index(label))
    root = folder / images
    there = {name for label in CLASSES for name in names_in(root / label, ".tif")}
    all_there(root, [f"{stem}.tif" for stem in ids], there)

    def path_of(i: int) -> Path:
        return root / CLASSES[targets[i]] / f"{ids[i]}.tif"

    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: path_of(i)),
        targets=np.array(targets, np.int64),
        lonlat=lambda i: header(path_of(i)).lonlat,
    )


def _declare(name: str, help: str, **changes: object) -> Declaration:
    lists = changes.pop("lists", "eurosat-{}.txt")
    images = changes.pop("images", TIF)
    settings = {
        "version": 1,
        "task": "class",
        "primary": "oa",
        "classes": CLASSES,
        "arrays": (S2,),
        "scan": partial(scan, images=str(images), lists=str(lists)),
        "published": {"train": 16200, "val": 5400, "test": 5400},
        "split": "train, val and test of Neumann et al. (arXiv 1911.06721)",
        "layout": f"{TIF}/CLASS/CLASS_N.tif and {lists} beside `ds`",
        "paper": "Helber et al., arXiv 1709.00029",
        "witness": "EuroSAT",
        "leaks": LEAKS,
        "checks": signatures.S2_L1C,
    }
    return Declaration(name=name, help=help, **{**settings, **changes})  # type: ignore[arg-type]


DECLARATIONS = (
    _declare("eurosat", "10 land uses, 13 bands of Sentinel-2 L1C, 64 px"),
    _declare(
        "eurosat-rgb",
        "10 land uses, B04 B03 B02 of the multispectral files, 64 px",
        arrays=(RGB,),
        checks=(signatures.reflectance,),
    ),
    _declare(
        "eurosat-spatial",
        "EuroSAT split by longitude, 13 bands, 64 px",
        lists="eurosat-spatial-{}.txt",
        split="west to east: 60 % train, 20 % val, 20 % test by longitude",
        witness="EuroSATSpatial",
        leaks="",
    ),
    _declare(
        "eurosat-100",
        "100 images of EuroSAT, for smoke tests",
        lists="eurosat-100-{}.txt",
        published={"train": 60, "val": 20, "test": 20},
        split="6, 2 and 2 images a class (torchgeo)",
        witness="EuroSAT100",
        leaks="20 test images: a smoke test, not a score",
    ),
    _declare(
        "copernicus-eurosat-s2",
        "EuroSAT in Copernicus-Bench's folder, 13 bands, 64 px",
        images="all_imgs",
        layout="all_imgs/CLASS/CLASS_N.tif and eurosat-{}.txt in the folder eurosat_s2",
        paper="Helber et al., arXiv 1709.00029; Copernicus-Bench, arXiv 2503.11849",
        witness="CopernicusBenchEuroSATS2",
        leaks=f"{LEAKS}; the images and lists of eurosat: do not count both",
    ),
    _declare(
        "eurosat-sar",
        "10 land uses, VV and VH of Sentinel-1, 64 px",
        arrays=(S1,),
        images="all_imgs",
        layout="all_imgs/CLASS/CLASS_N.tif and eurosat-{}.txt in the folder eurosat_s1",
        paper="Wang et al., doi 10.1109/JSTARS.2024.3493237; Copernicus-Bench, arXiv 2503.11849",
        witness="CopernicusBenchEuroSATS1",
        checks=(signatures.decibels,),
    ),
)
