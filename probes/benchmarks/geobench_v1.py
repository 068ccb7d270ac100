"""GEO-Bench v1 (Lacoste et al., arXiv 2306.03831): six classifications and six segmentations.

The files' band names are not true everywhere. `m-eurosat` calls the 13 bands of EuroSAT B01 to B08,
B8A, B09, ... in the order of the files, in which B8A is last (ServiceNow/geo-bench issue 28);
`m-brick-kiln` calls B01 B02 B03 B04 B05 B07 B8A B08 B11 B12 and three channels of a colour picture
the same 13 names (issue 29). Here each band has its own name, and what the means of the bands tell
(`probes.benchmarks.signatures`) would refuse the files' names as well as files mended later.

Units: `m-bigearthnet`, `m-brick-kiln` and `m-cashew-plantation` hold floating reflectance x 10,000
and `m-so2sat` reflectance; they are given as reflectance. `m-chesapeake-landcover` holds 8-bit
numbers divided by 255, which are given back as 8 bits. `m-forestnet` and `m-SA-crop-type` are 8-bit
pictures of multispectral bands without a scale (`fm.sensors.eight_bit`).

Sizes of the lists: those of the classifications are torchgeo-bench 0.4.0's. Of the segmentations no
source was at hand, so only their lists are checked, except for the 1,800 samples of the cashew
plantations: 72 windows of one scene at 25 dates.

Splits that leak have a blocked twin: `m-cashew-plantation-block` (`probes.benchmarks.
geobench_cashew`), and `m-pv4ger-block`, `m-pv4ger-seg-block` and `m-nz-cattle-block`, which deal
out whole squares of a grid by the places in the samples' names.

Left out: the cloud masks, canopy heights and the 369 unnamed bands of `m-NeonTree` (issue 27), and
the lists of 1 to 50 % of the training samples (`probes.families.fewshot` makes such lists).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from fm.errors import FMError
from probes.benchmarks import eurosat, geobench_cashew, signatures, so2sat
from probes.benchmarks import geobench_places as places
from probes.benchmarks.declare import Array, Check, Declaration, Holdout
from probes.benchmarks.geobench import Layer, scan
from shards.sources import corine

NAMES = {
    "B01": "01 - Coastal aerosol",
    "B02": "02 - Blue",
    "B03": "03 - Green",
    "B04": "04 - Red",
    "B05": "05 - Vegetation Red Edge",
    "B06": "06 - Vegetation Red Edge",
    "B07": "07 - Vegetation Red Edge",
    "B08": "08 - NIR",
    "B8A": "08A - Vegetation Red Edge",
    "B09": "09 - Water vapour",
    "B10": "10 - SWIR - Cirrus",
    "B11": "11 - SWIR",
    "B12": "12 - SWIR",
}
"""What the files call the bands of Sentinel-2."""
L2A = tuple(band for band in NAMES if band != "B10")
KILN_BANDS = ("B01", "B02", "B03", "B04", "B05", "B07", "B8A", "B08", "B11", "B12")
"""What stands under the first ten names of `m-brick-kiln`."""
LEE = (
    *("01 - VH.Real", "02 - VH.Imaginary", "03 - VV.Real", "04 - VV.Imaginary"),
    *("05 - VH.LEE Filtered", "06 - VV.LEE Filtered"),
    *("07 - VH.LEE Filtered.Real", "08 - VV.LEE Filtered.Imaginary"),
)
"""So2Sat's channels of Sentinel-1, in the order of `so2sat.RADAR`."""
DN = 1e-4
FORESTNET = (
    *("Oil palm plantation", "Timber plantation", "Other large-scale plantations"),
    *("Grassland shrubland", "Small-scale agriculture", "Small-scale mixed plantation"),
    *("Small-scale oil palm plantation", "Mining", "Fish pond", "Logging", "Secondary forest"),
    "Other",
)
CROPS = (
    *("No Data", "Lucerne/Medics", "Planted pastures (perennial)", "Fallow", "Wine grapes"),
    *("Weeds", "Small grain grazing", "Wheat", "Canola", "Rooibos"),
)
COVER = tuple(f"class {n}" for n in range(7))
VERIFIED = (
    "fixtures only: files that geobench 1.1.0 opens alike, in a test that is skipped where that "
    "package is not installed"
)
SIDE = 256


def _rgb(size: int, gsd_m: float) -> Layer:
    array = Array("rgb_0", "rgb", ("R", "G", "B"), "uint8", (size, size), gsd_m)
    return Layer(array, ("Red", "Green", "Blue"))


def _layer(array: Array, factor: float = 1.0) -> Layer:
    return Layer(array, tuple(NAMES[band] for band in array.file_bands), factor)


