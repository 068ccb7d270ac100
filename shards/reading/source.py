"""One dataset as batches need it: labels and places by row, and members read into arrays."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fm.errors import FMError, UsageError, suggest
from shards.codecs.codec import CorruptError
from shards.dataset import Dataset
from shards.format import LabelInfo
from shards.index.columns import UNKNOWN, Columns
from shards.ordering.order import drawn, hashed
from shards.reading.layout import Layout
from shards.reading.plan import Work, whole
from shards.reading.store import Place, Store

UNKNOWN_CLASS = -1
"""A class label that is not known, where the label declares no `ignore`."""
_CROP = 6


@dataclass(frozen=True)
class Choice:
    """What a loader reads of a dataset.

    Attributes:
        modalities: names; None is all.
        labels: names; None is all.
        bands: by modality the bands to give, in that order; others are given whole.
        crop: side in pixels of the finest grid; None takes samples whole.
        random_crop: place crops by a hash of (seed, position); else in the centre.
        seed: of the crops.
    """

    modalities: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    bands: Mapping[str, Sequence[str]] | None = None
    crop: int | None = None
    random_crop: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Fault:
    """A sample that could not be read.

    Attributes:
        slot: in the batch.
        reason: in words.
        shard: tar of the member that failed.
        member: that failed.
    """

    slot: int
    reason: str
    shard: str | None
    member: str | None


class Source:
    """The samples of a dataset.

    Args:
        dataset: where they come from.
        choice: what is read of them.

    Attributes:
        shapes: of each member in a batch, without the batch axis.
        modalities: those that are read.
        masks: label member to label, of those that are read.

    Raises:
        FMError: sizes differ and no crop was given, or a modality is absent in a sample.
        UsageError: an unknown name, or a crop that does not fit.
    """

    def __init__(self, dataset: Dataset, choice: Choice) -> None:
        info = dataset.info
        if choice.crop is not None:
            whole("crop", choice.crop, 1)
        elif choice.random_crop:
            raise UsageError("random_crop=True needs crop=, the side in pixels of the finest grid")
        whole("seed", choice.seed)
        bands = dict(choice.bands or {})
        names = tuple(bands) if bands and choice.modalities is None else choice.modalities
        self.modalities = _chosen("modality", names, info.modalities)
        if not self.modalities:
            raise UsageError("modalities is empty; name at least one")
        _chosen("modality", tuple(bands), dict.fromkeys(self.modalities))
        labels = _chosen("label", choice.labels, info.labels)
        self._labels = {name: info.labels[name] for name in labels}
        self.masks = {label.member: label for label in self._labels.values() if label.member}
        self.members = (*self.modalities, *self.masks)
        self.dataset, self._columns, self._choice = dataset, dataset.columns, choice
        self.store = Store(dataset.storage, info, self._columns, self.members)
        optional = tuple(m for m, label in self.masks.items() if label.ignore is not None)
        self._layout = Layout(
            self._columns, dataset.rows, self.members, self.store.dtype, optional, choice.crop
        )
        self._bands = {
            name: _places(name, info.modalities[name].bands, chosen)
            for name, chosen in bands.items()
        }
        self.shapes = dict(self._layout.shapes)
        self.bands = {name: info.modalities[name].bands for name in self.modalities}
        self.nodata = {name: info.modalities[name].nodata for name in self.modalities}
        for name, places in self._bands.items():
            shape = self.shapes[name]
            self.shapes[name] = (*shape[:-3], len(places), *shape[-2:])
            self.bands[name] = tuple(self.bands[name][i] for i in places)
            codes = self.nodata[name]
            self.nodata[name] = codes and tuple(codes[i] for i in places)
        self.scaling = {name: info.modalities[name].scaling for name in self.modalities}

    @property
    def form(self) -> dict[str, Any]:
        """All that batches of two sources must share to be mixed sample by sample."""
        return {
            "shape": self.shapes,
            "dtype": self.store.dtype,
            "bands": self.bands,
            "scale and offset": self.scaling,
            "nodata": self.nodata,
            "labels": {
                name: dataclasses.replace(label, codec=None) for name, label in self._labels.items()
            },
        }

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Turn numbers of the dataset into rows of its index; -1 stays -1."""
        kept = self.dataset.rows
        return numbers if kept is None else np.where(numbers < 0, -1, kept[numbers])

    def places(self, rows: np.ndarray) -> dict[str, list[Place]]:
        """Return where every member lies, by member, at some rows (not -1)."""
        return {member: self.store.places(member, rows) for member in self.members}

    def tasks(
        self, work: Work, slots: np.ndarray, arrays: Mapping[str, np.ndarray], pieces: int
    ) -> "list[_Piece]":
        """Cut the reading of some slots into pieces that may run in any thread.

        Args:
            work: of the step.
            slots: those of this source.
            arrays: of the whole batch, to be filled; slots that fail are zero.
            pieces: at most so many.
        """
        rows = self.rows(work.rows[slots])
        for array in arrays.values():
            array[slots[rows < 0]] = 0
        slots, rows = slots[rows >= 0], rows[rows >= 0]
        if not len(slots):
            return []
        # Neighbours in a shard go to the same thread, in the order in which they lie there.
        first = f"{self.members[0]}.offset"
        order = np.lexsort((self._columns.take(first, rows), self._columns.take("shard", rows)))
        slots, rows = slots[order], rows[order]
        if self._layout.alike:
            one = tuple(self.store.shapes(m, rows[:1])[0] for m in self.members)
            shapes = [one] * len(rows)
        else:
            shapes = list(zip(*(self.store.shapes(m, rows) for m in self.members), strict=True))
        places = zip(*(self.store.places(m, rows) for m in self.members), strict=True)
        positions = work.positions[slots].tolist()
        samples = list(zip(slots.tolist(), places, shapes, positions, strict=True))
        pieces = min(len(samples), pieces)
        cuts = [len(samples) * piece // pieces for piece in range(pieces + 1)]
        return [_Piece(self, samples[a:b], arrays) for a, b in itertools.pairwise(cuts)]

    def fill(
        self,
        slot: int,
        places: Sequence[Place],
        shapes: Sequence[tuple[int, ...]],
        position: int,
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Read one sample into its slot."""
        wanted, outs, later = [], [], []
        for member, place, shape in zip(self.members, places, shapes, strict=True):
            out = arrays[member][slot]
            if not shape:
                out[...] = self.masks[member].ignore
            elif shape == out.shape and member not in self._bands:
                wanted.append(place)
                outs.append(out)
            else:
                whole = np.empty(shape, out.dtype)
                wanted.append(place)
                outs.append(whole)
                later.append((member, out, whole))
        if wanted:
            self.store.read_into(wanted, outs)
        for member, out, whole in later:
            if self._choice.crop is not None:
                chance = self._chance(position) if self._choice.random_crop else None
                across = self._layout.window(whole.shape, member, chance)
                whole = whole[..., across[0], across[1]]
            if member in self._bands:
                whole = whole[..., self._bands[member], :, :]
            out[...] = whole

    def _chance(self, position: int) -> tuple[float, float]:
        at = np.array([2 * position, 2 * position + 1])
        low, high = drawn(2**53, at, int(hashed(self._choice.seed, _CROP))) / 2**53
        return float(low), float(high)

    def about(self, numbers: np.ndarray) -> dict[str, Any]:
        """Return what batches say beside pixels: keys, lonlat, time, times, labels, texts."""
        rows = self.rows(numbers)
        real = rows >= 0
        safe = np.where(real, rows, 0)
        columns = self._columns
        keys = columns.text("key", safe)
        lonlat = np.stack([columns.take(name, safe) for name in ("lon", "lat")], axis=1)
        lonlat[~real] = np.nan
        labels, texts = {}, {}
        for name, label in self._labels.items():
            if label.kind == "text":
                found = columns.text(name, safe)
                texts[name] = [t if r else None for t, r in zip(found, real, strict=True)]
            elif label.kind != "mask":
                labels[name] = _labels(columns, name, label, safe, real)
        return {
            "keys": [key if here else "" for key, here in zip(keys, real.tolist(), strict=True)],
            "lonlat": lonlat,
            "time": seconds(np.where(real, columns.take("time", safe), UNKNOWN)),
            "times": self._times(safe, real),
            "labels": labels,
            "texts": texts,
        }

    def _times(self, rows: np.ndarray, real: np.ndarray) -> np.ndarray | None:
        steps = {s[0] for m, s in self.shapes.items() if len(s) == 4 and m in self.modalities}
        if not steps:
            return None
        if len(steps) > 1:
            raise FMError(f"modalities of {sorted(steps)} times do not go into one batch")
        result = np.full((len(rows), steps.pop()), np.nan)
        if "times.end" in self._columns:
            for slot, moments in enumerate(self._columns.pieces("times", rows)):
                if real[slot] and len(moments) == result.shape[1]:
                    result[slot] = moments / 1e6
        return result


class _Piece:
    """Some samples of a batch, to be read one after another in one thread."""

    def __init__(
        self, source: Source, samples: list[tuple], arrays: Mapping[str, np.ndarray]
    ) -> None:
        self._source, self._samples, self._arrays = source, samples, arrays

    def __call__(self) -> list[Fault]:
        faults = []
        for slot, places, shapes, position in self._samples:
            try:
                self._source.fill(slot, places, shapes, position, self._arrays)
            except CorruptError as error:
                for array in self._arrays.values():
                    array[slot] = 0
                where = (getattr(error, name, None) for name in ("shard", "member"))
                faults.append(Fault(slot, str(error), *where))
        return faults


def seconds(microseconds: np.ndarray) -> np.ndarray:
    """Turn the index's times into float64 seconds since 1970 UTC, NaN where unknown."""
    return np.where(microseconds == UNKNOWN, np.nan, microseconds / 1e6)


def _chosen(what: str, names: Sequence[str] | None, valid: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise UsageError(f"{what} {names!r}: give a list of names")
    for name in names or ():
        if name not in valid:
            raise UsageError(f"no {what} {name!r}; {suggest(name, valid)}")
    return tuple(valid) if names is None else tuple(dict.fromkeys(names))


def _places(modality: str, bands: Sequence[str], chosen: Sequence[str]) -> list[int]:
    if isinstance(chosen, str) or not chosen:
        raise UsageError(f"bands of {modality}: give a list of names, got {chosen!r}")
    for name in chosen:
        if name not in bands:
            raise UsageError(f"{modality} has no band {name!r}; {suggest(name, bands)}")
    return [bands.index(name) for name in chosen]


def _labels(
    columns: Columns, name: str, label: LabelInfo, rows: np.ndarray, real: np.ndarray
) -> np.ndarray:
    """Return `[B, ...]`, or `[B, T, ...]` of labels of each image."""
    shape = (len(rows),) if label.images is None else (len(rows), label.images)
    here = real.reshape(len(rows), *[1] * (len(shape) - 1))
    values = columns.take(name, rows)
    if label.kind == "regression":
        return np.where(here, values.reshape(shape), np.nan)
    if label.kind == "fractions":
        return np.where(here[..., None], values.reshape(*shape, -1), np.float32(np.nan))
    if label.kind == "class":
        fill = UNKNOWN_CLASS if label.ignore is None else label.ignore
        values = values.reshape(shape)
        return np.where(here & (values != UNKNOWN), values, fill)
    bits = np.unpackbits(values.reshape(*shape, -1), axis=-1).astype(np.float32)
    known = here & (bits[..., -1] > 0)
    return np.where(known[..., None], bits[..., : len(label.classes)], np.float32(np.nan))
