"""What a run reads: one dataset, or the parts of a mixture in turns, and what its samples are."""

import dataclasses
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import shards
from fm.errors import UsageError, suggest
from fm.normalize import Kind, Normalisation
from fm.sensors import Band, Sensor, list_sensors, sensor, sensor_of_modality
from pretrain import pixels
from pretrain.config import RunConfig
from pretrain.labels import ReadLabels
from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.settings.data import DataConfig, Samples
from pretrain.whereabouts import check_whereabouts

Shape = tuple[int, ...]
Statistics = dict[str, list[float]]


@dataclass(frozen=True)
class Layout:
    """What the samples of a run are: enough to build its model.

    Attributes:
        bands: modality to the bands that are read, on the grid on which they are stored.
        scaling: modality to (scale, offset) of its stored integers, the first part's.
        shapes: part to modality to the shape of a sample, `[C, H, W]` or `[T, C, H, W]`.
        statistics: modality to the statistics of its bands; None where no pixel was seen.
    """

    bands: dict[str, tuple[Band, ...]]
    scaling: dict[str, tuple[float, float]]
    shapes: dict[str, dict[str, Shape]]
    statistics: dict[str, Statistics] | None

    def normalisation(self, kind: Kind | Literal["identity"]) -> dict[str, Normalisation] | None:
        """Fit a kind of normalisation to each modality; None without statistics.

        `identity` leaves physical units as they are.

        Raises:
            FMError: the statistics do not give it.
        """
        if kind == "identity":
            return {name: Normalisation.identity(len(own)) for name, own in self.bands.items()}
        if self.statistics is None:
            return None
        return {name: Normalisation.fit(kind, found) for name, found in self.statistics.items()}

    def select(self, bands: Mapping[str, Sequence[str]]) -> "Layout":
        """Return the layout of some of the bands, by modality and in that order.

        Raises:
            UsageError: one that is not read.
        """
        if wrong := sorted(set(bands) - set(self.bands)):
            raise UsageError(
                f"model.bands names {wrong[0]}, which is not read; {suggest(wrong[0], self.bands)}"
            )
        places = {}
        for name, wanted in bands.items():
            read = [band.name for band in self.bands[name]]
            places[name] = [read.index(n) for n in _expanded(wanted, read, "model.bands")]
        return Layout(
            {name: tuple(self.bands[name][i] for i in own) for name, own in places.items()},
            {name: self.scaling[name] for name in places},
            {
                part: {
                    name: (*shape[:-3], len(places[name]), *shape[-2:])
                    for name, shape in shapes.items()
                    if name in places
                }
                for part, shapes in self.shapes.items()
            },
            None
            if self.statistics is None
            else {
                name: {key: [v[i] for i in own] for key, v in self.statistics[name].items()}
                for name, own in places.items()
            },
        )