EUROSAT = Layer(
    Array("s2l1c_10", "sentinel2-l1c", eurosat.FILE_ORDER, "int16", (64, 64), 10.0),
    tuple(NAMES.values()),  # in the order of the files, whatever they say
)
KILN = Layer(
    Array("s2l2a_10", "sentinel2-l2a", KILN_BANDS, "float32", (64, 64), 10.0),
    tuple(NAMES.values())[: len(KILN_BANDS)],
    DN,
)
BIGEARTHNET = _layer(Array("s2l2a_10", "sentinel2-l2a", L2A, "float32", (120, 120), 10.0), DN)
SO2SAT = _layer(
    Array("s2l1c_10", "sentinel2-l1c", so2sat.OPTICAL, "float32", (32, 32), 10.0),
)
SO2SAT_S1 = Layer(
    Array("s1so2sat_10", "sentinel1-so2sat", so2sat.RADAR, "float32", (32, 32), 10.0), LEE
)
LANDSAT = Layer(
    Array(
        "l8byte_15",
        "landsat8-oli-8bit",
        ("B2", "B3", "B4", "B5", "B6", "B7"),
        "uint8",
        (332, 332),
        15.0,
    ),
    ("02 - Blue", "03 - Green", "04 - Red", "05 - NIR", "06 - SWIR1", "07 - SWIR2"),
)
AERIAL = Layer(
    Array("nirrgb_0", "nir-rgb", ("R", "G", "B", "NIR"), "uint8", (SIDE, SIDE), 1.0),
    ("Red", "Green", "Blue", "NearInfrared"),
    255.0,
)
CASHEW_S2 = _layer(Array("s2l2a_10", "sentinel2-l2a", L2A, "float32", (SIDE, SIDE), 10.0), DN)
CROPS_S2 = _layer(Array("s2byte_10", "sentinel2-8bit", L2A, "uint8", (SIDE, SIDE), 10.0))


def vegetation(values: signatures.Values, where: str) -> None:
    """Refuse bands over plants of which the near infrared is not brighter than red and 2.2 um."""
    means = {band: float(values[band].mean()) for band in ("B4", "B5", "B7")}
    if means["B5"] <= max(means["B4"], means["B7"]):
        raise FMError(
            f"{where}: mean(B5) is {means['B5']:.3g}, of B4 {means['B4']:.3g} and of B7 "
            f"{means['B7']:.3g}; over plants it is the largest: {signatures.CURE}"
        )


S2_BANDS = (signatures.reflectance, signatures.b8a_beside_b08)
BYTES = (signatures.eight_bits,)


def _task(
    name: str,
    help: str,
    task: Literal["class", "multilabel", "segmentation"],
    layers: tuple[Layer, ...],
    classes: tuple[str, ...],
    leaks: str,
    checks: tuple[Check, ...],
    published: dict[str, int] | None = None,
    folder: str = "",
    group: Callable[[str], str] | None = None,
    place: places.Place | None = None,
) -> Declaration:
    home = "segmentation_v1.0" if task == "segmentation" else "classification_v1.0"
    return Declaration(
        name=name,
        version=1,
        help=help,
        task=task,
        primary={"class": "oa", "multilabel": "map_micro", "segmentation": "miou"}[task],
        classes=classes,
        arrays=tuple(layer.array for layer in layers),
        scan=partial(
            scan,
            layers=layers,
            classes=classes,
            task=task,
            group=group,
            lonlat=None if place is None else partial(places.known, place),
        ),
        published=published or {},
        split="GEO-Bench's default_partition.json",
        layout=f"default_partition.json, task_specs.pkl and NAME.hdf5 in {home}/{folder or name}",
        paper="Lacoste et al., arXiv 2306.03831",
        witness="",
        leaks=leaks,
        unit="image" if group is None else "block",
        checks=checks,
        verified=VERIFIED,
    )


def _counts(train: int, val: int, test: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test}


def _cashew(name: str, split: str, leaks: str, blocked: bool) -> Declaration:
    return replace(
        _task(
            name,
            "cashew plantations in Benin, 12 bands of Sentinel-2, 256 px",
            "segmentation",
            (CASHEW_S2,),
            geobench_cashew.CLASSES,
            leaks,
            signatures.S2_L2A,
            {"all": geobench_cashew.TOTAL},
            "m-cashew-plant",
        ),
        scan=partial(geobench_cashew.scan_windows, layers=(CASHEW_S2,), blocked=blocked),
        split=split,
        unit="block",
    )


def _blocked(of: Declaration, place: places.Place, degrees: float) -> Declaration:
    """The same samples dealt out anew by whole squares of a grid."""
    scan_of = of.scan
    assert isinstance(scan_of, partial)
    size = f"{degrees:g} degrees"
    return replace(
        of,
        name=f"{of.name}-block",
        scan=partial(scan, **{**scan_of.keywords, "group": partial(places.cell, place, degrees)}),
        split=f"made here: whole squares of {size} of all published samples",
        leaks=f"squares of {size} may border on one another across the split",
        holdout=Holdout("all", {"test": 0.2, "val": 0.2, "train": 0.6}),
        unit="block",
    )


