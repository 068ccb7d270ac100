"""TreeSatAI (Ahlswede et al., doi 10.5194/essd-15-681-2023): genera of trees on plots of 60 m.

Aerial pictures of 304 pixels of 0.2 m, with their bands in the order infrared, green, blue, red;
Sentinel-1 VV and VH in dB with their quotient as a third band, which is left out here because the
first two give it; 12 bands of Sentinel-2 Level-2A on one grid of 10 m (modality `s2l2a_10`) in an
order of their own. Labels are the genera that cover a part of the plot; any share counts, as in
the published JSON.
"""

import json
from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing
from probes.benchmarks.files import Files, all_there, names_in, read_lines
from shards.sources.raster_io import header

CLASSES = (
    *("Abies", "Acer", "Alnus", "Betula", "Cleared", "Fagus", "Fraxinus", "Larix", "Picea"),
    *("Pinus", "Populus", "Prunus", "Pseudotsuga", "Quercus", "Tilia"),
)
OPTICAL = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09")
AERIAL = Array(
    "nirrgb_0", "nir-rgb", ("NIR", "G", "B", "R"), "uint8", (304, 304), 0.2, source="aerial"
)
S1 = Array(
    "s1grd_10",
    "sentinel1-grd",
    ("VV", "VH", "VV/VH"),
    "float32",
    (6, 6),
    10.0,
    ("VV", "VH"),
    "s1",
    -9999.0,
)
S2 = Array("s2l2a_10", "sentinel2-l2a", OPTICAL, "uint16", (6, 6), 10.0, source="s2")
LABELS = "labels/TreeSatBA_v9_60m_multi_labels.json"


def scan(folder: Path) -> Listing:
    """List the plots of `train_filenames.lst` and `test_filenames.lst`."""
    ids: list[str] = []
    split: list[str] = []
    for part in ("train", "test"):
        lines = read_lines(folder / f"{part}_filenames.lst")
        ids += lines
        split += [part] * len(lines)
    try:
        shares = json.loads((folder / LABELS).read_bytes())
    except (OSError, ValueError) as error:
        raise FMError(f"{folder / LABELS}: cannot be read ({error})") from None
    targets = np.zeros((len(ids), len(CLASSES)), bool)
    for row, name in enumerate(ids):
        if name not in shares:
            raise FMError(f"{folder / LABELS}: no labels of {name}; take the published files")
        for genus, _ in shares[name]:
            if genus not in CLASSES:
                raise FMError(f"{folder / LABELS}: {name}: {genus!r} is no genus of this dataset")
            targets[row, CLASSES.index(genus)] = True
    for kind in ("aerial", "s1", "s2"):
        if (folder / kind).is_dir():
            all_there(folder / kind / "60m", ids, set(names_in(folder / kind / "60m", ".tif")))
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: folder / array.source / "60m" / ids[i]),
        targets=targets,
        lonlat=lambda i: header(folder / "s2/60m" / ids[i]).lonlat,
    )


def _declare(name: str, help: str, arrays: tuple[Array, ...]) -> Declaration:
    checks = {
        "aerial": (signatures.eight_bits,),
        "s1": (signatures.decibels,),
        "s2": signatures.S2_L2A,
    }
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="multilabel",
        primary="map_micro",
        classes=CLASSES,
        arrays=arrays,
        scan=scan,
        published={},
        split="the published 90 % and 10 %; val from train, plot by plot",
        layout=f"{{aerial,s1,s2}}/60m/NAME.tif, {LABELS}, {{train,test}}_filenames.lst",
        paper="Ahlswede et al., doi 10.5194/essd-15-681-2023",
        witness="TreeSatAI",
        leaks="neighbouring plots are in train and test",
        holdout=Holdout("train", {"val": 0.1, "train": 0.9}, by="sample"),
        checks=tuple(check for array in arrays for check in checks[array.source]),
    )


DECLARATIONS = (
    _declare("treesatai-s2", "15 genera of trees, 12 bands of Sentinel-2, 6 px", (S2,)),
    _declare("treesatai-s1", "15 genera of trees, Sentinel-1, 6 px", (S1,)),
    _declare("treesatai-aerial", "15 genera of trees, infrared aerial pictures, 304 px", (AERIAL,)),
)
