"""What a dataset holds, in numbers and as a page a person reads (`fm shards info`).

Everything is counted in one pass over the mapped index, some hundred thousand rows at a time, so
that memory does not grow with the dataset.
"""

import calendar
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from shards.dataset import Dataset
from shards.format import LabelInfo, ModalityInfo
from shards.index.columns import UNKNOWN
from shards.seeing.scan import has_column, scan

PIXELS_BY_CLASS = "pixels_by_class"
"""Provenance of labels that are masks: label name to split to pixels of each class."""
NO_SPLIT = "none"
MANY = 16
"""Modalities with more bands are shown by their first and last ones."""
_STATISTICS = ("mean", "std", "min", "p2", "p98", "max")
_FEW = 4
_AT_ONCE = 2**18


@dataclass
class Survey:
    """Counts over the samples of a dataset.

    Attributes:
        samples: number of them.
        splits: samples by split: train, val, test, then others by name.
        class_counts: label to split to counts in the order of the classes: samples for `class`
            and `multilabel`, pixels for a `mask` whose source has counted them.
        shapes: modality or mask to `[shape, samples]`, the most frequent first.
        bytes: stored bytes by modality or mask.
        box: west, south, east, north of the known places in degrees; None without any.
        placed: samples with a known place.
        first: earliest known time, microseconds since 1970 UTC; None without any.
        last: latest.
        months: samples by month, January first.
        crs: samples by coordinate reference system.
        copies: samples with the pixels of an earlier one.
        valid_fraction: known ones: number, mean, least.
    """

    samples: int
    splits: dict[str, int] = field(default_factory=dict)
    class_counts: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    shapes: dict[str, list[tuple[list[int], int]]] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    box: list[float] | None = None
    placed: int = 0
    first: int | None = None
    last: int | None = None
    months: list[int] = field(default_factory=lambda: [0] * 12)
    crs: dict[str, int] = field(default_factory=dict)
    copies: int = 0
    valid_fraction: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def survey(ds: Dataset) -> Survey:
    """Count what a dataset holds."""
    result = Survey(len(ds))
    splits = [NO_SPLIT, *ds.columns.header["splits"]]
    labels = [la for la in ds.info.labels.values() if la.kind in ("class", "multilabel")]
    by_split = np.zeros(len(splits), np.int64)
    classes = {la.name: np.zeros((len(splits), len(la.classes)), np.int64) for la in labels}
    shapes = {m: np.zeros(len(ds.columns.header["shapes"]) + 1, np.int64) for m in ds.info.members}
    stored = dict.fromkeys(ds.info.members, 0)
    months, box, ends = np.zeros(12, np.int64), _Box(), _Ends()
    for rows in _portions(ds):
        split = ds.columns.take("split", rows).astype(np.int64)
        by_split += np.bincount(split, minlength=len(splits))
        for label in labels:
            _count_classes(classes[label.name], ds.columns.take(label.name, rows), split, label)
        for member in shapes:
            number = ds.columns.take(f"{member}.shape", rows)
            shapes[member] += np.bincount(number, minlength=len(shapes[member]))
            sizes = ds.columns.take(f"{member}.bytes", rows)
            stored[member] += int(sizes[number > 0].sum(dtype=np.int64))
        box.add(ds.columns.take("lon", rows), ds.columns.take("lat", rows))
        times = ds.columns.take("time", rows)
        ends.add(times[times != UNKNOWN])
        months += np.bincount(months_of(times[times != UNKNOWN]), minlength=12)
    usual = {name: place for place, name in enumerate(("train", "val", "test"))}
    order = sorted(range(len(splits)), key=lambda k: (usual.get(splits[k], 3), splits[k]))
    used = [k for k in order if by_split[k]]
    result.splits = {splits[k]: int(by_split[k]) for k in used}
    counted = {n: {splits[k]: found[k].tolist() for k in used} for n, found in classes.items()}
    result.class_counts = {**ds.info.provenance.get(PIXELS_BY_CLASS, {}), **counted}
    kinds = [[], *ds.columns.header["shapes"]]
    for member, counts in shapes.items():
        seen = [(list(kinds[k]), int(counts[k])) for k in np.flatnonzero(counts[1:]) + 1]
        result.shapes[member] = sorted(seen, key=lambda item: -item[1])
    result.bytes, result.months = stored, months.tolist()
    result.box, result.placed = box.corners, box.count
    result.first, result.last = ends.first, ends.last
    _count_rest(ds, result)
    return result