class RunData:
    """The opened datasets of a run.

    Args:
        config: what the run's config says of its data.
        parts: name to dataset, in the order of the names; one dataset is the part `""`.

    Attributes:
        layout: what its samples are.
        stream: what is streamed: the dataset, or the mixture of the parts.
        labels: those that the loader reads; none until `read_labels`.
    """

    def __init__(self, config: DataConfig, parts: Mapping[str, shards.Dataset]) -> None:
        self.config, self.parts = config, dict(parts)
        self._choices = {name: _choice(config.datasets[name], ds) for name, ds in parts.items()}
        self.stream: Any = parts.get("")
        weights = dict.fromkeys(parts, 1.0)
        if config.parts is not None:
            weights = {name: config.parts[name].weight for name in parts}
            total = sum(map(len, parts.values()))
            self.stream = shards.Mixture(parts, weights, epoch=total, by="batch")
            weights = self.stream.realised
        self.weights = weights
        self.layout = self._layout()
        self.labels = ReadLabels((), parts)

    @property
    def manifest_hash(self) -> str | dict[str, str]:
        """Hash of the dataset's content, or of each part's."""
        if self.config.parts is None:
            return str(self.stream.manifest_hash)
        return {name: ds.manifest_hash for name, ds in self.parts.items()}

    def read_labels(self, objective: Objective) -> None:
        """Have the loader read the labels that an objective asks for, and tell it their classes.

        Raises:
            UsageError: a part has not such a label, or not as the objective needs it; see
                `check_whereabouts`.
        """
        check_whereabouts(objective, self.parts)
        self.labels = ReadLabels(objective.label_names, self.parts, objective.label_kinds)
        objective.take_classes(self.labels.classes)

    def loader(self, **options: Any) -> "Generator[Any, None, None]":
        """Stream batches; options are those of `shards.Dataset.loader` that no part has."""
        made = self._choices[""] if self.config.parts is None else {"each": self._choices}
        return self.stream.loader(labels=self.labels.names, **made, **options)

    def reading(self, modality: str) -> list[tuple[shards.Dataset, float]]:
        """Return the datasets that a modality is read from, and their shares of the steps."""
        return [
            (ds, self.weights[name])
            for name, ds in self.parts.items()
            if modality in self._choices[name]["modalities"]
        ]

    def first(self, name: str, count: int, **options: Any) -> Any:
        """Read the first samples of a part in its stored order, as one batch."""
        choice = {**self._choices[name], "random_crop": False}
        loader = self.parts[name].loader(
            batch_size=count, steps=1, shuffle=False, labels=(), threads=1, **choice, **options
        )
        batch = next(iter(loader))
        loader.close()
        return batch

    def _layout(self) -> Layout:
        bands: dict[str, tuple[Band, ...]] = {}
        scaling: dict[str, tuple[float, float]] = {}
        seen: dict[str, list[tuple[float, Statistics]]] = {}
        shapes: dict[str, dict[str, Shape]] = {}
        for part, ds in self.parts.items():
            choice = self._choices[part]
            sizes = ds.shapes(choice["modalities"], crop=choice["crop"])
            shapes[part] = {}
            for name in choice["modalities"]:
                info = ds.modalities[name]
                taken = choice["bands"].get(name, info.bands)
                table = {band.name: band for band in info.table}
                own = tuple(
                    dataclasses.replace(table[n], gsd_m=info.gsd_m, modality=name) for n in taken
                )
                if bands.setdefault(name, own) != own:
                    raise UsageError(
                        f"data.parts.{part}: {name} has other bands or another grid there than in "
                        f"the parts before; read the same bands of it everywhere (bands:)"
                    )
                scaling.setdefault(name, (info.scale, info.offset))
                shapes[part][name] = (*sizes[name][:-3], len(own), *sizes[name][-2:])
                _check_images(self.config.datasets[part], part, name, sizes[name])
                if len(sizes[name]) == 4 and not _dated(ds):
                    raise UsageError(
                        f"{ds.path}: series of {name} without the images' times, so a model cannot "
                        f"tell them apart; write them with the samples (times=)"
                    )
                found = self._statistics(ds, name, taken)
                seen.setdefault(name, []).append((self.weights[part], found))
        statistics = {name: _pooled(several) for name, several in seen.items()}
        return Layout(bands, scaling, shapes, statistics)

    def _statistics(self, ds: shards.Dataset, name: str, bands: Sequence[str]) -> Statistics:
        if self.config.statistics == "samples":
            return pixels.statistics(ds, name, bands, max_bad=self.config.max_bad)
        places = [ds.modalities[name].bands.index(n) for n in bands]
        return {k: [v[i] for i in places] for k, v in ds.statistics(name).items()}


def open_data(config: RunConfig) -> RunData:
    """Open the run's datasets and check that the config fits them.

    Raises:
        FMError: one is missing or empty, holds no such modality or band, or the sizes do not
            divide.
    """
    check_batch(config, collective.world_size())
    parts = {
        name: shards.open(str(part.path), where=part.where, split=part.split, cache=part.cache)
        for name, part in config.data.datasets.items()
    }
    return RunData(config.data, parts)


