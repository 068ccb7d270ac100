"""Copernicus-Bench's Sentinel-3 sets with maps finer than their images (arXiv 2503.11849).

Images have pixels of 300 m, maps of about 100 m. The authors stretch both to 288 px and score every
pixel. LC100Seg-S3 is scored here on 288 x 288 cells too, three a side in each pixel of the image,
but images stay on their own 96 px (heads upsample their scores), and a cell takes the number that
the map's own geotransform puts at its centre: pixels of maps are not a third of the images'
exactly, and the two begin up to a pixel apart. Cells that no map covers do not count.

Biomass-S3 asks for a number a pixel, which no task here takes; `copernicus-biomass-s3-mean` asks
for the mean of each map, as `biomassters-mean` does. The file of a place is the one that
`static_fnames-{}.csv` names of up to four.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.console import progress
from fm.errors import FMError
from probes.benchmarks import copernicus_s3 as s3
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import numbers, read_image
from shards.sources.raster_io import Header, header

CODES = (
    *(0, 20, 30, 40, 50, 60, 70, 80, 90, 100, 111, 112, 113, 114, 115, 116),
    *(121, 122, 123, 124, 125, 126, 200),
)
"""Of CGLS-LC100 in the files, in the order of `copernicus_s3.COVERS`."""
FINE = 3
"""Cells of the truth a side in each pixel of the image."""
MOST_BIOMASS = 10_000
"""t/ha; the largest of CCI biomass are near 600."""
S3 = Array("s3olci_300", "sentinel3-olci", s3.BANDS, "float32", (s3.SIDE, s3.SIDE), 300.0)
LISTS = {"train": 5181, "val": 1727, "test": 1727}


def cells(image: Header, truth: Header) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns [288] of a map's pixels under the centres of the image's cells.

    The image is cut or filled up around its middle as `copernicus_s3.sized` does; -1 stands where
    the map has no pixel.

    Raises:
        FMError: the two have different coordinate systems or turned grids, or most cells lie
            outside the map.
    """
    (a, b, c, d, e, f), (ta, tb, tc, td, te, tf) = image.transform, truth.transform
    if image.crs is None or image.crs != truth.crs or any((b, d, tb, td)):
        raise FMError(
            f"{truth.path}: {truth.crs or 'no coordinate system'}, its image has "
            f"{image.crs or 'none'}; take the published files"
        )
    middle, other = c + a * image.width / 2, tc + ta * truth.width / 2
    turn = 360 * round((other - middle) / 360) if abs(middle) <= 360 else 0  # of degrees only
    x = c + a * _places(image.width) + turn
    y = f + e * _places(image.height)
    columns = np.floor((x - tc) / ta).astype(np.int64)
    rows = np.floor((y - tf) / te).astype(np.int64)
    columns[(columns < 0) | (columns >= truth.width)] = -1
    rows[(rows < 0) | (rows >= truth.height)] = -1
    if (rows >= 0).mean() < 0.5 or (columns >= 0).mean() < 0.5:
        raise FMError(f"{truth.path}: this map lies elsewhere than its image; take the published")
    return rows, columns


def _places(size: int) -> NDArray[np.float64]:
    """Centres of the cells in pixels of an image of a size, before it is cut or filled up."""
    off = size - s3.SIDE
    first = off // 2 if off > 0 else -(-off // 2)
    return first + (np.arange(FINE * s3.SIDE, dtype=np.float64) + 0.5) / FINE


class _Covers:
    """Class numbers [288, 288] of a place."""

    def __init__(self, image: Callable[[int], Path], truth: Callable[[int], Path]) -> None:
        self._image, self._truth = image, truth
        self._classes = numbers({code: n for n, code in enumerate(CODES)})

    def __call__(self, place: int, window: Window | None) -> NDArray[np.int64]:
        assert window is None, "images are taken whole"
        path = self._truth(place)
        stored = self._classes(read_image(path), str(path))
        rows, columns = cells(header(self._image(place)), header(path))
        known = (rows >= 0)[:, None] & (columns >= 0)
        return np.where(known, stored[rows[:, None], columns], -1)


