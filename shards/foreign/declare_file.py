"""Declarations of foreign tars as a person writes them: a YAML file, or options.

    name: plots
    licence: CC-BY-4.0
    source: field campaign of 2023, packed by us
    members:
      s2.npy:                        # what follows the first dot of a member's name
        modality: s2l1c_10
        sensor: sentinel2-l1c        # of `fm.sensors`, or a sensor file beside this one
        bands: [B02, B03, B04, B08]  # in the array's order
        axes: HWC
        nodata: 0                    # a stored number, one a band, or `none`
      S1GRD/zarr.zip:                # only in tars of the folder S1GRD
        array: bands
        modality: s1grd_10
        sensor: sentinel1-grd
        bands: [VV, VH]
        axes: TCHW
        metadata: {lonlat: [center_lon, center_lat], time: time, time_unit: ns, bands: band}
      mask.tif: {mask: cover, classes: [water, land], ignore: 255}
      json:
        metadata: {lonlat: [place.lon, place.lat], time: date, split: split}
        labels: {crop: {key: crop, kind: class, classes: [wheat, maize]}}
      cls: {label: scene, kind: class, classes: [dark, bright]}
    ignore: [txt, S2RGB/zarr.zip]

Several arrays of one member are a list. Scale, offset, no-data and grid may be left out where the
sensor says them; whatever is unsaid then is an error.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fm import sensors
from fm.errors import FMError, UsageError, suggest
from shards.foreign.declare import (
    PLACES,
    TIME_UNITS,
    ArrayMember,
    Declaration,
    JsonMember,
    Member,
    TextMember,
    check_names,
    is_pickle,
)
from shards.foreign.names import AXES, WITH_PART, make
from shards.format import LabelInfo
from shards.sources.sensor_file import listed, read_sensor_file

KEYS = ("name", "licence", "source", "members", "ignore")
ARRAY_KEYS = (
    *("modality", "sensor", "bands", "axes", "scale", "offset", "nodata", "gsd_m"),
    *("array", "tensor", "metadata"),
)
MASK_KEYS = ("mask", "member", "classes", "ignore", "axes", "array", "tensor")
TEXT_KEYS = ("label", "kind", "classes", "ignore")
JSON_KEYS = ("metadata", "labels")
FAMILY = {
    "npy": "foreign-npy",
    "tif": "tif",
    "tiff": "tif",
    "zarr.zip": "zarr.zip",
    "safetensors": "safetensors",
}


def read_declaration(path: str | os.PathLike[str]) -> Declaration:
    """Read a declaration file.

    Raises:
        FMError: missing, no YAML, or saying what cannot be meant; all problems in one message.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FMError(f"{path}: no such declaration file") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:160]
        raise FMError(f"{path}: this declaration is not YAML ({reason})") from None
    try:
        return from_mapping(content, path.parent)
    except FMError as error:
        raise type(error)(f"{path}: {error}") from None


def from_mapping(content: Any, folder: Path = Path()) -> Declaration:
    """Build a declaration from what its YAML holds.

    Args:
        content: the parsed YAML.
        folder: where sensor files are looked for.

    Raises:
        FMError: all problems, in one message.
    """
    if not isinstance(content, dict) or not isinstance(content.get("members"), dict):
        raise FMError("a declaration is a mapping with `members:`, one entry a member's ending")
    problems = [
        f"key {key!r} is unknown; {suggest(str(key), KEYS)}" for key in content if key not in KEYS
    ]
    members: dict[str, tuple[Member, ...]] = {}
    for pattern, value in content["members"].items():
        items = value if isinstance(value, list) else [value]
        found: list[Member] = []
        for item in items:
            try:
                found.append(_member(str(pattern), item, folder))
            except FMError as error:
                problems.append(f"{pattern}: {error}")
        members[str(pattern)] = tuple(found)
    ignore = content.get("ignore") or []
    if not isinstance(ignore, list) or not all(isinstance(item, str) for item in ignore):
        problems.append("ignore is no list of endings")
        ignore = []
    problems += [f"{item} is both declared and ignored" for item in ignore if item in members]
    for key in ("name", "licence", "source"):
        if not isinstance(content.get(key, ""), str):
            problems.append(f"{key} is {content[key]!r}, expected text")
    declared = Declaration(
        str(content.get("name") or ""),
        str(content.get("licence") or ""),
        str(content.get("source") or ""),
        members,
        tuple(ignore),
    )
    problems += check_names(declared)
    if problems:
        raise FMError(listed(problems))
    return declared