def check_batch(config: RunConfig, world: int) -> tuple[int, int]:
    """Return a rank's micro-batch and how many of them make its share of the batch.

    Raises:
        UsageError: ranks times micro-batch times a whole number is not the batch; names the nearest
            sizes that are. A queue that a batch does not fit in.
    """
    size, micro = config.data.batch_size, config.engine.micro_batch
    _check_queue(config.objective, size)
    if size % world:
        raise UsageError(
            f"data.batch_size={size} does not divide over {world} ranks; nearest that does: "
            f"{_multiples(size, world)}"
        )
    share = size // world
    if micro and share % micro:
        divisors = [n for n in range(1, share + 1) if share % n == 0]
        below = max(n for n in divisors if n < micro)
        above = [str(n) for n in divisors if n > micro][:1]
        raise UsageError(
            f"engine.micro_batch={micro} x {world} ranks x whole steps of accumulation do not make "
            f"data.batch_size={size} (a rank's share is {share}); nearest engine.micro_batch: "
            f"{' or '.join([str(below), *above])}, nearest data.batch_size: "
            f"{_multiples(size, world * micro)}"
        )
    return micro or share, share // (micro or share)


def _check_queue(objective: Any, size: int, where: str = "objective") -> None:
    beside = getattr(objective, "beside", None)
    if beside is not None:
        return _check_queue(beside, size, f"{where}.beside")
    queue = getattr(objective, "queue", None)
    least = 0 if queue is None else objective.keys_of(size)
    if queue is not None and queue < least:
        raise UsageError(
            f"{where}.queue={queue} does not hold the keys of a batch (data.batch_size={size}); "
            f"give {least} or more"
        )


def _multiples(size: int, of: int) -> str:
    """Name the multiples below and above a size."""
    below = size // of * of
    return " or ".join(str(n) for n in (below, below + of) if n)


def declared(config: DataConfig) -> Layout:
    """Take what the samples are from the recipe and the tables of `fm.sensors`, without data.

    Raises:
        UsageError: a part does not say its modalities or its crop, or no sensor has them.
    """
    bands: dict[str, tuple[Band, ...]] = {}
    scaling: dict[str, tuple[float, float]] = {}
    shapes: dict[str, dict[str, Shape]] = {}
    for part, samples in config.datasets.items():
        where = f"data.parts.{part}" if part else "data"
        for key in ("modalities", "crop"):
            if getattr(samples, key) is None:
                raise UsageError(
                    f"{where}: no dataset at {samples.path}, and without one {where}.{key} must "
                    f"say what a sample is"
                )
        stated = {name: _stated(name, where) for name in samples.modalities or []}
        side_m = (samples.crop or 0) * min(gsd for _, _, gsd in stated.values())
        shapes[part] = {}
        for name, (found, own, gsd) in stated.items():
            # all bands of the sensor may have been brought to this grid
            chosen = (samples.bands or {}).get(name)
            taken = own if chosen is None else _expanded(chosen, [b.name for b in found.bands])
            made = tuple(
                dataclasses.replace(found.band(n), gsd_m=gsd, modality=name) for n in taken
            )
            if bands.setdefault(name, made) != made:
                raise UsageError(f"{where}.bands: other bands of {name} than in the parts before")
            side = round(side_m / gsd)
            if not math.isclose(side * gsd, side_m):
                raise UsageError(f"{where}.crop={samples.crop} is not whole pixels of {name}")
            scaling[name] = (found.scale, found.offset)
            series = () if samples.images is None else (samples.images,)
            shapes[part][name] = (*series, len(made), side, side)
    return Layout(bands, scaling, shapes, None)


