"""GEO-Bench-2 (Simumba et al., arXiv 2511.15658): seven of its data sets, in their tortillas.

The authors' package (geobenchv2 0.9) names bands wrongly in three files; here each band has its own
name, and what the pixels tell refuses the other order:

- `geobench_benv2` and `geobench_so2sat`: the package reads the two planes of Sentinel-1 as VV, VH.
  They were written VH, VV, and its own statistics tell it: VV at -19 dB below VH at -12 dB.
- `geobench_treesatai`: pictures are infrared, green, blue, red and are read as red, green, blue,
  infrared; the "red" has a mean of 154, the "infrared" one of 79.
- `geobench_spacenet7`: the fourth plane is read as infrared and is the alpha of a colour picture.

Taken back: TreeSatAI's 6 pixels of Sentinel-2 were repeated to 304, and ForestNet's rows and
columns were exchanged. Not taken: TreeSatAI's Sentinel-1, whose decibels were cut to whole numbers
and wrapped into uint16; FLAIR's height of the ground's cover, which no sensor here holds.

Sizes of the lists are those that torchgeo-bench 0.4.0 states. For `flair2` it states others (4,049,
1,022, 3,022) than the authors' code and page (4,000, 1,000, 2,000), so only its lists are checked.
The authors score several labels by F1; here it is average precision, as everywhere.

Left out: CaFFe (8-bit radar of six satellites, which no sensor here describes), PASTIS and Dynamic
EarthNet (series), CloudSEN12, Fields of the World, Kuro Siwo and SpaceNet 2 (not looked into), and
regressions of maps and detections of objects.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import geobench_v1, signatures, so2sat, treesatai
from probes.benchmarks.declare import Array, Check, Declaration, Holdout
from probes.benchmarks.files import Classes, numbers
from probes.benchmarks.geobench2 import Row, Undo, scan, square
from shards.sources import bigearthnet

PAPER = "Simumba et al., arXiv 2511.15658"
PIXELS, REPEATED = 6, 304
"""Sides of TreeSatAI's Sentinel-2, and of what the file holds."""
BENV2_S2 = Array(
    "s2l2a_10", "sentinel2-l2a", geobench_v1.L2A, "uint16", (120, 120), 10.0, source="s2"
)
BENV2_S1 = Array(
    "s1grd_10", "sentinel1-grd", ("VH", "VV"), "float32", (120, 120), 10.0, source="s1"
)
TREES = Array(
    "nirrgb_0", "nir-rgb", ("NIR", "G", "B", "R"), "uint8", (304, 304), 0.2, source="aerial"
)
TREES_S2 = Array(
    "s2l2a_10", "sentinel2-l2a", treesatai.OPTICAL, "uint16", (PIXELS, PIXELS), 10.0, source="s2"
)
ZONES_S2 = Array(
    "s2l1c_10", "sentinel2-l1c", so2sat.OPTICAL, "float32", (32, 32), 10.0, source="s2"
)
ZONES_S1 = Array(
    "s1so2sat_10", "sentinel1-so2sat", ("VH_re", "VV_re"), "float32", (32, 32), 10.0, source="s1"
)
LOSS = replace(geobench_v1.LANDSAT.array, source="image")
SCARS = Array(
    "s2l2a_30",
    "sentinel2-l2a",
    ("B02", "B03", "B04", "B8A", "B11", "B12"),
    "float32",
    (512, 512),
    30.0,
    source="image",
)
FLAIR = Array(
    "nirrgb_0",
    "nir-rgb",
    ("R", "G", "B", "NIR", "elevation"),
    "uint8",
    (512, 512),
    0.2,
    ("R", "G", "B", "NIR"),
    "aerial",
)
PLANET = Array(
    "rgb_0",
    "rgb",
    ("R", "G", "B", "alpha"),
    "uint8",
    (512, 512),
    4.77731426716,
    ("R", "G", "B"),
    "images",
)
ZONES = (
    *("Compact high-rise", "Compact middle-rise", "Compact low-rise", "Open high-rise"),
    *("Open middle-rise", "Open low-rise", "Lightweight low-rise", "Large low-rise"),
    *("Sparsely built", "Heavy industry", "Dense Trees", "Scattered trees", "Bush, scrub"),
    *("Low plants", "Bare rock or paved", "Bare soil or sand", "Water"),
)
REASONS = (
    *("Oil palm plantation", "Timber plantation", "Other large-scale plantations"),
    *("Grassland/shrubland", "Small-scale agriculture", "Small-scale mixed plantation"),
    *("Small-scale oil palm plantation", "Mining", "Fish pond", "Logging road"),
    *("Secondary forest", "Other"),
)
COVER = (
    *("building", "pervious surface", "impervious surface", "bare soil", "water", "coniferous"),
    *("deciduous", "brushwood", "vineyard", "herbaceous vegetation", "agricultural land"),
    *("plowed land", "other"),
)
REAL = (
    "samples (the {} of {}.tortilla in the tests of the authors' repository, ef78db1, which "
    "tacoreader 2.4.21 reads alike)"
)
MADE = (
    "fixtures only: files that tacoreader 2.4.21 reads alike, in a test that is skipped where that "
    "package is not installed"
)