def months_of(times: np.ndarray) -> np.ndarray:
    """Return the month, 0 to 11, of microseconds since 1970 UTC."""
    return times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12


def text(ds: Dataset, found: Survey | None = None) -> str:
    """Write the page."""
    info, found = ds.info, found or survey(ds)
    size = sum(shard.bytes for shard in info.shards)
    known = {k: v for k, v in info.provenance.items() if not isinstance(v, Mapping | list)}
    facts = {
        "licence": info.licence,
        "from": ", ".join(f"{key} {value}" for key, value in known.items()),
        "manifest": info.manifest_hash,
        "tars": info.root and f"at {info.root}",
        "splits": ", ".join(f"{name} {count}" for name, count in found.splits.items()),
        "place": _place(found),
        "time": _time(found),
        "months": _months(found) if found.first is not None else "",
        "CRS": _most(found.crs),
        "copies": found.copies and f"{found.copies} samples have the pixels of an earlier one",
        "valid": found.valid_fraction
        and "mean {mean:.4f}, least {least:.4f} of a sample's pixels".format_map(
            found.valid_fraction
        ),
    }
    lines = [
        f"{info.name}: {len(ds)} samples, {len(info.shards)} shards, {size / 1e6:.1f} MB, "
        f"format {info.format_version}",
        *(f"{key}: {value}" for key, value in facts.items() if value),
    ]
    for label in info.labels.values():
        classes = f", {len(label.classes)} classes" if label.classes else ""
        lines.append(f"\nlabel {label.name}: {label.kind}{classes}")
        if label.name in found.class_counts:
            what = "pixels" if label.kind == "mask" else "images" if label.images else "samples"
            lines += _classes(label.classes, found.class_counts[label.name], what)
    for modality in info.modalities.values():
        lines += ["", *_modality(found, modality)]
    return "\n".join(lines)


def _portions(ds: Dataset) -> Iterator[np.ndarray]:
    for start in range(0, len(ds), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(ds))
        yield np.arange(start, stop) if ds.rows is None else ds.rows[start:stop]


def _count_classes(
    counts: np.ndarray, values: np.ndarray, split: np.ndarray, label: LabelInfo
) -> None:
    """Add one portion to `counts` [splits, classes]; of a series, each image that is labelled."""
    if label.images is not None:
        split = np.repeat(split, label.images)
        values = values.reshape(len(split), -1)
        values = values[:, 0] if label.kind == "class" else values
    if label.kind == "class":
        good = (values >= 0) & (values < len(label.classes))
        if label.ignore is not None:
            good &= values != label.ignore
        np.add.at(counts, (split[good], values[good]), 1)
        return
    bits = np.unpackbits(values.reshape(len(split), -1), axis=1)[:, : len(label.classes)]
    for k in np.unique(split):
        counts[k] += bits[split == k].sum(axis=0, dtype=np.int64)


def _count_rest(ds: Dataset, result: Survey) -> None:
    """Count what only the index file holds."""
    columns = [n for n in ("crs", "duplicate_of", "valid_fraction") if has_column(ds, n)]
    crs: Counter[str] = Counter()
    number, total, least = 0, 0.0, 1.0
    for _, batch in scan(ds, columns):
        for name in columns:
            column = batch.column(name).drop_null()
            if not len(column):
                continue
            if name == "crs":
                pairs = pc.value_counts(column).to_pylist()
                crs.update({item["values"]: item["counts"] for item in pairs})
            elif name == "duplicate_of":
                result.copies += len(column)
            else:
                values = column.to_numpy(zero_copy_only=False).astype(np.float64)
                number, total = number + len(values), total + float(values.sum())
                least = min(least, float(values.min()))
    result.crs = dict(crs.most_common())
    if number:
        result.valid_fraction = {"known": number, "mean": total / number, "least": least}


class _Box:
    def __init__(self) -> None:
        self.corners: list[float] | None = None
        self.count = 0

    def add(self, lon: np.ndarray, lat: np.ndarray) -> None:
        known = np.isfinite(lon) & np.isfinite(lat)
        self.count += int(known.sum())
        if known.any():
            x, y, old = lon[known], lat[known], self.corners
            new = [float(v) for v in (x.min(), y.min(), x.max(), y.max())]
            before = old or new
            self.corners = [*map(min, new[:2], before[:2]), *map(max, new[2:], before[2:])]