def _dated(ds: shards.Dataset) -> bool:
    """Say whether any sample has times of its images."""
    table = ds.index
    return "times" in table.column_names and table.column("times").null_count < len(table)


def _check_images(samples: Samples, part: str, modality: str, shape: Shape) -> None:
    found = shape[0] if len(shape) == 4 else None
    if samples.images is not None and found != samples.images:
        where = f"data.parts.{part}" if part else "data"
        told = "single images" if found is None else f"series of {found}"
        raise UsageError(f"{where}.images={samples.images}: the samples of {modality} are {told}")


def is_here(samples: Samples) -> bool:
    """Say whether a dataset can be looked at: a URL, or a folder that is there."""
    path = str(samples.path)
    return "://" in path or Path(path).exists()


def _stated(modality: str, where: str) -> tuple[Sensor, list[str], float]:
    """Return the sensor, the bands and the grid of a modality that a recipe names.

    `s2l2a` without a grid stands for all bands of the sensor on its finest one, as datasets have it
    whose authors brought them there.
    """
    for name in list_sensors():
        groups = sensor(name).modalities
        if all(group.rpartition("_")[0] == modality for group in groups):
            found = sensor_of_modality(next(iter(groups)))
            return found, [b.name for b in found.bands], min(b.gsd_m for b in found.bands)
    try:
        found = sensor_of_modality(modality)
    except UsageError as error:
        raise UsageError(f"{where}.modalities: {error}") from None
    own = found.modalities[modality]
    return found, [band.name for band in own], own[0].gsd_m


def _choice(samples: Samples, ds: shards.Dataset) -> dict[str, Any]:
    """Return what is read of a dataset, in the words of its loader."""
    if wrong := sorted(set(samples.modalities or samples.bands or ()) - set(ds.modalities)):
        raise UsageError(
            f"data.modalities: {ds.place} has no {', '.join(wrong)}; it has "
            f"{', '.join(ds.modalities)}"
        )
    return {
        "modalities": list(samples.modalities or ds.modalities),
        "bands": {
            name: _expanded(chosen, ds.modalities[name].bands)
            for name, chosen in (samples.bands or {}).items()
        },
        "crop": samples.crop,
        "random_crop": samples.random_crop,
    }


def _expanded(names: Iterable[str], known: Sequence[str], where: str = "data.bands") -> list[str]:
    """Write ranges `FIRST:LAST` out, in the order of the table."""
    result: list[str] = []
    for name in names:
        first, colon, last = name.partition(":")
        for end in (first, last) if colon else (first,):
            if end not in known:
                raise UsageError(f"{where}: no band {end!r}; {suggest(end, known)}")
        stop = known.index(last) if colon else known.index(first)
        taken = known[known.index(first) : stop + 1]
        if not taken or set(taken) & set(result):
            raise UsageError(f"{where}: {name!r} is empty or names a band twice")
        result += taken
    return result


def _pooled(parts: Sequence[tuple[float, Statistics]]) -> Statistics:
    """Pool a modality's statistics over the parts that have it, each by its share of the steps."""
    if len(parts) == 1:
        return parts[0][1]
    total = sum(weight for weight, _ in parts)
    shares = [weight / total for weight, _ in parts]

    def mixed(key: str, power: int = 1) -> list[float]:
        columns = zip(*(found[key] for _, found in parts), strict=True)
        return [sum(s * v**power for s, v in zip(shares, c, strict=True)) for c in columns]

    # moments mix by weight; percentiles do not, so they are left out and `fit` says so
    mean = mixed("mean")
    second = [a + b for a, b in zip(mixed("mean", 2), mixed("std", 2), strict=True)]
    low, high = (
        [end(values) for values in zip(*(found[key] for _, found in parts), strict=True)]
        for key, end in (("min", min), ("max", max))
    )
    std = [math.sqrt(max(b - a * a, 0.0)) for a, b in zip(mean, second, strict=True)]
    return {"mean": mean, "std": std, "min": low, "max": high}