def brighter(first: str, second: str, measure: Callable[..., Any] = np.mean) -> Check:
    """A check that refuses bands of which the first is not above the second.

    Args:
        first: band.
        second: band.
        measure: takes the values of a band; the mean or the standard deviation.
    """

    def check(values: signatures.Values, where: str) -> None:
        above, below = float(measure(values[first])), float(measure(values[second]))
        if not above > below:
            raise FMError(
                f"{where}: {measure.__name__}({first}) is {above:.3g}, of {second} {below:.3g}, "
                f"expected less; {signatures.CURE}"
            )

    return check


def six_pixels(repeated: np.ndarray, where: str) -> np.ndarray:
    """Take the 6 x 6 pixels out of the 304 x 304 they were repeated to.

    Raises:
        FMError: these are not such repeats.
    """
    of = np.arange(REPEATED) * PIXELS // REPEATED
    first = np.searchsorted(of, np.arange(PIXELS))
    if repeated.shape[1:] == (REPEATED, REPEATED):
        small = repeated[:, first[:, None], first]
        if np.array_equal(small[:, of[:, None], of], repeated):
            return small
    size = " x ".join(map(str, repeated.shape[1:]))
    raise FMError(
        f"{where}: {size} pixels, expected {PIXELS} x {PIXELS} repeated to {REPEATED} x "
        f"{REPEATED}; take the published file"
    )


def exchanged(stored: np.ndarray, where: str) -> np.ndarray:
    """Exchange rows and columns."""
    del where
    return np.swapaxes(stored, 1, 2)


def with_alpha(stored: np.ndarray, where: str) -> np.ndarray:
    """Refuse a picture whose fourth plane is no alpha.

    Raises:
        FMError: it holds other numbers than 0 and 255.
    """
    if len(stored) == len(PLANET.file_bands) and not np.isin(stored[-1], (0, 255)).all():
        raise FMError(f"{where}: its fourth plane is no alpha of 0 or 255; take the published file")
    return stored


def burnt(stored: np.ndarray, where: str) -> NDArray[np.int64]:
    """Class numbers of a map of burn scars, in which -1 is missing.

    Raises:
        FMError: another number.
    """
    plane = stored[0].astype(np.int64)
    if plane.min() < -1 or plane.max() > 1:
        raise FMError(f"{where}: holds {plane.min()} to {plane.max()}, expected -1, 0 and 1")
    return plane


def tile(row: Row) -> str:
    """Sentinel-2's tile of a patch of BigEarthNet."""
    return str(row["patch_id"].split("_")[5])


def place_of_loss(row: Row) -> str:
    """ForestNet's place, without the number and the date."""
    _, lat, lon = row["patch_id"].split("_")[:3]
    return f"{lat}_{lon}"


def _task(
    name: str,
    help: str,
    task: Literal["class", "multilabel", "segmentation"],
    arrays: tuple[Array, ...],
    classes: tuple[str, ...],
    counts: tuple[int, int, int] | None,
    split: str,
    leaks: str,
    checks: tuple[Check, ...],
    verified: str = MADE,
    file: str = "",
    labels: str = "labels",
    mask: tuple[str, Classes] | None = None,
    group: Callable[[Row], str] | None = None,
    placed: bool = True,
    undo: Mapping[str, Undo] | None = None,
) -> Declaration:
    file = f"geobench_{file or name}.tortilla"
    return Declaration(
        name=f"gb2-{name.replace('_', '-')}",
        version=1,
        help=help,
        task=task,
        primary={"class": "oa", "multilabel": "map_micro", "segmentation": "miou"}[task],
        classes=classes,
        arrays=arrays,
        scan=partial(
            scan,
            file=file,
            classes=classes,
            task=task,
            labels=labels,
            mask=mask,
            group=group,
            placed=placed,
            undo=undo,
        ),
        published=dict(zip(("train", "val", "test"), counts or (), strict=False)),
        split=split,
        layout=file,
        paper=PAPER,
        witness="",
        leaks=leaks,
        unit="image" if group is None else "block",
        checks=checks,
        verified=verified,
    )


_VV_ABOVE_VH = (signatures.decibels, brighter("VV", "VH"))


def _patches(kind: str, sensors: str, arrays: tuple[Array, ...]) -> Declaration:
    optical = signatures.S2_L2A if BENV2_S2 in arrays else ()
    return _task(
        f"benv2-{kind}",
        f"19 labels, a part of BigEarthNet v2, {sensors}, 120 px",
        "multilabel",
        arrays,
        bigearthnet.CLASSES,
        (20000, 4000, 4000),
        "samples of BigEarthNet v2's train, validation and test, apart in place",
        "a subset of reben: do not count both; bands of 20 and 60 m were brought to 10 m",
        (*optical, *(_VV_ABOVE_VH if BENV2_S1 in arrays else ())),
        REAL.format("nine", "benv2"),
        "benv2",
        group=tile,
    )


