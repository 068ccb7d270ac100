"""One sample and what is checked of it before it is written."""

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fm.errors import FMError, suggest
from shards.format import LabelInfo

_ROUNDING = 1e-3
"""What the shares of all classes may be more than 1."""


@dataclass
class Sample:
    """One place at one time.

    Attributes:
        key: unique in the dataset; letters, digits and `_ + = @ , -`.
        arrays: by member name: modalities `[C, H, W]` or `[T, C, H, W]`, masks `[H, W]`. Integer
            arrays are stored numbers, floating arrays physical units (NaN where unknown).
        lonlat: degrees WGS84, of the centre; None when unknown.
        time: ISO-8601; without an offset it is UTC. None when unknown.
        split: such as `"train"`.
        labels: by label name: a class number, a list of class numbers, a number, or one share a
            class; of labels of each image a list of these, with None where unknown. A label that
            is absent is unknown. Masks are arrays, under the label's `member`.
        window: `(row, col, height, width)` in the source scene, in pixels of the finest grid.
        valid_fraction: share of pixels with data, 0 to 1. None: the writer counts the pixels that
            are valid in every band, of the modality where they are fewest.
        times: of a temporal sample, one ISO-8601 time for each place on the T axis; `time` is the
            first of them when it is not given.
        crs: coordinate system of `transform`, as PROJ reads it (`EPSG:32618`).
        transform: `(a, b, c, d, e, f)` of the finest grid: x = a*col + b*row + c,
            y = d*col + e*row + f, for the upper left corner of pixel (row, col).
    """

    key: str
    arrays: dict[str, np.ndarray]
    lonlat: tuple[float, float] | None = None
    time: str | None = None
    split: str | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    window: tuple[int, int, int, int] | None = None
    valid_fraction: float | None = None
    times: Sequence[str] | None = None
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None


def describe(
    sample: Sample, labels: Mapping[str, LabelInfo]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check what is known of a sample; return its index row and its `KEY.json` (no arrays)."""
    where = f"sample {sample.key}"
    row: dict[str, Any] = {"key": sample.key, "split": sample.split}
    if sample.split is not None and not isinstance(sample.split, str):
        raise FMError(f"{where}: split {sample.split!r} is no text")
    lonlat = None
    if sample.lonlat is not None:
        lon, lat = (float(value) for value in sample.lonlat)
        if not (-180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0):
            raise FMError(f"{where}: lonlat ({lon}, {lat}) is not (lon, lat) in degrees WGS84")
        row |= {"lon": lon, "lat": lat}
        lonlat = [lon, lat]
    moments = None if sample.times is None else [parse_time(where, t) for t in sample.times]
    if moments is not None and (not moments or None in moments):
        raise FMError(f"{where}: times must hold one ISO-8601 time for each place on the T axis")
    moment = parse_time(where, sample.time)
    if moment is None and moments:
        moment = moments[0]
    row |= {"time": moment, "times": moments}
    window = None
    if sample.window is not None:
        window = [int(value) for value in sample.window]
        if len(window) != 4 or min(window[2:]) < 1 or max(map(abs, window)) >= 2**31:
            raise FMError(f"{where}: window {sample.window} is not (row, col, height, width)")
        row |= dict(zip(("row", "col", "height", "width"), window, strict=True))
    if sample.valid_fraction is None:
        raise FMError(f"{where}: valid_fraction was not counted")
    valid = float(sample.valid_fraction)
    if not 0.0 <= valid <= 1.0:
        raise FMError(f"{where}: valid_fraction {valid} is not between 0 and 1")
    row["valid_fraction"] = valid
    row |= {"crs": sample.crs, "transform": _transform(where, sample)}
    known: dict[str, Any] = {}
    for name, value in sample.labels.items():
        if name not in labels:
            raise FMError(f"{where}: label {name!r} was not declared; {suggest(name, labels)}")
        if value is not None:
            known[name] = check_label(where, value, labels[name])
    row |= known
    about = {
        "key": sample.key,
        "lonlat": lonlat,
        "time": None if moment is None else format_time(moment),
        "times": None if moments is None else [format_time(m) for m in moments if m],
        "crs": sample.crs,
        "transform": row["transform"],
        "split": sample.split,
        "window": window,
        "valid_fraction": valid,
        "labels": known,
    }
    return row, about


def _transform(where: str, sample: Sample) -> list[float] | None:
    if (sample.crs is None) != (sample.transform is None):
        raise FMError(f"{where}: crs and transform come together; give both or neither")
    if sample.transform is None:
        return None
    values = [float(value) for value in sample.transform]
    if len(values) != 6 or not all(map(math.isfinite, values)):
        raise FMError(f"{where}: transform {sample.transform} is not six finite numbers")
    if values[0] * values[4] == values[1] * values[3]:
        raise FMError(f"{where}: transform {sample.transform} maps every pixel onto one line")
    return values


def parse_time(where: str, text: str | None) -> datetime.datetime | None:
    """Parse an ISO-8601 time as UTC."""
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise FMError(f"{where}: time {text!r} is not ISO-8601 (2021-07-01T10:30Z)") from None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=datetime.UTC)
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:
        raise FMError(f"{where}: time {text!r} is out of range in UTC") from None


def format_time(moment: datetime.datetime) -> str:
    """Return a UTC time as ISO-8601 with a Z."""
    return moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat() + "Z"


def check_label(where: str, value: Any, label: LabelInfo) -> Any:
    """Return a label as it is stored, or raise `FMError`."""
    return _checked(f"{where}: label {label.name!r}", value, label)


def _checked(where: str, value: Any, label: LabelInfo) -> Any:
    if label.kind == "mask":
        raise FMError(f"{where} is a mask; put it into arrays[{label.member!r}]")
    if label.images is not None:
        given = list(value) if isinstance(value, (Sequence, np.ndarray)) else []
        if isinstance(value, str) or len(given) != label.images:
            raise FMError(f"{where} is {value!r}, expected one label for each of {label.images}")
        alone = dataclasses.replace(label, images=None)
        return [None if one is None else _checked(where, one, alone) for one in given]
    if label.kind == "fractions":
        shares = np.asarray(value, np.float64)
        wrong = shares.shape != (len(label.classes),) or not np.isfinite(shares).all()
        if wrong or shares.min() < 0 or shares.sum() > 1 + _ROUNDING:
            raise FMError(f"{where} is {value!r}, expected {len(label.classes)} shares of 1")
        return shares.tolist()
    if label.kind == "text":
        if not isinstance(value, str):
            raise FMError(f"{where} is {value!r}, expected text")
        return value
    if label.kind == "regression":
        number = float(value)
        if not math.isfinite(number):
            raise FMError(f"{where} is {number}; leave an unknown label out")
        return number
    if label.kind == "class":
        return _class(where, value, label)
    if isinstance(value, (str, bytes)) or not isinstance(value, (Iterable, np.ndarray)):
        raise FMError(f"{where} is {value!r}, expected a list of class numbers")
    return sorted({_class(where, item, label) for item in value})


def _class(where: str, value: Any, label: LabelInfo) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise FMError(f"{where} is {value!r}, expected a class number")
    number = int(value)
    if number != label.ignore and not 0 <= number < len(label.classes):
        raise FMError(f"{where} is {number}, there are {len(label.classes)} classes from 0 on")
    return number


def check_mask(where: str, array: np.ndarray, label: LabelInfo) -> None:
    """Raise `FMError` when a mask is no integer `[H, W]` array of known classes."""
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise FMError(f"{where} is {array.dtype} {array.shape}, expected an integer [H, W] mask")
    for number in np.unique(array).tolist():
        _class(where, number, label)