_PV4GER = _task(
    "m-pv4ger",
    "solar panels on German roofs, aerial pictures of 0.1 m, 320 px",
    "class",
    (_rgb(320, 0.1),),
    ("no solar pv", "solar pv"),
    "train and test are of the same towns of North Rhine-Westphalia",
    BYTES,
    _counts(11814, 999, 999),
    place=places.roof,
)
_PV4GER_SEG = _task(
    "m-pv4ger-seg",
    "solar panels on German roofs, aerial pictures of 0.1 m, 320 px",
    "segmentation",
    (_rgb(320, 0.1),),
    ("no solar pv", "solar pv"),
    "train and test are of the same towns of North Rhine-Westphalia",
    BYTES,
    place=places.roof,
)
_CATTLE = _task(
    "m-nz-cattle",
    "cattle on pastures, aerial pictures of 0.1 m, 500 px",
    "segmentation",
    (_rgb(500, 0.1),),
    ("no cattle", "cattle"),
    "dealt out picture by picture: neighbours are in train and test; an animal is a disc of 6 px",
    BYTES,
    place=places.cattle,
)
DECLARATIONS = (
    _task(
        "m-eurosat",
        "10 land uses, 13 bands of Sentinel-2 L1C, 64 px",
        "class",
        (EUROSAT,),
        eurosat.CLASSES,
        "a subset of eurosat: do not count both; patches of one scene, some neighbours, are in "
        "train and test",
        signatures.S2_L1C,
        _counts(2000, 1000, 1000),
    ),
    _task(
        "m-bigearthnet",
        "43 labels, 12 bands of Sentinel-2 on 10 m, 120 px",
        "multilabel",
        (BIGEARTHNET,),
        corine.CLASSES_43,
        "a subset of BigEarthNet v1: do not count both; neighbouring patches are in train and test",
        signatures.S2_L2A,
        _counts(20000, 1000, 1000),
    ),
    _task(
        "m-so2sat",
        "17 local climate zones, 10 bands of Sentinel-2, 32 px",
        "class",
        (SO2SAT,),
        so2sat.CLASSES,
        f"a subset of So2Sat: do not count both; {so2sat.HALVES}",
        S2_BANDS,
        _counts(19992, 986, 986),
    ),
    _task(
        "m-so2sat-s1s2",
        "17 local climate zones, both sensors, 32 px",
        "class",
        (SO2SAT_S1, SO2SAT),
        so2sat.CLASSES,
        f"a subset of So2Sat: do not count both; {so2sat.HALVES}",
        S2_BANDS,
        _counts(19992, 986, 986),
        "m-so2sat",
    ),
    _task(
        "m-brick-kiln",
        "brick kilns in Bangladesh, 10 bands of Sentinel-2 L2A, 64 px",
        "class",
        (KILN,),
        ("not brick kiln", "brick kiln"),
        "the files name the bands wrongly; the ten that are there are given by their own names",
        S2_BANDS,
        _counts(15063, 999, 999),
    ),
    _task(
        "m-forestnet",
        "12 reasons of lost forest in Indonesia, 6 bands of Landsat 8 in 8 bits, 332 px",
        "class",
        (LANDSAT,),
        FORESTNET,
        "a place has several dates, all in one list; around the lost forest the picture is faded",
        (*BYTES, vegetation),
        _counts(6464, 989, 993),
        group=places.loss,
        place=places.forest,
    ),
    _PV4GER,
    _blocked(_PV4GER, places.roof, 0.1),
    _PV4GER_SEG,
    _blocked(_PV4GER_SEG, places.roof, 0.1),
    _task(
        "m-chesapeake-landcover",
        "7 land covers, aerial pictures with near infrared of 1 m, 256 px",
        "segmentation",
        (AERIAL,),
        COVER,
        "the files do not name the classes, and the converter's list (water first, no data last) "
        "is not in the order of the source's numbers (no data 0, water 1 to roads 6)",
        BYTES,
        folder="m-chesapeake",
    ),
    _cashew(
        "m-cashew-plantation",
        "GEO-Bench's default_partition.json",
        "windows of one scene that overlap by half were dealt out at random: train holds most "
        "pixels of val and test, and their truth; m-cashew-plantation-block holds none",
        blocked=False,
    ),
    _cashew(
        "m-cashew-plantation-block",
        "made here, from north to south: rows of windows 1 to 3 in train, 5 in val, 7 to 9 in "
        "test, 4 and 6 left out; no pixel is in two of them",
        "one scene: val and test border on train",
        blocked=True,
    ),
    _task(
        "m-SA-crop-type",
        "10 crops in South Africa, 12 bands of Sentinel-2 in 8 bits, 256 px",
        "segmentation",
        (CROPS_S2,),
        CROPS,
        "class 0 is no data and counts, as published; up to five dates of a field are in one list",
        (*BYTES, signatures.b8a_beside_b08, signatures.water_vapour_is_darker),
        group=places.field,
    ),
    _CATTLE,
    _blocked(_CATTLE, places.cattle, 0.01),
    _task(
        "m-NeonTree",
        "tree crowns, aerial pictures of 0.1 m, 400 px",
        "segmentation",
        (_rgb(400, 0.1),),
        ("no tree", "tree"),
        "crowns are ellipses inside boxes; windows of one picture overlap, all in one list",
        BYTES,
        group=places.tile,
    ),
)
