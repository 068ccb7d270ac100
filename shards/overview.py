"""What a dataset holds, in numbers and as a page a person reads (`fm shards info`)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fm.sensors import sensor
from shards.dataset import Dataset
from shards.format import ModalityInfo

PIXELS_BY_CLASS = "pixels_by_class"
"""Provenance of labels that are masks: label name to split to pixels of each class."""
NO_SPLIT = "none"
MANY = 16
"""Modalities with more bands are shown by their first and last ones."""


def splits(ds: Dataset) -> dict[str, int]:
    """Count the samples of each split: train, val, test, then others by name."""
    counts = Counter(name or NO_SPLIT for name in ds.index.column("split").to_pylist())
    usual = {name: place for place, name in enumerate(("train", "val", "test"))}
    return {name: counts[name] for name in sorted(counts, key=lambda n: (usual.get(n, 3), n))}


def class_counts(ds: Dataset) -> dict[str, dict[str, list[int]]]:
    """Count each class in each split.

    Returns:
        label name to split to counts in the order of the classes: samples for `class` and
        `multilabel`, pixels for a `mask` whose source has counted them.
    """
    result: dict[str, dict[str, list[int]]] = {}
    names = [name or NO_SPLIT for name in ds.index.column("split").to_pylist()]
    for label in ds.info.labels.values():
        if label.kind in ("class", "multilabel"):
            found = {name: [0] * len(label.classes) for name in splits(ds)}
            for split, value in zip(names, ds.index.column(label.name).to_pylist(), strict=True):
                for k in value if isinstance(value, list) else [value]:
                    if k is not None and k != label.ignore:
                        found[split][k] += 1
            result[label.name] = found
    return {**ds.info.provenance.get(PIXELS_BY_CLASS, {}), **result}


def text(ds: Dataset) -> str:
    """Write the page."""
    info = ds.info
    size = sum(shard.bytes for shard in info.shards)
    known = {k: v for k, v in info.provenance.items() if not isinstance(v, dict)}
    lines = [
        f"{info.name}: {len(ds)} samples, {len(info.shards)} shards, {size / 1e6:.1f} MB",
        f"licence: {info.licence}",
        "from: " + ", ".join(f"{key} {value}" for key, value in known.items()),
        f"manifest: {info.manifest_hash}",
        "splits: " + ", ".join(f"{name} {count}" for name, count in splits(ds).items()),
        f"place: {_span(ds, 'lon', 'lat')}",
        f"time: {_span(ds, 'time')}",
    ]
    counts = class_counts(ds)
    for label in info.labels.values():
        lines.append(f"\nlabel {label.name}: {label.kind}, {len(label.classes)} classes")
        if label.name in counts:
            what = "pixels" if label.kind == "mask" else "samples"
            lines += _classes(label.classes, counts[label.name], what)
    for name, modality in info.modalities.items():
        lines += ["", *_modality(ds, name, modality)]
    return "\n".join(lines)


def _span(ds: Dataset, *columns: str) -> str:
    parts = []
    for column in columns:
        values = [value for value in ds.index.column(column).to_pylist() if value is not None]
        if not values:
            return "unknown"
        low, high = min(values), max(values)
        if column == "time":
            parts.append(f"{low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M} UTC")
        else:
            parts.append(f"{column} {low:.4f} to {high:.4f}")
    return ", ".join(parts)


def _classes(names: Sequence[str], counts: dict[str, list[int]], what: str) -> list[str]:
    width = max(min(max(map(len, names)), 44), len(what))
    head = f"  {what:<{width}} " + " ".join(f"{split:>7}" for split in counts)
    rows = []
    for k, name in enumerate(names):
        short = name if len(name) <= width else name[: width - 3] + "..."
        rows.append(f"  {short:<{width}} " + " ".join(f"{c[k]:>7}" for c in counts.values()))
    return [head, *rows]


def _modality(ds: Dataset, name: str, modality: ModalityInfo) -> list[str]:
    table = sensor(modality.sensor)
    units = "/".join(dict.fromkeys(table.band(band).unit for band in modality.bands))
    shapes = Counter(tuple(s) for s in ds.index.column(f"{name}.shape").to_pylist() if s)
    (shape, count), *others = shapes.most_common()
    stored = sum(b or 0 for b in ds.index.column(f"{name}.bytes").to_pylist())
    scale, offset = modality.scaling
    lines = [
        f"{name}: {modality.sensor}, {len(modality.bands)} bands of {modality.gsd_m:g} m, "
        f"{modality.dtype}, {modality.codec}, {stored / 1e6:.2g} MB",
        f"  {count} of {list(shape)}"
        + (f", {sum(c for _, c in others)} of {len(others)} other shapes" if others else "")
        + f"; {units} = stored * {scale:g} + {offset:g}",
        f"  {'band':<6} {'nm':>7} "
        + " ".join(f"{title:>10}" for title in ("mean", "std", "min", "p2", "p98", "max")),
    ]
    columns: list[list[Any]] = [
        modality.statistics[key] for key in ("mean", "std", "min", "p2", "p98", "max")
    ]
    rows = list(zip(modality.bands, *columns, strict=True))
    for band, *values in rows if len(rows) <= MANY else [*rows[:5], *rows[-3:]]:
        nm = table.band(band).wavelength_nm
        where = "-" if nm is None else f"{nm:.1f}"
        lines.append(f"  {band:<6} {where:>7} " + " ".join(f"{value:>10.4g}" for value in values))
    if len(rows) > MANY:
        lines.append(f"  ({len(rows) - 8} bands in the middle are not shown; --json has all)")
    return lines
