"""Copernicus-Bench's Sentinel-3 OLCI sets of clouds and of land covers (arXiv 2503.11849).

Cloud-S3: classes of IdePix in 256 px; 0 is invalid and does not count. LC100Cls-S3: which of 23
land covers of CGLS-LC100 are in about 96 px, the image that `static_fnames` names of up to four.
Images a few pixels larger or smaller than 96 are cut or filled up (invalid) around their middle;
the authors stretch them.

LC100Seg-S3 and Biomass-S3 are in `copernicus_s3_maps`.
"""

import csv
from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import Files, MaskFiles, numbers, read_image, read_lines
from shards.sources.raster_io import header

BANDS = tuple(f"Oa{n:02d}" for n in range(1, 22))
SPLITS = ("train", "val", "test")
SIDE = 96
MOST_OFF = 8
"""Pixels by which an image may differ from 96 and still be one of the set."""
CLOUDS = ("clear", "cloud 2", "cloud 3", "cloud shadow", "snow and ice")
COVERS = (
    *("Unknown", "Shrubs", "Herbaceous vegetation"),
    "Cultivated and managed vegetation / agriculture",
    *("Urban / built up", "Bare / sparse vegetation", "Snow and ice", "Permanent water bodies"),
    *("Herbaceous wetland", "Moss and lichen"),
    *("Closed forest, evergreen needle leaf", "Closed forest, evergreen broad leaf"),
    *("Closed forest, deciduous needle leaf", "Closed forest, deciduous broad leaf"),
    *("Closed forest, mixed", "Closed forest, not matching any of the other definitions"),
    *("Open forest, evergreen needle leaf", "Open forest, evergreen broad leaf"),
    *("Open forest, deciduous needle leaf", "Open forest, deciduous broad leaf"),
    *("Open forest, mixed", "Open forest, not matching any of the other definitions"),
    "Oceans, seas",
)


def oxygen_is_dark(values: signatures.Values, where: str) -> None:
    """Refuse bands of which Oa13, in the absorption of oxygen, is not darker than Oa12 beside it.

    The factors of the two bands differ by 4 %, so their stored numbers can be compared.
    """
    inside, beside = float(values["Oa13"].mean()), float(values["Oa12"].mean())
    if inside >= 0.9 * beside:
        raise FMError(
            f"{where}: mean(Oa13) is {inside / max(beside, 1e-12):.2f} x mean(Oa12), expected "
            f"below 0.9; {signatures.CURE}"
        )


class Sized(Files):
    """Images cut or filled up to 96 pixels around their middle."""

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read the bands of an image; one of another type or far other size is left as it is."""
        found = self.paths(place, array, date)
        assert isinstance(found, Path)
        return sized(read_image(found, window), SIDE)


def sized(data: np.ndarray, side: int) -> np.ndarray:
    """Cut or fill [C, H, W] up with NaN to [C, side, side]; one too far off is left alone."""
    if data.dtype.kind != "f" or max(abs(n - side) for n in data.shape[1:]) > MOST_OFF:
        return data  # refused by its type or size
    for axis in (1, 2):
        off = data.shape[axis] - side
        if off > 0:
            data = np.take(data, range(off // 2, off // 2 + side), axis)
        elif off < 0:
            margin = [(0, 0)] * 3
            margin[axis] = (-off // 2, -off - -off // 2)
            data = np.pad(data, margin, constant_values=np.nan)
    return data


def scan_clouds(folder: Path) -> Listing:
    """List `{train,val,test}.csv`: a file name a line."""
    ids: list[str] = []
    split: list[str] = []
    for part in SPLITS:
        lines = read_lines(folder / f"{part}.csv")
        ids += lines
        split += [part] * len(lines)
    classes = numbers({0: -1} | {n: n - 1 for n in range(1, 6)})
    return Listing(
        ids=ids,
        split=split,
        source=Files(lambda i, array, date: folder / "s3_olci" / ids[i]),
        mask=MaskFiles(lambda i: folder / "cloud_multi" / ids[i], classes),
        lonlat=lambda i: header(folder / "s3_olci" / ids[i]).lonlat,
    )


def scan_covers(folder: Path) -> Listing:
    """List `multilabel-{}.csv`, a place and 23 of 0 and 1, and `static_fnames-{}.csv` beside it."""
    ids: list[str] = []
    split: list[str] = []
    labels: list[list[bool]] = []
    images: dict[str, str] = {}
    for part in SPLITS:
        path = folder / f"multilabel-{part}.csv"
        rows = list(csv.reader(read_lines(path)))[1:]
        chosen = folder / f"static_fnames-{part}.csv"
        images |= dict(pairs(chosen))
        for row in rows:
            if len(row) != 1 + len(COVERS) or set(row[1:]) - {"0", "1"}:
                raise FMError(f"{path}: {row[0]!r}: expected a place and 23 of 0 and 1")
            if row[0] not in images:
                raise FMError(f"{chosen}: names no image of {row[0]}; take the published list")
            ids.append(row[0])
            split.append(part)
            labels.append([value == "1" for value in row[1:]])

    def path_of(i: int) -> Path:
        return folder / "s3_olci" / ids[i] / images[ids[i]]

    return Listing(
        ids=ids,
        split=split,
        source=Sized(lambda i, array, date: path_of(i)),
        targets=np.array(labels, bool),
        lonlat=lambda i: header(path_of(i)).lonlat,
    )


def pairs(path: Path) -> list[tuple[str, str]]:
    """Read a list of a place and the file of its image a line."""
    rows = list(csv.reader(read_lines(path)))
    if any(len(row) != 2 for row in rows):
        raise FMError(f"{path}: expected a place and a file name a line")
    return [(place, name) for place, name in rows]


DECLARATIONS = (
    Declaration(
        name="copernicus-cloud-s3",
        version=1,
        help="clouds, their shadows and snow, 21 bands of Sentinel-3 OLCI, 256 px",
        task="segmentation",
        primary="miou",
        classes=CLOUDS,
        arrays=(Array("s3olci_300", "sentinel3-olci", BANDS, "float32", (256, 256), 300.0),),
        scan=scan_clouds,
        published={"train": 1197, "val": 399, "test": 399},
        split="Copernicus-Bench's",
        layout="s3_olci/, cloud_multi/ and {train,val,test}.csv in cloud_s3",
        paper="Wang et al., arXiv 2503.11849",
        witness="CopernicusBenchCloudS3",
        leaks="the truth is an algorithm's; the authors call stored 2 sure and 3 ambiguous clouds, "
        "torchgeo the other way round, so they go by number",
        checks=(oxygen_is_dark,),
    ),
    Declaration(
        name="copernicus-lc100cls-s3",
        version=1,
        help="23 land covers in a picture, 21 bands of Sentinel-3 OLCI, 96 px",
        task="multilabel",
        primary="map_micro",
        classes=COVERS,
        arrays=(Array("s3olci_300", "sentinel3-olci", BANDS, "float32", (SIDE, SIDE), 300.0),),
        scan=scan_covers,
        published={"train": 5181, "val": 1727, "test": 1727},
        split="Copernicus-Bench's",
        layout="s3_olci/PLACE/, multilabel-{train,val,test}.csv and "
        "static_fnames-{train,val,test}.csv in lc100_s3",
        paper="Wang et al., arXiv 2503.11849",
        witness="CopernicusBenchLC100ClsS3",
        checks=(oxygen_is_dark,),
    ),
)
