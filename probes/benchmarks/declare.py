"""A benchmark that is read from the folder its authors publish, declared as data.

A declaration says what the files hold (bands in file order, type, size, unit by the sensor), which
lists make the splits and how many samples they have, the classes and the metric, and what leaks.
All of it is asserted when a folder is opened (`probes.benchmarks.opening`); nothing is guessed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fm.sensors import sensor
from probes.benchmarks.base import Benchmark, Data

Window = tuple[int, int, int, int]
"""Row, column, height, width."""


@dataclass(frozen=True)
class Array:
    """One array of a sample as the files hold it.

    Attributes:
        modality: where its pixels go, `<family><level>_<grid in metres>`. Bands of several native
            grids that the authors brought to one grid are one modality of that grid: the 13 bands
            of EuroSAT are `s2l1c_10`.
        sensor: of `fm.sensors`; says unit, scale and offset.
        file_bands: in the order of the files.
        dtype: NumPy name of the stored type. Integers are `stored * scale + offset`; floats are
            physical values.
        size: height and width; None where files differ.
        gsd_m: metres a pixel.
        take: the bands that are given; None is all. They are given in the order of the sensor's
            table, whatever the order of the files.
        source: word by which a dataset finds the array's files.
        nodata: what the files hold where nothing was measured, beside NaN. Of integers a pixel is
            invalid when any band that is given holds it.
    """

    modality: str
    sensor: str
    file_bands: tuple[str, ...]
    dtype: str
    size: tuple[int, int] | None
    gsd_m: float
    take: tuple[str, ...] | None = None
    source: str = ""
    nodata: float | None = None

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that are given, in the order of the sensor's table."""
        taken = self.file_bands if self.take is None else self.take
        return tuple(band.name for band in sensor(self.sensor).bands if band.name in taken)

    @property
    def order(self) -> list[int]:
        """Places in the file of the bands that are given."""
        return [self.file_bands.index(name) for name in self.bands]

    @property
    def scaling(self) -> tuple[float, float]:
        """Scale and offset of the stored numbers."""
        if np.dtype(self.dtype).kind == "f":
            return 1.0, 0.0
        found = sensor(self.sensor)
        return found.scale, found.offset


class Source(Protocol):
    """Reads the images of a listing, one at a time."""

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read [C, H, W] as stored, bands in file order; `date` counts from 0."""


Mask = Callable[[int, Window | None], NDArray[np.int64]]
"""Reads class numbers [H, W] of a sample, -1 where a pixel does not count."""


@dataclass(frozen=True)
class Listing:
    """What a folder holds: N samples in order.

    Attributes:
        ids: unique names.
        split: published list of each: `train`, `val` or `test`.
        source: reads their images.
        targets: as in `Data`; None where the truth is a map.
        mask: reads their maps.
        groups: scene, tile or city of each; None where every sample is its own.
        sizes: height and width of each, where the arrays' sizes differ.
        lonlat: as in `Data`, of the sample with one number; None where not known.
        times: of series, times [T] of each sample's images, ascending, seconds since 1970 UTC.
        notes: found while listing.
    """

    ids: list[str]
    split: list[str]
    source: Source
    targets: np.ndarray | None = None
    mask: Mask | None = None
    groups: list[str] | None = None
    sizes: list[tuple[int, int]] | None = None
    lonlat: Callable[[int], tuple[float, float]] | None = None
    times: list[NDArray[np.float64]] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Holdout:
    """A split that is made here, because the published lists lack it or leak.

    Groups are put in the order of the SHA-256 of `SEED/GROUP` and dealt out in that order, each
    part until it has its share; the last part gets the rest.

    Attributes:
        of: the published list that is divided; `all` throws the published lists away.
        parts: split to share.
        seed: in the hash.
        by: what is drawn: `group`, or `sample`.
    """

    of: Literal["train", "val", "all"]
    parts: Mapping[str, float]
    seed: int = 0
    by: Literal["group", "sample"] = "group"


Check = Callable[[Mapping[str, NDArray[np.float64]], str], None]
"""Takes band name to physical values of some samples, and the place for errors; raises `FMError`
when the values cannot be those bands in that unit (`probes.benchmarks.signatures`)."""


@dataclass(frozen=True)
class Declaration:
    """A benchmark as data.

    Attributes:
        name: without the version.
        version: raised when any number it gives may change.
        help: one line.
        task: as in `Benchmark`; a retrieval's queries and gallery are seen by all arrays.
        primary: as in `Benchmark`.
        classes: names in the order of the numbers.
        arrays: what a sample holds.
        scan: lists a folder.
        published: samples in each published list; a list whose number is not known is absent.
            `all` is the number of samples of all lists together.
        split: in words.
        layout: the folder that is opened, in words.
        paper: where it comes from.
        witness: the class of torchgeo 0.8.1 that opens the same folder with the same result; empty
            where it has none.
        leaks: what a reader of the scores has to know about the split.
        holdout: how a missing split is made.
        crop: side of the windows that large images are cut into; None takes images whole.
        unit: what the bootstrap draws; groups are its blocks.
        checks: of pixels, on opening.
        series: a sample is a series of dated images.
        years: of series, the years of their times are real (`probes.benchmarks.dates`).
        verified: as in `Benchmark`.
    """

    name: str
    version: int
    help: str
    task: Literal["class", "multilabel", "regression", "segmentation", "change", "retrieval"]
    primary: str
    classes: tuple[str, ...]
    arrays: tuple[Array, ...]
    scan: Callable[[Path], Listing]
    published: Mapping[str, int]
    split: str
    layout: str
    paper: str
    witness: str
    leaks: str = ""
    holdout: Holdout | None = None
    crop: int | None = None
    unit: Literal["block", "image", "scene"] = "image"
    checks: tuple[Check, ...] = ()
    series: bool = False
    years: bool = True
    verified: str = "fixtures only"

    @property
    def full_name(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    def load(self, folder: Path) -> Data:
        """Open a folder; see `probes.benchmarks.opening`."""
        from probes.benchmarks.opening import open_folder  # here, because it loads rasterio

        return open_folder(self, folder)

    def benchmark(self) -> Benchmark:
        """Enter it into the registry."""
        seen = tuple(a.modality for a in self.arrays) if self.task == "retrieval" else ()
        return Benchmark(
            name=self.name,
            version=self.version,
            help=self.help,
            source=self.layout,
            task=self.task,
            primary=self.primary,
            unit=self.unit,
            split=self.split,
            verified=self.verified,
            load=self.load,
            series=self.series,
            query=seen,
            gallery=seen,
        )