class _Ends:
    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None

    def add(self, times: np.ndarray) -> None:
        if len(times):
            low, high = int(times.min()), int(times.max())
            self.first = low if self.first is None else min(self.first, low)
            self.last = high if self.last is None else max(self.last, high)


def _place(found: Survey) -> str:
    if found.box is None:
        return "unknown"
    west, south, east, north = found.box
    known = "" if found.placed == found.samples else f" ({found.placed} of {found.samples} known)"
    return f"lon {west:.4f} to {east:.4f}, lat {south:.4f} to {north:.4f}{known}"


def _time(found: Survey) -> str:
    if found.first is None or found.last is None:
        return "unknown"
    ends = [str(np.datetime64(moment, "us")) for moment in (found.first, found.last)]
    shown = " to ".join(f"{end[:10]} {end[11:16]}" for end in ends)
    known = sum(found.months)
    return f"{shown} UTC" + ("" if known == found.samples else f" ({known} of {found.samples})")


def _months(found: Survey) -> str:
    return ", ".join(f"{calendar.month_abbr[k + 1]} {n}" for k, n in enumerate(found.months) if n)


def _most(counts: Mapping[str, int]) -> str:
    shown = [f"{name[:40]} {count}" for name, count in list(counts.items())[:_FEW]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} others" if more > 0 else "")


def _classes(names: Sequence[str], counts: Mapping[str, list[int]], what: str) -> list[str]:
    width = max(min(max(map(len, names)), 44), len(what))
    head = f"  {what:<{width}} " + " ".join(f"{split:>7}" for split in counts)
    rows = []
    for k, name in enumerate(names):
        short = name if len(name) <= width else name[: width - 3] + "..."
        rows.append(f"  {short:<{width}} " + " ".join(f"{c[k]:>7}" for c in counts.values()))
    return [head, *rows]


def _modality(found: Survey, modality: ModalityInfo) -> list[str]:
    units = "/".join(dict.fromkeys(band.unit for band in modality.table))
    scale, offset = modality.scaling
    shapes = found.shapes[modality.name]
    most = f"{shapes[0][1]} of {shapes[0][0]}" if shapes else "no sample has it"
    others = f", {sum(c for _, c in shapes[1:])} of {len(shapes) - 1} other shapes"
    lines = [
        f"{modality.name}: {modality.sensor}, {len(modality.bands)} bands of {modality.gsd_m:g} m, "
        f"{modality.dtype}, {modality.codec}, {found.bytes[modality.name] / 1e6:.2g} MB",
        f"  {most}{others if len(shapes) > 1 else ''}; {units} = stored * {scale:g} + {offset:g}",
    ]
    if modality.quality:
        lines.append("  lossy: " + ", ".join(f"{k} {v}" for k, v in modality.quality.items()))
    return [*lines, *_bands(modality)]


def _bands(modality: ModalityInfo) -> list[str]:
    titles = [name for name in _STATISTICS if modality.statistics.get(name)]
    codes = modality.nodata or (None,) * len(modality.bands)
    if any(code is not None for code in codes):
        titles.append("no data")
    width = max(6, *(len(name) for name in modality.bands))
    head = f"  {'band':<{width}} {'nm':>7} " + " ".join(f"{title:>10}" for title in titles)
    rows = []
    for k, band in enumerate(modality.table):
        nm = "-" if band.wavelength_nm is None else f"{band.wavelength_nm:.1f}"
        values: list[Any] = [
            modality.statistics[t][k] if t != "no data" else codes[k] for t in titles
        ]
        cells = " ".join(f"{'-' if v is None else format(v, '.4g'):>10}" for v in values)
        rows.append(f"  {modality.bands[k]:<{width}} {nm:>7} {cells}".rstrip())
    if len(rows) > MANY:
        note = f"  ({len(rows) - 8} bands in the middle are not shown; --json has all)"
        rows = [*rows[:5], *rows[-3:], note]
    statistics = [] if modality.statistics else ["  no statistics were taken"]
    return [*statistics, head.rstrip(), *rows]
