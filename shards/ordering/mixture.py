"""Mixtures: several datasets as one stream, the same on any number of ranks and threads.

Which part stands at a position, and which sample of that part, is computed
(`shards.ordering.interleave`, `shards.ordering.order`), so a position is one integer, as in the
stream of one dataset.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash

from fm.console import note
from fm.errors import UsageError, suggest
from shards.ordering.interleave import LONGEST, Interleave
from shards.ordering.order import WINDOW, Order, hashed

if TYPE_CHECKING:
    import torch

    from shards.dataset import Dataset
    from shards.format import ModalityInfo
    from shards.reading.batch import Batch
    from shards.reading.plan import Schedule, Share
    from shards.reading.source import Choice

_PARTS = 7
_CHOICES = ("modalities", "labels", "bands", "crop", "random_crop")


class Mixture:
    """Several datasets as one endless stream; it loads like a `Dataset`.

    Args:
        parts: datasets by name; their order matters for the sequence.
        weights: share of the samples that comes from each part; see `Interleave`.
        epoch: what one epoch is: the name of a part (the mixture is as long as it takes to go
            through that part once, at its realised weight), or a number of samples.
        by: `sample` deals sample by sample: all parts then have the same modalities, bands, shapes,
            dtypes, scaling and labels (checked when they are loaded). `batch` deals whole batches:
            each step comes from one part, so at one step all ranks draw the same modalities, which
            may differ from part to part.
        replacement: draw every sample from the whole part instead of going through it.

    Attributes:
        parts: by name.
        realised: the weights that are realised, by name.
        by: as given.
        epoch: as given.
        epoch_samples: samples in one epoch; also `len()`.
        modalities: of all parts, by name.

    Raises:
        UsageError: weights that do not name the parts, an unknown name or value, two parts that
            give one name to arrays of other bands or pixel sizes, or, by sample, that differ in
            their modalities.
    """

    def __init__(
        self,
        parts: "Mapping[str, Dataset]",
        weights: Mapping[str, float],
        *,
        epoch: str | int,
        by: Literal["sample", "batch"] = "sample",
        replacement: bool = False,
    ) -> None:
        if not parts or set(weights) != set(parts):
            raise UsageError(
                f"parts {sorted(parts)} and weights {sorted(weights)}: give every part one weight"
            )
        if by not in ("sample", "batch"):
            raise UsageError(f"by={by!r}: say 'sample' or 'batch'")
        self.parts, self.by, self.replacement = dict(parts), by, replacement
        self._weights = [float(weights[name]) for name in parts]
        deal = Interleave(self._weights)
        self.realised = dict(zip(parts, deal.weights.tolist(), strict=True))
        if not deal.exact:
            told = ", ".join(f"{name} {share:.6g}" for name, share in self.realised.items())
            note(f"mixture: weights rounded to multiples of 1/{LONGEST}: {told}")
        self.epoch = epoch
        if isinstance(epoch, str):
            if epoch not in self.parts:
                raise UsageError(f"epoch={epoch!r} is no part; {suggest(epoch, self.parts)}")
            quota = int(deal.quotas[list(self.parts).index(epoch)])
            self.epoch_samples = math.ceil(len(self.parts[epoch]) * deal.cycle / quota)
        else:
            self.epoch_samples = int(epoch)
            if self.epoch_samples < 1:
                raise UsageError(f"epoch={epoch}: an epoch has at least 1 sample")
        self.modalities = self._union()

    def __len__(self) -> int:
        return self.epoch_samples

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {share:.4g}" for name, share in self.realised.items())
        return f"Mixture({parts}, by {self.by}, {self.epoch_samples} samples an epoch)"

    def _union(self) -> "dict[str, ModalityInfo]":
        found: dict[str, ModalityInfo] = {}
        first = next(iter(self.parts))
        for name, ds in self.parts.items():
            if self.by == "sample" and set(ds.modalities) != set(self.parts[first].modalities):
                raise UsageError(
                    f"{name} has {sorted(ds.modalities)}, {first} has "
                    f"{sorted(self.parts[first].modalities)}; deal whole batches: by='batch'"
                )
            for key, info in ds.modalities.items():
                other = found.setdefault(key, info)
                if (info.bands, info.gsd_m) != (other.bands, other.gsd_m):
                    raise UsageError(f"{key} of {name} has other bands or pixels than in the rest")
        return found

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, each once."""
        return tuple(dict.fromkeys(name for ds in self.parts.values() for name in ds.sensors))

    @functools.cached_property
    def manifest_hash(self) -> str:
        """Hash of all that decides what the stream is but seed and batch size."""
        content = {
            "parts": [
                [name, ds.manifest_hash, None if ds.rows is None else _hash(ds.rows)]
                for name, ds in self.parts.items()
            ],
            "quotas": Interleave(self._weights).quotas.tolist(),
            "by": self.by,
            "replacement": self.replacement,
            "epoch_samples": self.epoch_samples,
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def statistics(self, modality: str) -> dict[str, dict[str, list[float]]]:
        """Return per-band statistics of a modality by the parts that have it.

        Raises:
            UsageError: no part has it.
        """
        if modality not in self.modalities:
            raise UsageError(f"no modality {modality!r}; {suggest(modality, self.modalities)}")
        return {
            name: ds.statistics(modality)
            for name, ds in self.parts.items()
            if modality in ds.modalities
        }

    def loader(
        self,
        batch_size: int = 256,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
        *,
        modalities: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        threads: int = 2,
        steps: int | None = None,
        shuffle: bool = True,
        window: int = WINDOW,
        crop: int | None = None,
        random_crop: bool = False,
        each: Mapping[str, Mapping[str, Any]] | None = None,
        device: "torch.device | str | None" = None,
        on_quarantine: Callable[[str, str], None] | None = None,
        max_bad: float = 0.05,
        report: str | os.PathLike[str] | None = None,
    ) -> "Generator[Batch, None, None]":
        """Stream batches; arguments are those of `Dataset.loader`.

        Dealt by batch, `position` is a multiple of `batch_size`; epoch e begins with the first
        whole batch at or after its first sample; of `modalities`, `labels` and `bands` each part
        gives those it has, and `batch.part` names the part; `each` names the `modalities`,
        `labels`, `bands`, `crop` or `random_crop` of single parts, instead of those given for all.
        `max_bad` holds for each part.

        Raises:
            FMError: as `Dataset.loader`, and parts whose batches are not alike, dealt by sample.
            UsageError: an argument out of range or an unknown name.
        """
        from shards.reading import plan, reader
        from shards.reading.quarantine import Quarantine
        from shards.reading.source import Choice, Source

        plan.whole("epoch", epoch, 0)
        plan.whole("window", window, 1)
        share = plan.Share(batch_size, rank, world_size, position)
        if self.by == "batch" and position % batch_size:
            raise UsageError(
                f"position {position} is no multiple of batch_size {batch_size}; a mixture dealt "
                "by batch goes on at whole batches, with the same batch size"
            )
        schedule = self._schedule(share, seed, epoch, shuffle, window)
        choice = Choice(modalities, labels, bands, crop, random_crop, seed)
        own = self._each(each or {})
        sources = [
            Source(ds, dataclasses.replace(self._own(choice, name), **own.get(name, {})))
            for name, ds in self.parts.items()
        ]
        quarantines = [
            Quarantine(
                len(ds),
                max_bad,
                report=report,
                on_quarantine=on_quarantine,
                dataset=ds.place,
                part=name,
            )
            for name, ds in self.parts.items()
        ]
        return reader.load(
            sources,
            plan.until(schedule, steps),
            quarantines,
            names=list(self.parts) if self.by == "batch" else None,
            threads=threads,
            device=device,
        )

    def _schedule(
        self, share: "Share", seed: int, epoch: int, shuffle: bool, window: int
    ) -> "Schedule":
        from shards.reading.plan import Work

        block = share.batch_size if self.by == "batch" else 1
        begin = -(-epoch * self.epoch_samples // block) * block
        deal = Interleave(self._weights, seed, block)
        orders = [
            Order(
                len(ds),
                int(hashed(seed, _PARTS, xxhash.xxh3_64_intdigest(name.encode()))),
                window=window,
                shuffle=shuffle,
                replacement=self.replacement,
            )
            for name, ds in self.parts.items()
        ]

        def work(step: int) -> Work:
            start, stop = share.range(step)
            parts, places = deal.locate(begin + start, begin + stop)
            rows = np.empty(stop - start, np.int64)
            for part in np.unique(parts):
                mine = parts == part
                within = places[mine]  # consecutive: a part's places have no gap
                rows[mine] = orders[part].indices(int(within[0]), int(within[-1]) + 1)
            positions = np.arange(start, stop, dtype=np.int64)
            epochs = (begin + positions) // self.epoch_samples
            return Work(rows, positions, epochs, parts)

        return work

    def _each(self, each: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        if each and self.by == "sample":
            raise UsageError("each= needs a mixture dealt by batch: by='batch'")
        _known("part", each, self.parts)
        for choices in each.values():
            _known("choice of a part", choices, _CHOICES)
        return {name: dict(choices) for name, choices in each.items()}

    def _own(self, choice: "Choice", name: str) -> "Choice":
        """What is read of one part: by batch, what it has of what was asked for."""
        labels = {label for ds in self.parts.values() for label in ds.info.labels}
        _known("modality", choice.modalities, self.modalities)
        _known("modality", choice.bands, self.modalities)
        _known("label", choice.labels, labels)
        if self.by == "sample":
            return choice
        ds = self.parts[name]
        wanted = choice.bands if choice.modalities is None and choice.bands else choice.modalities
        own = list(ds.modalities if wanted is None else _both(wanted, ds.modalities))
        if not own:
            raise UsageError(f"part {name} has none of {list(wanted or ())}; leave it out")
        own_labels = None if choice.labels is None else _both(choice.labels, ds.info.labels)
        own_bands = {key: names for key, names in (choice.bands or {}).items() if key in own}
        return dataclasses.replace(choice, modalities=own, labels=own_labels, bands=own_bands)


def _known(what: str, names: Iterable[str] | None, valid: Iterable[str]) -> None:
    for name in names or ():
        if name not in valid:
            raise UsageError(f"no {what} {name!r}; {suggest(name, valid)}")


def _both(names: Iterable[str], valid: Iterable[str]) -> list[str]:
    return [name for name in names if name in valid]


def _hash(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
