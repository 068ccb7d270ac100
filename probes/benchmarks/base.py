"""What a benchmark is, and what it gives once its dataset folder is open."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from probes.benchmarks.dates import Dates
    from probes.geolocation.cells import Cells


@dataclass(frozen=True)
class Inputs:
    """Pixels of some samples, as `encode` takes them.

    Attributes:
        pixels: modality to [B, C, H, W] of the stored type; of series [B, T, C, H, W].
        valid: modality to [B, H, W] bool ([B, T, H, W]); None when every pixel is valid.
        after: the same of the second date, where a sample is a pair of dates.
        times: [B], of series [B, T], seconds since 1970 UTC, NaN where not known; None where
            models are told no times.
    """

    pixels: dict[str, np.ndarray]
    valid: dict[str, NDArray[np.bool_]] | None = None
    after: "Inputs | None" = None
    times: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, pixels: dict[str, np.ndarray]) -> "Inputs":
        """Take whole images; pixels that are NaN in any band become invalid and zero."""
        valid = {
            m: np.isfinite(x).all(-3)
            if x.dtype.kind == "f"
            else np.ones((*x.shape[:-3], *x.shape[-2:]), bool)
            for m, x in pixels.items()
        }
        return cls.known(pixels, valid)

    @classmethod
    def known(cls, pixels: dict[str, np.ndarray], valid: dict[str, NDArray[np.bool_]]) -> "Inputs":
        """Take whole images; invalid pixels (see `valid`) become zero."""
        if all(mask.all() for mask in valid.values()):
            return cls(pixels)
        clean = {
            m: np.where(valid[m][..., None, :, :], x, np.zeros((), x.dtype))
            for m, x in pixels.items()
        }
        return cls(clean, valid)


@dataclass(frozen=True)
class Data:
    """A benchmark with its dataset open. `N` samples, `K` classes.

    Attributes:
        read: gives the inputs of the samples with the given numbers.
        targets: [N] class numbers from 0, [N, K] bool of labels, or [N, T] numbers of a
            regression (NaN where not known); [N] zeros where the truth is a map.
        split: [N] of `train`, `val`, `test`.
        unit: [N] number of the block or image that a sample belongs to, for the bootstrap.
        shards: [N] key of the stored sample that a sample was cut from, for overlaps.
        classes: names of the K classes, or of the T targets.
        bands: modality to the band names of the stored arrays.
        scaling: modality to (scale, offset) of stored integers.
        dataset: name of the dataset.
        manifest_hash: of the dataset.
        folder: where it lies.
        notes: what a reader of the numbers has to know.
        maps: gives the truth of the samples with the given numbers as [B, H, W] class numbers,
            -1 where a pixel does not count; None where the truth is not a map.
        lonlat: gives the places of the samples with the given numbers as [n, 2] longitude and
            latitude in degrees, NaN where not known; None where the dataset tells no places, or
            is a dataset of `shards` and tells them itself.
        gsd_m: modality to metres a pixel, where that is not what the sensor's table says.
        dates: the images of the samples, where each sample is a series of them; `read` then gives
            whole series.
        cells: what the classes are of the task `geolocation`; `lonlat` then knows every sample's
            place, and a target is -1 where that lies in no cell.
    """

    read: Callable[[NDArray[np.int64]], Inputs]
    targets: np.ndarray
    split: NDArray[np.str_]
    unit: NDArray[np.int64]
    shards: NDArray[np.str_]
    classes: tuple[str, ...]
    bands: dict[str, tuple[str, ...]]
    scaling: dict[str, tuple[float, float]]
    dataset: str
    manifest_hash: str
    folder: Path
    notes: tuple[str, ...] = ()
    maps: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None
    lonlat: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None
    gsd_m: dict[str, float] = field(default_factory=dict)
    dates: "Dates | None" = None
    cells: "Cells | None" = None

    def single(self) -> "Data":
        """The same data with the images of the series as its samples, in the series' splits.

        Itself where samples are single images. Images have no targets.
        """
        if self.dates is None:
            return self
        owner, places = self.dates.owner, self.lonlat
        return replace(
            self,
            read=self.dates.images,
            targets=np.zeros(len(owner), np.int64),
            split=self.split[owner],
            unit=self.unit[owner],
            shards=self.shards[owner],
            maps=None,
            lonlat=None if places is None else lambda index: places(owner[index]),
            dates=None,
            cells=None,
        )

    def of(self, split: str) -> NDArray[np.int64]:
        """Numbers of the samples in a split."""
        return np.flatnonzero(self.split == split)

    def split_lists(self) -> dict[str, dict[str, Any]]:
        """Number of stored samples of each split and SHA-256 of their sorted keys, a line each."""
        found = {}
        for name in ("train", "val", "test"):
            keys = sorted(set(self.shards[self.of(name)].tolist()))
            digest = hashlib.sha256("".join(f"{key}\n" for key in keys).encode())
            found[name] = {"stored_samples": len(keys), "sha256": digest.hexdigest()}
        return found


@dataclass(frozen=True)
class Benchmark:
    """Data, split, bands, task and metric, declared once.

    Attributes:
        name: without the version.
        version: raised when any number it gives may change.
        help: one line.
        source: how to get the dataset: a `fm shards build` command, or the layout of the
            published folder.
        task: `class` (one class a sample), `multilabel`, `regression`, or a class a pixel:
            `segmentation`, or `change` between two dates; `retrieval` of like samples; or
            `geolocation`, the place of a sample.
        primary: the metric that selection and differences use.
        unit: what the bootstrap draws.
        split: the split in words.
        verified: on what the reading was checked: begins with `real files`, `samples` of them,
            or `fixtures only`.
        load: opens a dataset folder; FMError when it is not the right dataset.
        protocols: the only protocol families it takes; None takes all.
        why_only: the reason for `protocols`, for the refusal.
        fixed_c: C of the logistic regressions where there is no validation split.
        query: modalities of a query of a retrieval; the model encodes them alone.
        gallery: modalities of the samples it is compared with, likewise.
        series: a sample is a series of dated images.
        floors: protocols without a model that stand beside a row here, whatever its protocol.
    """

    name: str
    version: int
    help: str
    source: str
    task: Literal[
        "class",
        "multilabel",
        "regression",
        "segmentation",
        "change",
        "retrieval",
        "geolocation",
    ]
    primary: str
    unit: Literal["block", "image", "scene"]
    split: str
    verified: str
    load: Callable[[Path], Data]
    protocols: tuple[str, ...] | None = None
    why_only: str = ""
    fixed_c: float | None = None
    query: tuple[str, ...] = ()
    gallery: tuple[str, ...] = ()
    series: bool = False
    floors: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def checked_on(self) -> str:
        """The first words of `verified`: `real files`, `samples` or `fixtures only`."""
        kinds = ("real files", "samples", "fixtures only")
        return next((kind for kind in kinds if self.verified.startswith(kind)), self.verified)
