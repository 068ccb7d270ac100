"""Label every sample of a dataset from a season file, from rasters, or from its own masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm.console import progress
from fm.errors import FMError, UsageError, suggest
from fm.files import sha256_file
from shards.dataset import Dataset
from shards.format import DatasetInfo, LabelInfo
from shards.labelling.add import add_label
from shards.labelling.legends import Legend, find_legend
from shards.labelling.maps import Footprint, Maps
from shards.labelling.season_file import SeasonFile
from shards.labelling.shares import Rule

MASK = "mask:"
"""Begins a source that is a mask of the dataset itself."""


@dataclass(frozen=True)
class Labelled:
    """What was labelled.

    Attributes:
        info: description of the new dataset.
        label: the new label.
        samples: of the dataset.
        known: samples, or images of series, that have a label.
        images: all of these.
        counts: by class, how many of them have it (of fractions, their mean share).
    """

    info: DatasetInfo
    label: LabelInfo
    samples: int
    known: int
    images: int
    counts: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "manifest_hash": self.info.manifest_hash,
            "label": self.label.name,
            "kind": self.label.kind,
            "images_of_each": self.label.images,
            "samples": self.samples,
            "labelled": self.known,
            "of": self.images,
            "counts": self.counts,
        }


def label(
    ds: Dataset,
    sources: Sequence[str],
    out: Path,
    *,
    name: str = "landcover",
    legend: str | None = None,
    rule: Rule | None = None,
) -> Labelled:
    """Write a dataset whose samples have a land-cover label.

    Args:
        ds: all samples of a dataset.
        sources: one `.json` of seasons; or rasters (`FILE`, or `FROM..TO=FILE` of a time); or
            `mask:NAME`, a mask label of the dataset.
        out: folder of the new dataset.
        name: of the label.
        legend: see `find_legend`; None takes a mask's own classes, or Dynamic World's of a season
            file.
        rule: when a patch has which label.

    Raises:
        FMError: a source cannot be read or does not fit, no sample gets a label, `out` exists.
        UsageError: options that do not go together.
    """
    rule = rule or Rule()
    if ds.rows is not None:
        raise UsageError("label a whole dataset, without where=")
    if out.exists():
        raise FMError(f"{out} exists already; name another --out or remove it first")
    first = sources[0]
    about: dict[str, Any] = {"kind": rule.kind}
    shares = {"min_fraction": rule.min_fraction, "min_valid": rule.min_valid}
    series: int | None = None
    if len(sources) > 1 and any(s.endswith(".json") or s.startswith(MASK) for s in sources):
        raise UsageError("--from: give one season file, or one mask, or rasters")
    if first.endswith(".json"):
        if rule.kind == "fractions":
            raise UsageError("--kind fractions: a season file lists classes, not their shares")
        known = find_legend(legend or "dynamic-world")
        file = SeasonFile.read(Path(first), len(known.classes))
        series = _images(ds)
        values = _by_season(ds, file, series)
        about |= {"seasons": file.path.name, "sha256": sha256_file(file.path)}
    elif first.startswith(MASK):
        member, known = _mask(ds, first.removeprefix(MASK), legend)
        values = list(_by_mask(ds, member, known, rule))
        about |= {"mask": member, "legend": known.name, **shares}
    else:
        if legend is None:
            raise UsageError("--legend is missing; say what the raster's numbers mean")
        known = find_legend(legend)
        maps = Maps(sources, known)
        series = _images(ds) if maps.timed else None
        values = list(_by_map(ds, maps, rule, series))
        about |= {"maps": [map_.about() for map_ in maps], "legend": known.name, **shares}
    if all(value is None for value in values):
        raise FMError(
            f"{', '.join(sources)}: no sample of {ds.place} gets a label; compare the keys, the "
            f"places or --min-valid"
        )
    made = LabelInfo(name, rule.kind, known.classes, images=series)
    info = add_label(ds, made, values, out, about)
    return _counted(info, made, values)


def _counted(info: DatasetInfo, label: LabelInfo, values: Sequence[Any]) -> Labelled:
    each = label.images or 1
    items = values if label.images is None else [one for v in values for one in v or [None] * each]
    given = [item for item in items if item is not None]
    total = np.zeros(len(label.classes))
    for item in given:
        if label.kind == "fractions":
            total += np.asarray(item) / len(given)
        else:
            total[item] += 1
    whole = label.kind == "multilabel"
    counts = {
        word: int(n) if whole else float(n) for word, n in zip(label.classes, total, strict=True)
    }
    return Labelled(info, label, len(values), len(given), len(items), counts)


def _images(ds: Dataset) -> int | None:
    """Number of images of the samples; None where they are single ones."""
    shapes = dict.fromkeys(ds.modalities, ds.columns.header["shapes"])
    counts = {shape[0] for found in shapes.values() for shape in found if len(shape) == 4}
    if len(counts) > 1:
        raise FMError(
            f"{ds.place}: series of {sorted(counts)} images; labels of each image need one length"
        )
    return next(iter(counts), None)


def _by_season(ds: Dataset, file: SeasonFile, count: int | None) -> list[Any]:
    rows = np.arange(len(ds))
    scenes = [
        ds.columns.text(name, rows) for name, info in ds.info.labels.items() if info.kind == "text"
    ]
    values = [
        file.of(key, count, [told[row] or "" for told in scenes]) for row, key in enumerate(ds.keys)
    ]
    if not file.used:
        location, seasons = next(iter(file.locations.items()))
        raise FMError(
            f"{file.path}: none of its seasons is in {ds.place} (the file has {location}/"
            f"{next(iter(seasons), '')}, the dataset {ds.keys[0]})"
        )
    return values


def _mask(ds: Dataset, name: str, legend: str | None) -> tuple[str, Legend]:
    masks = {n: info for n, info in ds.info.labels.items() if info.kind == "mask"}
    if name not in masks:
        told = suggest(name, masks) if masks else "it has none"
        raise UsageError(f"--from {MASK}{name}: {ds.place} has no such mask; {told}")
    info = masks[name]
    own = tuple(word for n, word in enumerate(info.classes) if n != info.ignore)
    codes: dict[int, int | None] = {
        n: None if n == info.ignore else own.index(word) for n, word in enumerate(info.classes)
    }
    if info.ignore is not None:
        codes[info.ignore] = None
    found = Legend(name, own, codes) if legend is None else find_legend(legend)
    return str(info.member), found


def _by_mask(ds: Dataset, member: str, legend: Legend, rule: Rule) -> Iterator[Any]:
    has = ds.columns.take(f"{member}.shape", np.arange(len(ds)))
    with progress("counting masks", len(ds)) as bar:
        for row in range(len(ds)):
            if has[row]:
                numbers = ds.read(row, [member])[member]
                classes = legend.table(numbers.ravel(), f"sample {ds.keys[row]}")
                areas = np.bincount(classes[classes >= 0], minlength=len(legend.classes))
                yield rule.label(areas.astype(np.float64), numbers.size)
            else:
                yield None
            bar.advance()


def _by_map(ds: Dataset, maps: Maps, rule: Rule, series: int | None) -> Iterator[Any]:
    columns = ["key", "crs", "transform", "time", "times", *(f"{m}.shape" for m in ds.modalities)]
    with progress("sampling land cover", len(ds)) as bar:
        for batch in ds.index.select(columns).to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                place = _footprint(ds, row)
                moments = row["times"] or [row["time"]] if maps.timed else [None]
                found = [
                    rule.label(*maps.areas(place, np.nan if t is None else t.timestamp()))
                    for t in moments
                ]
                if series is not None and len(found) != series:
                    raise FMError(
                        f"{ds.place}: sample {row['key']} has {len(found)} times, {series} images"
                    )
                every = found if series is not None else found[0]
                empty = series is not None and all(one is None for one in found)
                yield None if empty else every
                bar.advance()


def _footprint(ds: Dataset, row: dict[str, Any]) -> Footprint:
    if row["crs"] is None:
        raise FMError(
            f"{ds.place}: sample {row['key']} has no crs and transform, so it lies nowhere on a "
            f"map; build the dataset again with them"
        )
    sizes = [row[f"{m}.shape"][-2:] for m in ds.modalities if row[f"{m}.shape"]]
    height, width = max(sizes, key=lambda size: (size[1], size[0]))
    return Footprint(row["crs"], tuple(row["transform"]), height, width)
