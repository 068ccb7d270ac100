"""What members say of a sample: place, time, CRS, transform, split, labels; as index columns."""

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fm.errors import FMError
from shards.codecs.codec import CorruptError
from shards.foreign.declare import ArrayMember, JsonMember, TextMember
from shards.foreign.zarr_zip import ZipStore
from shards.format import LabelInfo
from shards.sample import check_label, parse_time

MAX_JSON = 2**20
MAX_TEXT = 4096
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_LONG_UNITS = {
    **{"nanoseconds": 1, "microseconds": 1_000, "milliseconds": 1_000_000},
    **{"seconds": 10**9, "minutes": 60 * 10**9, "hours": 3600 * 10**9, "days": 86_400 * 10**9},
}
_NAT = -(2**63)
"""How NumPy and pandas write a missing time in int64."""
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EPSG = re.compile(r"""(?:AUTHORITY|ID)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$""")


def from_zarr(store: ZipStore, member: ArrayMember) -> dict[str, Any]:
    """Read what a Zarr store says of its sample.

    Returns:
        the columns `lon`, `lat`, `time`, `times`, `crs`, `transform` that it knows.

    Raises:
        CorruptError: something declared is not there or cannot be meant, or the store names other
            bands than the declaration.
    """
    places, result = member.places, dict[str, Any]()
    if "bands" in places:
        _check_bands(store, member)
    if "lonlat" in places:
        lon, lat = (_one(store.small(name)) for name in places["lonlat"])
        result |= _lonlat(lon, lat)
    if "time" in places:
        times = _times(store, places["time"], places.get("time_unit"))
        known = [time for time in times if time is not None]
        if known:
            result["time"] = known[0]
        if len(times) > 1 and len(known) == len(times):
            result["times"] = times
    crs, transform = _crs(store, places.get("crs")), _transform(store, member)
    if crs is not None and transform is not None:
        result |= {"crs": crs, "transform": transform}
    return result


