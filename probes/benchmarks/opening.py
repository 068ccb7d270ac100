"""Open a published folder and assert everything its declaration says."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks.base import Data, Inputs
from probes.benchmarks.dates import Dates
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing, Window
from probes.benchmarks.holdout import deal

SPLITS = ("train", "val", "test")
LOOKED_AT = 24
"""Samples whose pixels are read when a folder is opened, spread over all of them."""
ENOUGH = 8192
"""Pixels of a band that are looked at in each of them; fewer where bands are many."""
MANY = 16
"""Bands from which on the pixels of all bands together are bounded."""


def open_folder(declaration: Declaration, folder: Path) -> Data:
    """Open a published folder.

    Args:
        declaration: what it should hold.
        folder: the one that `declaration.layout` describes.

    Returns:
        the benchmark; pixels are read when they are asked for.

    Raises:
        FMError: the folder is not there, a list is missing, has another number of samples than
            the published one or shares samples with another, a class is unknown, or pixels are
            not of the declared type, size, unit or band order.
    """
    name = declaration.full_name
    folder = Path(folder)
    if not folder.is_dir():
        raise FMError(f"{folder}: no such folder; {name} reads {declaration.layout}")
    listing = declaration.scan(folder)
    _check_lists(declaration, listing, folder)
    split, rule = _split(declaration.holdout, listing, folder)
    kept = [i for i, part in enumerate(split) if part in SPLITS]
    absent = [part for part in SPLITS if part not in set(split)]
    if absent:
        raise FMError(f"{folder}: no sample in {', '.join(absent)}; {name} needs all three")
    cut = _Cut.of(declaration, listing, kept)
    samples = _Samples(declaration, listing, cut, folder)
    samples.look()
    groups = [(listing.groups or listing.ids)[i] for i in cut.image]
    unit = np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)
    truth = listing.targets
    keys = [listing.ids[i] for i in cut.image]
    parts = np.array([split[i] for i in cut.image])
    targets = np.zeros(len(keys), np.int64) if truth is None else truth[cut.image]
    dates = samples.dates() if declaration.series else None
    return Data(
        read=samples.read if dates is None else dates.series,
        targets=targets,
        split=parts,
        unit=unit,
        shards=np.array(keys),
        classes=declaration.classes,
        bands={array.modality: array.bands for array in declaration.arrays},
        scaling={array.modality: array.scaling for array in declaration.arrays},
        dataset=name,
        manifest_hash=_fingerprint(declaration, keys, parts, targets, dates),
        folder=folder,
        notes=tuple(_notes(declaration, listing, rule)),
        maps=samples.maps if truth is None else None,
        lonlat=samples.lonlat if listing.lonlat is not None else None,
        gsd_m={array.modality: array.gsd_m for array in declaration.arrays},
        dates=dates,
    )


def _check_lists(declaration: Declaration, listing: Listing, folder: Path) -> None:
    doubled = [key for key, count in Counter(listing.ids).items() if count > 1]
    if doubled:
        more = f" and {len(doubled) - 1} more" if len(doubled) > 1 else ""
        raise FMError(
            f"{folder}: {doubled[0]}{more} stand in the lists twice; take the published lists"
        )
    found = Counter(listing.split)
    for part, want in declaration.published.items():
        have = len(listing.split) if part == "all" else found.get(part, 0)
        if have != want:
            raise FMError(
                f"{folder}: {have} samples in {part}, the published list of "
                f"{declaration.full_name} has {want}; the download or its lists are incomplete"
            )
    if listing.targets is not None and listing.targets.ndim == 1:
        bad = (listing.targets < 0) | (listing.targets >= len(declaration.classes))
        if bad.any() and listing.targets.dtype.kind == "i":
            raise FMError(f"{folder}: {listing.ids[int(bad.argmax())]}: its class is unknown")


def _split(holdout: Holdout | None, listing: Listing, folder: Path) -> tuple[list[str], str]:
    """Apply the rule that makes the missing split; say it in words."""
    split = list(listing.split)
    if holdout is None:
        return split, ""
    rows = [i for i, part in enumerate(split) if holdout.of in ("all", part)]
    names = listing.ids if holdout.by == "sample" or listing.groups is None else listing.groups
    try:
        dealt = deal([names[i] for i in rows], holdout.parts, holdout.seed)
    except FMError as error:
        raise FMError(f"{folder}: {error}; take the whole dataset") from None
    for i, part in zip(rows, dealt, strict=True):
        split[i] = part
    shares = ", ".join(f"{part} {share:g}" for part, share in holdout.parts.items())
    what = "all samples" if holdout.of == "all" else f"the published {holdout.of} list"
    return split, (
        f"{what} dealt to {shares} by whole {holdout.by}s in the order of "
        f"SHA-256(SEED/NAME), seed {holdout.seed}"
    )


class _Cut:
    """Windows of the images that are in a split: [N] image numbers and windows."""

    def __init__(self, image: list[int], window: list[Window | None]) -> None:
        self.image, self.window = image, window

    @classmethod
    def of(cls, declaration: Declaration, listing: Listing, kept: Sequence[int]) -> "_Cut":
        if declaration.crop is None:
            return cls(list(kept), [None] * len(kept))
        image: list[int] = []
        window: list[Window | None] = []
        side = declaration.crop
        for i in kept:
            size = listing.sizes[i] if listing.sizes is not None else declaration.arrays[0].size
            assert size is not None, "a dataset that is cut knows its sizes"
            for row in range(0, size[0], side):
                for col in range(0, size[1], side):
                    image.append(i)
                    window.append((row, col, min(side, size[0] - row), min(side, size[1] - col)))
        return cls(image, window)


class _Samples:
    """Reads pixels and maps of samples, checked against the declaration."""

    def __init__(self, declaration: Declaration, listing: Listing, cut: _Cut, folder: Path) -> None:
        self.declaration, self.listing, self.cut = declaration, listing, cut
        self.folder = folder

    def read(self, index: NDArray[np.int64]) -> Inputs:
        """Pixels of some samples."""
        first = self._read(index, 0)
        if self.declaration.task != "change":
            return first
        return Inputs(first.pixels, first.valid, self._read(index, 1))

    def dates(self) -> Dates:
        """The images of samples that are series.

        Raises:
            FMError: a sample without an image, or times out of order.
        """
        assert self.listing.times is not None, "a listing of series has times"
        times = [self.listing.times[i] for i in self.cut.image]
        lengths = [len(one) for one in times]
        owner = np.repeat(np.arange(len(times)), lengths)
        place = np.concatenate([np.arange(n) for n in lengths])
        return Dates(
            len(times),
            owner,
            np.concatenate(times),
            lambda numbers: self._read(owner[numbers], place[numbers]),
            years=self.declaration.years,
            sure=all(array.nodata is None for array in self.declaration.arrays),
        )

    def maps(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Maps [B, H, W] of some samples; -1 outside an image."""
        assert self.listing.mask is not None, "a listing without targets has maps"
        side = self.declaration.crop
        found = []
        for n in index.tolist():
            place, window = self.cut.image[n], self.cut.window[n]
            truth = self.listing.mask(place, window)
            if truth.max(initial=-1) >= len(self.declaration.classes) or truth.min(initial=0) < -1:
                raise FMError(
                    f"{self.folder}: {self.listing.ids[place]}: its map holds class "
                    f"{int(truth.max())}, there are {len(self.declaration.classes)}"
                )
            if side is not None and truth.shape != (side, side):
                truth = np.pad(truth, _margin(truth.shape, side), constant_values=-1)
            found.append(truth)
        return np.stack(found)

    def lonlat(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Places [B, 2] of some samples: those of their images' centres."""
        assert self.listing.lonlat is not None
        return np.array([self.listing.lonlat(self.cut.image[n]) for n in index.tolist()])

    def look(self) -> None:
        """Read some samples of every array and run the declaration's checks on them."""
        count = len(self.cut.image)
        some = np.unique(np.linspace(0, count - 1, min(LOOKED_AT, count)).astype(np.int64))
        values: dict[str, list[np.ndarray]] = {}
        for array in self.declaration.arrays:
            scale, offset = array.scaling
            for n in some.tolist():
                for date in self._looked_at(n):
                    pixels = self._given(n, array, date)
                    enough = ENOUGH * MANY // max(MANY, len(pixels))
                    step = max(1, pixels[0].size // enough) | 1  # odd: not the same columns
                    for band, plane in zip(array.bands, pixels, strict=True):
                        some_of = plane.ravel()[::step]
                        physical = some_of.astype(np.float64) * scale + offset
                        if some_of.dtype.kind != "f" and array.nodata is not None:
                            physical[some_of == array.nodata] = np.nan
                        values.setdefault(band, []).append(physical)
        flat = {band: np.concatenate(planes) for band, planes in values.items()}
        for band, one in flat.items():
            if not np.isfinite(one).any():
                raise FMError(f"{self.folder}: {band} holds no number in {len(some)} samples")
        flat = {band: one[np.isfinite(one)] for band, one in flat.items()}
        for check in self.declaration.checks:
            check(flat, f"{self.folder}: {len(some)} samples")
        if self.listing.targets is None:
            self.maps(some[: LOOKED_AT // 4])

    def _looked_at(self, n: int) -> tuple[int, ...]:
        if self.listing.times is not None:
            return 0, len(self.listing.times[self.cut.image[n]]) // 2
        return (0, 1) if self.declaration.task == "change" else (0,)

    def _read(self, index: NDArray[np.int64], date: int | NDArray[np.int64]) -> Inputs:
        pixels: dict[str, np.ndarray] = {}
        valid: dict[str, NDArray[np.bool_]] = {}
        side, dates = self.declaration.crop, np.broadcast_to(date, len(index))
        for array in self.declaration.arrays:
            planes, masks = [], []
            for n, at in zip(index.tolist(), dates.tolist(), strict=True):
                one = self._given(n, array, at)
                mask = _measured(one, array)
                if side is not None and mask.shape != (side, side):
                    margin = _margin(mask.shape, side)
                    one, mask = np.pad(one, ((0, 0), *margin)), np.pad(mask, margin)
                planes.append(one)
                masks.append(mask)
            whole, known = np.stack(planes), np.stack(masks)
            if not known.all():
                whole = np.where(known[:, None], whole, np.zeros((), whole.dtype))
            pixels[array.modality], valid[array.modality] = whole, known
        if all(mask.all() for mask in valid.values()):
            return Inputs(pixels)
        return Inputs(pixels, valid)

    def _given(self, n: int, array: Array, date: int) -> np.ndarray:
        """The bands that are given; floats are float32 with NaN where nothing was measured."""
        one = self._one(n, array, date)[array.order]
        if one.dtype.kind != "f":
            return one
        one = one.astype(np.float32)
        if array.nodata is not None:
            one[one == np.float32(array.nodata)] = np.nan
        return one

    def _one(self, n: int, array: Array, date: int) -> np.ndarray:
        """One array of one sample, [C, H, W] in file order, of the declared type and size."""
        place, window = self.cut.image[n], self.cut.window[n]
        found = self.listing.source.image(place, array, date, window)
        bands, size = len(array.file_bands), array.size
        if window is not None:
            size = window[2:]
        what = f"{found.dtype} {' x '.join(map(str, found.shape))}"
        wrong_size = size is not None and found.shape[1:] != size
        if found.ndim != 3 or found.shape[0] != bands or found.dtype != array.dtype or wrong_size:
            wanted = " x ".join(map(str, (bands, *(size or ("any", "any")))))
            raise FMError(
                f"{self.folder}: {self.listing.ids[place]}: {what} for {array.modality}, expected "
                f"{array.dtype} {wanted}; take the published files"
            )
        return found


def _measured(one: np.ndarray, array: Array) -> NDArray[np.bool_]:
    """Where every band [C, H, W] that is given holds a measurement."""
    if one.dtype.kind == "f":
        return np.asarray(np.isfinite(one).all(0))
    if array.nodata is None:
        return np.ones(one.shape[1:], bool)
    return np.asarray((one != array.nodata).all(0))


def _margin(shape: Sequence[int], side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, side - shape[0]), (0, side - shape[1])


def _notes(declaration: Declaration, listing: Listing, rule: str) -> list[str]:
    notes = []
    if declaration.verified.startswith("fixtures"):
        notes.append("this reader was checked on generated files only, never on the real dataset")
    if declaration.leaks:
        notes.append(declaration.leaks)
    if rule:
        notes.append(f"split made here: {rule}")
    if declaration.crop is not None:
        notes.append(f"images are cut into windows of {declaration.crop} px, edges are filled up")
    return [*notes, *listing.notes]


def _fingerprint(
    declaration: Declaration,
    keys: Sequence[str],
    split: np.ndarray,
    targets: np.ndarray,
    dates: Dates | None,
) -> str:
    """SHA-256 of what the samples are: names, splits, classes, bands, dates (not every pixel)."""
    digest = hashlib.sha256()
    about = {
        "benchmark": declaration.full_name,
        "classes": declaration.classes,
        "bands": {a.modality: (a.file_bands, a.bands, a.dtype) for a in declaration.arrays},
        "crop": declaration.crop,
    }
    digest.update(json.dumps(about, sort_keys=True).encode())
    for key, part in zip(keys, split.tolist(), strict=True):
        digest.update(f"{key} {part}\n".encode())
    digest.update(np.ascontiguousarray(targets).tobytes())
    if dates is not None:
        digest.update(dates.starts.tobytes())
        digest.update(dates.times.tobytes())
    return digest.hexdigest()