def _places_of(folder: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Places, their splits and the image of each."""
    ids: list[str] = []
    split: list[str] = []
    images: dict[str, str] = {}
    for part in s3.SPLITS:
        chosen = s3.pairs(folder / f"static_fnames-{part}.csv")
        ids += [place for place, _ in chosen]
        split += [part] * len(chosen)
        images |= dict(chosen)
    return ids, split, images


def scan_covers(folder: Path) -> Listing:
    """List `static_fnames-{}.csv`: a place and its image a line; maps are `lc100/PLACE.tif`."""
    ids, split, images = _places_of(folder)

    def image(i: int) -> Path:
        return folder / "s3_olci" / ids[i] / images[ids[i]]

    return Listing(
        ids=ids,
        split=split,
        source=s3.Sized(lambda i, array, date: image(i)),
        mask=_Covers(image, lambda i: folder / "lc100" / f"{ids[i]}.tif"),
        lonlat=lambda i: header(image(i)).lonlat,
    )


def scan_biomass(folder: Path) -> Listing:
    """List `static_fnames-{}.csv` as above; maps are `biomass/PLACE.tif`."""
    ids, split, images = _places_of(folder)

    def image(i: int) -> Path:
        return folder / "s3_olci" / ids[i] / images[ids[i]]

    found = np.empty((len(ids), 1))
    with progress("reading biomass", len(ids)) as bar:
        for n, name in enumerate(ids):
            found[n] = _mean(folder / "biomass" / f"{name}.tif")
            bar.advance()
    return Listing(
        ids=ids,
        split=split,
        source=s3.Sized(lambda i, array, date: image(i)),
        targets=found,
        lonlat=lambda i: header(image(i)).lonlat,
    )


def _mean(path: Path) -> float:
    stored = read_image(path)
    if len(stored) != 1 or stored.dtype.kind not in "ui":
        what = f"{stored.dtype} {' x '.join(map(str, stored.shape))}"
        raise FMError(f"{path}: {what}, expected one band of whole t/ha; take the published files")
    if stored.min() < 0 or stored.max() > MOST_BIOMASS:
        raise FMError(f"{path}: biomass of {int(stored.min())} to {int(stored.max())} t/ha")
    return float(stored.mean(dtype=np.float64))


DECLARATIONS = (
    Declaration(
        name="copernicus-lc100seg-s3",
        version=1,
        help="23 land covers a cell of 100 m, 21 bands of Sentinel-3 OLCI of 300 m, 96 px",
        task="segmentation",
        primary="miou",
        classes=s3.COVERS,
        arrays=(S3,),
        scan=scan_covers,
        published=LISTS,
        split="Copernicus-Bench's",
        layout="s3_olci/PLACE/, lc100/PLACE.tif and static_fnames-{train,val,test}.csv in lc100_s3",
        paper="Wang et al., arXiv 2503.11849; CGLS-LC100, doi 10.5281/zenodo.3939049",
        witness="CopernicusBenchLC100SegS3",
        leaks="the truth is laid on 288 x 288 cells by its geotransform, the authors stretch image "
        "and map to 288 px",
        checks=(s3.oxygen_is_dark,),
    ),
    Declaration(
        name="copernicus-biomass-s3-mean",
        version=1,
        help="mean biomass of a map in t/ha, 21 bands of Sentinel-3 OLCI, 96 px",
        task="regression",
        primary="rmse",
        classes=("mean above-ground biomass, t/ha",),
        arrays=(S3,),
        scan=scan_biomass,
        published={"train": 3000, "val": 1000, "test": 1000},
        split="Copernicus-Bench's",
        layout="s3_olci/PLACE/, biomass/PLACE.tif and static_fnames-{train,val,test}.csv in "
        "biomass_s3",
        paper="Wang et al., arXiv 2503.11849",
        witness="CopernicusBenchBiomassS3",
        leaks="the target is the mean of a map, zeros too, so scores are not those of the authors, "
        "whose RMSE is of pixels",
        checks=(s3.oxygen_is_dark,),
    ),
)