def _member(pattern: str, item: Any, folder: Path) -> Member:
    ending = pattern.rsplit("/", 1)[-1]
    last = ending.rsplit(".", 1)[-1]
    if pattern.count("/") > 1 or not ending or pattern.startswith("/"):
        raise UsageError("write ENDING or FOLDER/ENDING")
    if not isinstance(item, dict):
        raise UsageError(f"{item!r} is no mapping")
    if is_pickle(ending):
        raise UsageError("pickles are refused: loading one runs code; use --convert-pickles first")
    if last == "json":
        return _json(item)
    if "label" in item:
        _only(item, TEXT_KEYS)
        return TextMember(label_info(str(item["label"]), item))
    kinds = [kind for key, kind in FAMILY.items() if ending == key or ending.endswith(f".{key}")]
    if not kinds:
        raise UsageError(f"members .{ending} are not read; readable: {', '.join(FAMILY)}, json")
    return _array(kinds[0], item, folder)


def _array(family: str, item: Mapping[str, Any], folder: Path) -> ArrayMember:
    mask = "mask" in item
    _only(item, MASK_KEYS if mask else ARRAY_KEYS)
    part = item.get("array") if family == "zarr.zip" else item.get("tensor")
    if family in WITH_PART and not isinstance(part, str):
        key = "array" if family == "zarr.zip" else "tensor"
        raise UsageError(f"say which one with {key}: NAME")
    axes = item.get("axes", "CHW" if family == "tif" else None)
    if axes not in AXES or (family == "tif" and axes != "CHW"):
        raise UsageError(f"axes is {axes!r}; say how the array is stored: {', '.join(AXES)}")
    codec = make(family, part if family in WITH_PART else None, str(axes))
    if mask:
        name = str(item["mask"])
        member = str(item.get("member", f"{name}_mask"))
        label = label_info(name, {**item, "kind": "mask"}, member)
        return ArrayMember(member, codec, str(axes), label=label)
    bands = item.get("bands")
    if not isinstance(bands, list) or not bands or not all(isinstance(b, str) for b in bands):
        raise UsageError("bands is missing: a list of names, in the array's order")
    scale, offset = number(item, "scale"), number(item, "offset")
    name, nodata = str(item.get("sensor")), item.get("nodata")
    said = "nodata" in item
    if name in sensors.list_sensors():
        known = sensors.sensor(name)
        table = known.select(bands)
        scale = known.scale if scale is None else scale
        offset = known.offset if offset is None else offset
    elif name.endswith((".yaml", ".yml")):
        own = read_sensor_file(folder / name)
        name, table = own.name, own.select(bands)
        scale = own.scale if scale is None else scale
        offset = own.offset if offset is None else offset
        if not said and (stated := own.nodata_of(bands)) is not None:
            said, nodata = True, list(stated)
    else:
        raise UsageError(
            f"sensor {name!r} is neither known nor a sensor file (.yaml); "
            f"{suggest(name, sensors.list_sensors())}"
        )
    grids = {band.gsd_m for band in table}
    gsd = number(item, "gsd_m")
    if gsd is None and len(grids) > 1:
        raise UsageError(f"bands of {sorted(grids)} m on one grid; say gsd_m")
    return ArrayMember(
        name=str(item.get("modality")),
        codec=codec,
        axes=str(axes),
        sensor=name,
        table=table,
        scale=scale,
        offset=offset,
        nodata=_nodata(nodata, len(table)),
        nodata_said=said,
        gsd_m=float(grids.pop() if gsd is None else gsd),
        places=_places(item.get("metadata"), family == "zarr.zip"),
    )


