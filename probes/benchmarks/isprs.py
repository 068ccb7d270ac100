"""ISPRS Potsdam and Vaihingen: urban land cover in infrared orthophotos of 5 and 9 cm.

Rottensteiner et al., doi 10.5194/isprsannals-I-3-293-2012. Tiles are cut into windows of 512 px;
every labelled pixel of a test tile counts once. The class clutter does not count (-1), as in
published scores. Published scores with eroded borders are not comparable: borders count here.
Files of Potsdam hold red, green, blue and infrared in this order (`RGBIR`); those of Vaihingen
infrared, red and green, with no blue.
"""

from functools import partial
from pathlib import Path

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing
from probes.benchmarks.files import Files, MaskFiles, colours, picture_size

CLASSES = ("impervious surfaces", "building", "low vegetation", "tree", "car")
COLOURS = {
    (255, 0, 0): -1,
    (255, 255, 255): 0,
    (0, 0, 255): 1,
    (0, 255, 255): 2,
    (0, 255, 0): 3,
    (255, 255, 0): 4,
}
POTSDAM = {
    "train": (
        *("2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11"),
        *("5_12", "6_10", "6_11", "6_12", "6_7", "6_8", "6_9", "7_10", "7_11", "7_12", "7_7"),
        *("7_8", "7_9"),
    ),
    "test": (
        *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15"),
        *("6_13", "6_14", "6_15", "7_13"),
    ),
}
VAIHINGEN = {
    "train": (
        "1",
        "3",
        "5",
        "7",
        "11",
        "13",
        "15",
        "17",
        "21",
        "23",
        "26",
        "28",
        "30",
        "32",
        "34",
        "37",
    ),
    "test": (
        *("2", "4", "6", "8", "10", "12", "14", "16", "20", "22", "24", "27", "29", "31", "33"),
        *("35", "38"),
    ),
}


def scan(folder: Path, tiles: dict[str, tuple[str, ...]], image: str, mask: str) -> Listing:
    """List the tiles of the contest's two lists."""
    ids = [tile for part in tiles.values() for tile in part]
    split = [part for part, names in tiles.items() for _ in names]
    for pattern in (image, mask):
        missing = [tile for tile in ids if not (folder / pattern.format(tile)).is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise FMError(
                f"{folder}: no {pattern.format(missing[0])}{more}; unpack the published archives "
                f"there"
            )
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: folder / image.format(ids[i])),
        mask=MaskFiles(lambda i: folder / mask.format(ids[i]), colours(COLOURS)),
        groups=ids,
        sizes=[picture_size(folder / image.format(tile)) for tile in ids],
    )


def _declare(
    name: str,
    help: str,
    bands: tuple[str, ...],
    gsd_m: float,
    tiles: dict[str, tuple[str, ...]],
    image: str,
    mask: str,
    witness: str,
) -> Declaration:
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="segmentation",
        primary="miou",
        classes=CLASSES,
        arrays=(Array("nirrgb_0", "nir-rgb", bands, "uint8", None, gsd_m),),
        scan=partial(scan, tiles=tiles, image=image, mask=mask),
        published={part: len(names) for part, names in tiles.items()},
        split="the contest's tiles; val is whole tiles of train",
        layout=f"{image.format('TILE')} and {mask.format('TILE')}",
        paper="Rottensteiner et al., doi 10.5194/isprsannals-I-3-293-2012",
        witness=witness,
        leaks="tiles of one flight border on one another across the split",
        holdout=Holdout("train", {"val": 0.2, "train": 0.8}),
        crop=512,
        unit="scene",
        checks=(signatures.eight_bits,),
    )


DECLARATIONS = (
    _declare(
        "potsdam",
        "5 urban land covers, red green blue infrared, 5 cm, windows of 512 px",
        ("R", "G", "B", "NIR"),
        0.05,
        POTSDAM,
        "4_Ortho_RGBIR/top_potsdam_{}_RGBIR.tif",
        "top_potsdam_{}_label.tif",
        "Potsdam2D",
    ),
    _declare(
        "vaihingen",
        "5 urban land covers, infrared red green, 9 cm, windows of 512 px",
        ("NIR", "R", "G"),
        0.09,
        VAIHINGEN,
        "top/top_mosaic_09cm_area{}.tif",
        "top_mosaic_09cm_area{}.tif",
        "Vaihingen2D",
    ),
)