def from_json(data: bytes, member: JsonMember) -> dict[str, Any]:
    """Read the declared places and labels of a JSON member, as index columns.

    Raises:
        CorruptError: no JSON, something declared is not there, or a label cannot be meant.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise CorruptError("not JSON") from None
    places, result = member.places, dict[str, Any]()
    if "lonlat" in places:
        lon, lat = (_walk(content, path) for path in places["lonlat"])
        if lon is not None and lat is not None:
            result |= _lonlat(lon, lat)
    if "time" in places and (value := _walk(content, places["time"])) is not None:
        result |= _json_time(value, places.get("time_unit"))
    for name in ("crs", "split"):
        if name in places and (value := _walk(content, places[name])) is not None:
            if not isinstance(value, str):
                raise CorruptError(f"{name} {value!r} is no text")
            result[name] = value
    for name, (path, label) in member.labels.items():
        if (value := _walk(content, path)) is not None:
            result[name] = _label(value, label)
    return result


def from_text(data: bytes, member: TextMember) -> dict[str, Any]:
    """Read a label from a text member.

    Raises:
        CorruptError: the text is not such a label.
    """
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise CorruptError("not UTF-8 text") from None
    label = member.label
    value: Any = text
    try:
        if label.kind == "class" and text not in label.classes:
            value = int(text)
        elif label.kind == "regression":
            value = float(text)
        elif label.kind == "multilabel":
            value = [w if w in label.classes else int(w) for w in re.split(r"[\s,]+", text) if w]
    except ValueError:
        raise CorruptError(f"{text[:40]!r} is no {label.kind} label") from None
    return {label.name: _label(value, label)}


def _label(value: Any, label: LabelInfo) -> Any:
    numbers = {name: number for number, name in enumerate(label.classes)}
    if label.kind == "class" and isinstance(value, str):
        value = numbers.get(value, value)
    elif label.kind == "multilabel" and isinstance(value, list):
        value = [numbers.get(v, v) if isinstance(v, str) else v for v in value]
    try:
        return check_label("its sample", value, label)
    except (FMError, TypeError, ValueError) as error:
        raise CorruptError(str(error)) from None


def _walk(content: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(content, list) and step.isdecimal() and int(step) < len(content):
            content = content[int(step)]
        elif isinstance(content, Mapping) and step in content:
            content = content[step]
        else:
            raise CorruptError(f"it holds no {path!r}")
    return content


def _json_time(value: Any, unit: str | None) -> dict[str, Any]:
    values = value if isinstance(value, list) else [value]
    try:
        times = [
            parse_time("its time", item) if isinstance(item, str) else _moment(item, unit)
            for item in values
        ]
    except FMError as error:
        raise CorruptError(str(error)) from None
    result = {"time": times[0]} if times and times[0] is not None else {}
    return result | ({"times": times} if len(times) > 1 and None not in times else {})


def _moment(value: Any, unit: str | None) -> datetime.datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or unit not in _UNITS:
        raise CorruptError(f"time {str(value)[:40]!r}: say its time_unit, or use ISO-8601 text")
    return None if value == _NAT else _since(value * _UNITS[unit])


def _since(nanoseconds: int | float, start: datetime.datetime = _EPOCH) -> datetime.datetime | None:
    """A moment; None for 0 since 1970, which is how a missing time is written."""
    if nanoseconds == 0 and start == _EPOCH:
        return None
    try:
        return start + datetime.timedelta(microseconds=nanoseconds // 1000)
    except (OverflowError, ValueError):
        raise CorruptError(f"time {nanoseconds} ns is out of range") from None


def _lonlat(lon: Any, lat: Any) -> dict[str, float]:
    try:
        pair = float(lon), float(lat)
    except (TypeError, ValueError):
        raise CorruptError(f"lon {str(lon)[:40]!r}, lat {str(lat)[:40]!r} are no numbers") from None
    if not (-180 <= pair[0] <= 180 and -90 <= pair[1] <= 90):
        raise CorruptError(f"({pair[0]}, {pair[1]}) is not (lon, lat) in degrees")
    return {"lon": pair[0], "lat": pair[1]}


def _one(array: np.ndarray) -> float:
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise CorruptError(f"{array.dtype} {array.shape} where one number is declared")
    return float(array.reshape(-1)[0])


def _check_bands(store: ZipStore, member: ArrayMember) -> None:
    names = store.small(member.places["bands"])
    if names.dtype.kind not in "US":
        raise CorruptError(f"{member.places['bands']!r} holds no band names")
    found = tuple(
        str(name.decode("ascii", "replace") if isinstance(name, bytes) else name).upper()
        for name in names.reshape(-1).tolist()
    )
    declared = tuple(band.name.upper() for band in member.table)
    if found not in (declared, *member.aliases):
        raise CorruptError(
            f"its bands are {', '.join(found)[:120]}; declared are {', '.join(declared)[:120]}"
        )


def _times(store: ZipStore, name: str, unit: str | None) -> list[datetime.datetime | None]:
    array = store.small(name).reshape(-1)
    if len(array) > 10_000:
        raise CorruptError(f"{len(array)} times")
    if array.dtype.kind == "M":
        return [
            None
            if np.isnat(value)
            else _since(float(value.astype("M8[us]").astype(np.int64)) * 1e3)
            for value in array
        ]
    if array.dtype.kind not in "iuf":
        raise CorruptError(f"{name}: {array.dtype} is no time")
    start, factor = _EPOCH, _UNITS.get(unit or "", 0)
    attributes = store.attributes(name)
    stated, calendar = attributes.get("units"), attributes.get("calendar", "standard")
    if str(calendar).lower() not in _CALENDARS:
        raise CorruptError(f"{name}: calendar {str(calendar)[:30]!r} is not the Gregorian one")
    if isinstance(stated, str):
        start, factor = _cf_units(stated)
    if not factor:
        raise CorruptError(f"{name}: say its time_unit")
    missing = {_NAT, attributes.get("_FillValue"), attributes.get("missing_value")}
    return [
        None if value in missing or value != value else _since(value * factor, start)
        for value in array.tolist()
    ]


def _cf_units(text: str) -> tuple[datetime.datetime, int]:
    """Parse `UNIT since DATE` of the CF conventions."""
    unit, _, date = text.partition(" since ")
    factor = _LONG_UNITS.get(unit.strip().lower(), _LONG_UNITS.get(f"{unit.strip().lower()}s"))
    try:
        start = datetime.datetime.fromisoformat(date.strip())
    except ValueError:
        factor = None
    if factor is None:
        raise CorruptError(f"time unit {text[:60]!r} is not read")
    return (start if start.tzinfo else start.replace(tzinfo=datetime.UTC)), factor


def _crs(store: ZipStore, names: Any) -> str | None:
    for name in names if isinstance(names, list) else [names]:
        if name is None or (f"{name}/.zarray" not in store and f"{name}/zarr.json" not in store):
            continue
        attributes = store.attributes(name)
        wkt = attributes.get("crs_wkt", attributes.get("spatial_ref"))
        if isinstance(wkt, str) and wkt:
            code = _EPSG.search(wkt)
            return f"EPSG:{code[1]}" if code else wkt[:MAX_TEXT]
        value = store.small(name).reshape(-1)
        if value.size == 1 and value.dtype.kind in "iu" and int(value[0]) >= 1024:
            return f"EPSG:{int(value[0])}"
    return None


def _transform(store: ZipStore, member: ArrayMember) -> list[float] | None:
    """Pixel to CRS from coordinates of pixel centres; None where they are absent or mere indices.

    Coordinates that are not a regular grid of the declared spacing (an array index has a spacing
    of 1) say nothing of the place.
    """
    steps = []
    for axis in ("x", "y"):
        name = member.places.get(axis)
        if name is None or (f"{name}/.zarray" not in store and f"{name}/zarr.json" not in store):
            return None
        values = store.small(name).reshape(-1)
        if values.dtype.kind not in "iuf" or values.size < 2:
            return None
        values = values.astype(np.float64)
        step = (values[-1] - values[0]) / (values.size - 1)
        off = np.abs(values - (values[0] + step * np.arange(values.size))).max()
        if abs(abs(step) - member.gsd_m) > 0.01 * member.gsd_m or off > 0.01 * member.gsd_m:
            return None
        steps.append((step, values[0] - step / 2))
    (a, c), (e, f) = steps
    return [float(a), 0.0, float(c), 0.0, float(e), float(f)]