def _nodata(value: Any, count: int) -> tuple[int | None, ...] | None:
    items = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(items) != count:
        raise UsageError(f"nodata lists {len(items)} numbers for {count} bands")
    plain = [None if item in (None, "none") else item for item in items]
    if not all(item is None or type(item) is int for item in plain):
        raise UsageError(f"nodata {value!r}: a whole stored number, one a band, or none")
    return None if all(item is None for item in plain) else tuple(plain)


def _json(item: Mapping[str, Any]) -> JsonMember:
    _only(item, JSON_KEYS)
    labels = item.get("labels") or {}
    if not isinstance(labels, dict):
        raise UsageError("labels is no mapping of label names")
    found = {}
    for name, value in labels.items():
        if not isinstance(value, dict) or not isinstance(value.get("key"), str):
            raise UsageError(f"label {name!r}: say its key in the JSON")
        _only(value, ("key", "kind", "classes", "ignore"))
        found[str(name)] = (value["key"], label_info(str(name), value))
    return JsonMember(_places(item.get("metadata"), True), found)


def _places(value: Any, allowed: bool) -> dict[str, Any]:
    if value is None:
        return {}
    if not allowed or not isinstance(value, dict):
        raise UsageError("metadata is a mapping, of zarr.zip and json members")
    _only(value, PLACES)
    pair = value.get("lonlat", ["", ""])
    if not isinstance(pair, list) or len(pair) != 2:
        raise UsageError("metadata: lonlat names two places, [longitude, latitude]")
    if value.get("time_unit", "ns") not in TIME_UNITS:
        raise UsageError(f"metadata: time_unit is one of {', '.join(TIME_UNITS)}, since 1970")
    return dict(value)


def label_info(name: str, item: Mapping[str, Any], member: str | None = None) -> LabelInfo:
    """Build a label from a declaration's entry."""
    classes = item.get("classes") or []
    if not isinstance(classes, list):
        raise UsageError(f"label {name!r}: classes is no list")
    ignore = item.get("ignore")
    if ignore is not None and type(ignore) is not int:
        raise UsageError(f"label {name!r}: ignore is {ignore!r}, expected a whole number")
    kind: Any = str(item.get("kind"))
    return LabelInfo(name, kind, tuple(str(c) for c in classes), ignore, member)


def number(item: Mapping[str, Any], key: str) -> float | None:
    """Return a number of a mapping, or None where the key is absent."""
    value = item.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = "; write 1.0e-4, YAML takes 1e-4 for text" if isinstance(value, str) else ""
        raise UsageError(f"{key} is {value!r}, expected a number{hint}")
    return float(value)


def from_options(options: Iterable[str]) -> Declaration:
    """Build a declaration from `--member ENDING=MODALITY:SENSOR:BANDS:AXES:NODATA` options.

    An array inside the member stands after `#`: `zarr.zip#bands=...`. Bands and no-data numbers
    are separated by commas.

    Raises:
        UsageError: an option of another form, or one that cannot be meant.
    """
    members: dict[str, list[dict[str, Any]]] = {}
    for option in options:
        head, equals, rest = option.partition("=")
        words: Sequence[str] = rest.split(":")
        if not equals or len(words) != 5 or not all(words):
            raise UsageError(
                f"--member {option}: write ENDING=MODALITY:SENSOR:BANDS:AXES:NODATA, such as "
                "s2.npy=s2l1c_10:sentinel2-l1c:B02,B03,B04,B08:CHW:0"
            )
        pattern, _, part = head.partition("#")
        numbers = words[4].split(",")
        try:
            nodata = [None if n == "none" else int(n) for n in numbers]
        except ValueError:
            raise UsageError(f"--member {option}: NODATA is whole numbers or `none`") from None
        entry: dict[str, Any] = {
            "modality": words[0],
            "sensor": words[1],
            "bands": words[2].split(","),
            "axes": words[3],
            "nodata": nodata if len(nodata) > 1 else nodata[0],
        }
        if part:
            entry["array" if pattern.endswith("zarr.zip") else "tensor"] = part
        members.setdefault(pattern, []).append(entry)
    return from_mapping({"members": members})


def _only(item: Mapping[str, Any], valid: tuple[str, ...]) -> None:
    for key in item:
        if key not in valid:
            raise UsageError(f"key {key!r} is unknown; {suggest(str(key), valid)}")