def _trees(kind: str, help: str, array: Array, checks: tuple[Check, ...]) -> Declaration:
    return _task(
        f"treesatai-{kind}",
        f"15 genera of trees, {help}",
        "multilabel",
        (array,),
        treesatai.CLASSES,
        (4000, 1000, 2000),
        "squares of a checkerboard of 10 x 10",
        "a subset of treesatai, split otherwise: do not count both; squares of the checkerboard "
        "border on one another",
        checks,
        REAL.format("nine", "treesatai"),
        "treesatai",
        labels="species_labels",
        undo={TREES_S2.source: six_pixels},
    )


def _zones(kind: str, sensors: str, arrays: tuple[Array, ...]) -> Declaration:
    radar = (brighter("VV_re", "VH_re", np.std),) if ZONES_S1 in arrays else ()
    return _task(
        f"so2sat-{kind}",
        f"17 local climate zones, {sensors}, 32 px",
        "class",
        arrays,
        ZONES,
        (19992, 986, 986),
        "GEO-Bench v1's default_partition.json",
        f"the samples of m-so2sat: do not count both; {so2sat.HALVES}",
        (*geobench_v1.S2_BANDS, *radar),
        file="so2sat",
        placed=False,
    )


def _blocked(of: Declaration) -> Declaration:
    """The same samples dealt out anew by whole squares of a grid."""
    scan_of = of.scan
    assert isinstance(scan_of, partial)
    return replace(
        of,
        name=f"{of.name}-block",
        scan=partial(scan, **{**scan_of.keywords, "group": square}),
        split="made here: whole squares of 1 degree of all published samples",
        leaks="squares of 1 degree may border on one another across the split",
        holdout=Holdout("all", {"test": 0.2, "val": 0.2, "train": 0.6}),
        unit="block",
    )


_SCARS = _task(
    "burn_scars",
    "burn scars, 6 bands of harmonised Sentinel-2 of 30 m, 512 px",
    "segmentation",
    (SCARS,),
    ("not burnt", "burnt"),
    (524, 160, 120),
    "the published train, val and test",
    "dealt out picture by picture: a place has pictures of several dates; reflectance is adjusted "
    "to the view from above, unlike Level-2A",
    (signatures.reflectance, brighter("B8A", "B04")),
    mask=("label", burnt),
)
DECLARATIONS = (
    _patches("s2", "12 bands of Sentinel-2 L2A", (BENV2_S2,)),
    _patches("s1", "Sentinel-1", (BENV2_S1,)),
    _patches("s1s2", "both sensors", (BENV2_S1, BENV2_S2)),
    _trees(
        "aerial",
        "infrared aerial pictures, 304 px",
        TREES,
        (signatures.eight_bits, brighter("NIR", "R")),
    ),
    _trees("s2", "12 bands of Sentinel-2, 6 px", TREES_S2, signatures.S2_L2A),
    _zones("s2", "10 bands of Sentinel-2", (ZONES_S2,)),
    _zones("s1s2", "both sensors", (ZONES_S1, ZONES_S2)),
    _task(
        "forestnet",
        "12 reasons of lost forest in Indonesia, 6 bands of Landsat 8 in 8 bits, 332 px",
        "class",
        (LOSS,),
        REASONS,
        (6464, 989, 993),
        "GEO-Bench v1's default_partition.json",
        "the samples of m-forestnet: do not count both; a place has several dates, all in one list",
        (*geobench_v1.BYTES, geobench_v1.vegetation),
        group=place_of_loss,
        undo={LOSS.source: exchanged},
    ),
    _SCARS,
    _blocked(_SCARS),
    _task(
        "flair2",
        "13 land covers, infrared aerial pictures of 0.2 m, 512 px",
        "segmentation",
        (FLAIR,),
        COVER,
        None,
        "whole departements of France",
        "classes 13 to 19 of FLAIR are one, other, and count",
        (signatures.eight_bits,),
        REAL.format("five", "flair2"),
        mask=("mask", numbers({n: min(n, len(COVER)) - 1 for n in range(1, 20)})),
        group=lambda row: str(row["domain"]),
    ),
    _task(
        "spacenet7",
        "buildings, colour pictures of 4.8 m, 512 px",
        "segmentation",
        (PLANET,),
        ("no building", "building"),
        (3500, 652, 1152),
        "whole scenes",
        "pictures of a scene from several months are one block; every pixel counts, as published",
        (signatures.eight_bits,),
        REAL.format("five", "spacenet7"),
        mask=("mask", numbers({0: 0, 1: 1})),
        group=lambda row: str(row["aoi"]),
        undo={PLANET.source: with_alpha},
    ),
)
