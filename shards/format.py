"""What a dataset folder holds: `dataset.json`, `index.parquet` and WebDataset tars.

`dataset.json` describes the whole; `index.parquet` has one row a sample; the tars hold the
members `KEY.MODALITY.blosc` or `KEY.MODALITY.npy` and one `KEY.json` a sample. Reading refuses
a description that is newer than this code, incomplete, or whose names could leave the folder.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from fm.errors import FMError, UsageError, suggest
from fm.files import write_json
from fm.sensors import Band, sensor
from fm.version import WRITER, check_format
from shards.foreign.names import is_foreign, parse

FORMAT_VERSION = 2
LABELS_VERSION = 3
"""Of datasets with fractions, or with labels of each image of a series; else as format 2."""
DESCRIPTION = "dataset.json"
INDEX = "index.parquet"
COLUMNS = "index.bin"
"""Fixed-width columns made from the index (`shards.index.columns`); opening is slow without."""
CODECS = {
    "npy": "npy",
    "blosc-lz4": "blosc",
    "blosc-lz4hc": "blosc",
    "blosc-zstd": "blosc",
    "video": "mkv",
}
"""Codec names and the ending of their members."""
DTYPES = (
    *("uint8", "int8", "uint16", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
LabelKind = Literal["class", "multilabel", "fractions", "mask", "regression", "text"]

FIXED_COLUMNS = (
    *("key", "shard", "row", "col", "height", "width", "lon", "lat", "time", "split"),
    *("valid_fraction", "times", "crs", "transform", "duplicate_of", "geometry"),
)
_RESERVED = (*FIXED_COLUMNS, "sample", "json", "month", "year", "has", "members")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+=@,-]*")
_MEMBER = re.compile(r"[a-z][a-z0-9_]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARD = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*\.tar")
_ROOT = re.compile(r"/.*|[a-z][a-z0-9+.-]*://.*")


@dataclass(frozen=True)
class ModalityInfo:
    """One array on one grid.

    Attributes:
        name: such as `"s2l1c_10"`; also the member's name in the tars.
        sensor: a name of `fm.sensors`.
        bands: band names in the order of the array's C axis.
        dtype: NumPy name of the stored type.
        codec: one of `CODECS`.
        scale: physical = stored * scale + offset, for integer types.
        offset: see `scale`.
        gsd_m: ground sampling distance in metres.
        statistics: per band, in physical units: mean, std, min, max, p1, p2, p50, p98, p99, count.
        nodata: for each band the stored number that means "no data", None where every number is
            data; None for all bands alike. Floating types use NaN.
        table: the bands with wavelength, width, grid and unit, so that a dataset describes
            itself; made from `fm.sensors` when it is empty.
        quality: of a lossy codec, what was lost, as its encoder measured it; else None.
    """

    name: str
    sensor: str
    bands: tuple[str, ...]
    dtype: str
    codec: str
    scale: float
    offset: float
    gsd_m: float
    statistics: dict[str, list[float]]
    nodata: tuple[int | None, ...] | None = None
    table: tuple[Band, ...] = ()
    quality: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Fill the band table in, in plain floats, as it reads back from JSON."""
        table = self.table or sensor(self.sensor).select(self.bands)
        object.__setattr__(self, "table", tuple(_plain(band) for band in table))

    @property
    def scaling(self) -> tuple[float, float]:
        """`(scale, offset)` that turns the stored array into physical units.

        `(1, 0)` for floating types, which are stored in physical units.
        """
        return (1.0, 0.0) if self.dtype.startswith("float") else (self.scale, self.offset)


@dataclass(frozen=True)
class LabelInfo:
    """One label.

    Attributes:
        name: its column in the index (a mask has no column but a member).
        kind: `class` (one integer), `multilabel` (a list of integers), `fractions` (the share of
            each class, 0 to 1), `regression` (a number), `mask` (an array member `[H, W]`), `text`.
        classes: class names; the integer is the place in this tuple.
        ignore: the integer that says "no label here".
        member: the array member of a mask; None for the other kinds.
        dtype: of a mask as stored; set by the writer.
        codec: of a mask as stored; set by the writer.
        images: number of images of a series, each of which has a label of its own; None where the
            label is of the whole sample.
    """

    name: str
    kind: LabelKind
    classes: tuple[str, ...] = ()
    ignore: int | None = None
    member: str | None = None
    dtype: str | None = None
    codec: str | None = None
    images: int | None = None


@dataclass(frozen=True)
class ShardInfo:
    """One tar: file name, number of samples, size in bytes, SHA-256 of the whole file.

    `count` is 0 for a tar that holds further members of samples counted elsewhere.
    """

    name: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a dataset, as in `dataset.json`.

    Attributes:
        name: of the dataset; shard names begin with it.
        modalities: by name.
        labels: by name.
        provenance: where the data came from; whatever the writer gave.
        licence: of the data.
        shards: in the order of the index.
        index_sha256: of `index.parquet`.
        format_version: of this description.
        root: folder or URL where the tars lie; None when they are beside `dataset.json`.
        manifest_hash: SHA-256 over everything that decides what is read (modalities, labels,
            shards, index), not over name, provenance, licence and place.
    """

    name: str
    modalities: dict[str, ModalityInfo]
    labels: dict[str, LabelInfo]
    provenance: dict[str, Any]
    licence: str
    shards: tuple[ShardInfo, ...]
    index_sha256: str
    format_version: int = FORMAT_VERSION
    root: str | None = None
    manifest_hash: str = field(default="")

    def __post_init__(self) -> None:
        """Set the format that the labels need, and the manifest hash from the content."""
        if any(label.kind == "fractions" or label.images for label in self.labels.values()):
            object.__setattr__(self, "format_version", LABELS_VERSION)
        object.__setattr__(self, "manifest_hash", manifest_hash(self))

    @property
    def count(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def members(self) -> tuple[str, ...]:
        """Every array member a sample may have: modalities, then masks."""
        masks = (label.member for label in self.labels.values() if label.member is not None)
        return (*self.modalities, *masks)

    def stored(self, member: str) -> tuple[str, str]:
        """Return `(dtype, codec)` of a member."""
        if member in self.modalities:
            found = self.modalities[member]
            return found.dtype, found.codec
        label = next(label for label in self.labels.values() if label.member == member)
        return check_dtype(str(label.dtype)), check_codec(str(label.codec))

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, each once."""
        return tuple(dict.fromkeys(m.sensor for m in self.modalities.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return what `dataset.json` holds, in the description's own format."""
        value = dataclasses.asdict(self)
        for label in value["labels"].values():
            if label["images"] is None:  # as format 2 wrote it
                del label["images"]
        if self.format_version == 1:
            del value["root"]
            for modality in value["modalities"].values():
                for name in ("nodata", "table", "quality"):
                    del modality[name]
            return value
        value["checksum"] = _digest(value)
        return value


def manifest_hash(info: DatasetInfo) -> str:
    """Return the SHA-256 of what decides which pixels and labels are read."""
    kept = {"format_version", "modalities", "labels", "shards", "index_sha256"}
    return _digest({key: item for key, item in info.to_dict().items() if key in kept})


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_key(key: str) -> str:
    """Return a sample key that is safe in a tar, or raise `FMError`."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise FMError(
            f"sample key {key!r}: keys are letters, digits and _ + = @ , - (no dot, no slash); "
            "rename the sample"
        )
    return key


def check_member(name: str) -> str:
    """Return the name of a modality, mask or label, or raise `FMError`."""
    if not isinstance(name, str) or not _MEMBER.fullmatch(name) or name in _RESERVED:
        raise FMError(
            f"name {name!r} of a modality or label: use lower-case letters, digits and _, "
            f"and none of {', '.join(_RESERVED)}"
        )
    return name


def check_dataset_name(name: str) -> str:
    """Return a dataset name that is safe in a file name, or raise `FMError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FMError(f"dataset name {name!r}: use letters, digits, _ and - only")
    return name


def check_shard(name: str) -> str:
    """Return a shard's file name, or raise `FMError` when it could leave the folder."""
    if not isinstance(name, str) or not _SHARD.fullmatch(name):
        raise FMError(f"shard name {name!r} is not a plain NAME.tar; the dataset is damaged")
    return name


def check_dtype(dtype: str) -> str:
    """Return a dtype name that we store, or raise `FMError`."""
    if dtype not in DTYPES:
        raise FMError(f"dtype {dtype!r} is not stored; {suggest(str(dtype), DTYPES)}")
    return dtype


def check_codec(codec: str) -> str:
    """Return a codec name, or raise `UsageError`."""
    if is_foreign(codec):
        parse(codec)
    elif codec not in CODECS:
        raise UsageError(f"unknown codec {codec!r}; {suggest(str(codec), CODECS)}")
    return codec


def write_info(folder: str | os.PathLike[str], info: DatasetInfo) -> None:
    """Write `dataset.json`."""
    write_json(Path(folder) / DESCRIPTION, {**info.to_dict(), "written_by": WRITER})


def read_info(folder: str | os.PathLike[str]) -> DatasetInfo:
    """Read and check `dataset.json` of a local folder; see `parse_info`."""
    folder = Path(folder)
    if not folder.exists():
        raise FMError(f"{folder}: no such dataset folder; `fm shards build` makes one")
    if not (folder / DESCRIPTION).is_file():
        raise FMError(f"{folder}: not a dataset (no {DESCRIPTION}); `fm shards build` makes one")
    return parse_info((folder / DESCRIPTION).read_bytes(), str(folder / DESCRIPTION))


def parse_info(data: bytes, where: str) -> DatasetInfo:
    """Parse and check the bytes of a `dataset.json`.

    Args:
        data: the file's content.
        where: its name in an error.

    Raises:
        FMError: not JSON, a format newer than this code, or incomplete, altered or unsafe.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise FMError(f"{where}: this dataset description is not valid JSON ({reason})") from None
    try:
        return info_from_dict(value)
    except FMError as error:
        raise type(error)(f"{where}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FMError(f"{where}: impossible value ({reason}); the description is damaged") from None


def info_from_dict(value: Any) -> DatasetInfo:
    """Build a `DatasetInfo` from parsed JSON, checking every name and type."""
    if not isinstance(value, dict) or not isinstance(value.get("format_version"), int):
        raise FMError("no integer 'format_version'; this is not a dataset description of eofm")
    version = check_format(value, LABELS_VERSION, "dataset description")
    modalities = {
        name: _modality(check_member(name), item)
        for name, item in _get(value, "modalities", dict).items()
    }
    labels = {
        name: _label(check_member(name), item) for name, item in _get(value, "labels", dict).items()
    }
    shards = tuple(
        ShardInfo(
            check_shard(_get(item, "name", str)),
            _get(item, "count", int),
            _get(item, "bytes", int),
            _get(item, "sha256", str),
        )
        for item in _get(value, "shards", list)
    )
    if len({shard.name for shard in shards}) != len(shards):
        raise FMError("a shard is listed twice; the description is damaged")
    root = value.get("root")
    if root is not None and (not isinstance(root, str) or not _ROOT.fullmatch(root)):
        raise FMError("'root' is neither an absolute folder nor a URL; the description is damaged")
    info = DatasetInfo(
        name=check_dataset_name(_get(value, "name", str)),
        modalities=modalities,
        labels=labels,
        provenance=_get(value, "provenance", dict),
        licence=_get(value, "licence", str),
        shards=shards,
        index_sha256=_get(value, "index_sha256", str),
        format_version=version,
        root=root,
    )
    if info.manifest_hash != _get(value, "manifest_hash", str):
        raise FMError("manifest_hash does not match the content; the description was altered")
    if version > 1 and value.get("checksum") != info.to_dict()["checksum"]:
        raise FMError("checksum does not match the content; the description was altered")
    return info


def check_labels(labels: Mapping[str, LabelInfo], modalities: Mapping[str, Any]) -> None:
    """Raise `FMError` when a label is not described in full or its names collide."""
    taken = set(modalities)
    for key, label in labels.items():
        if label.name != key:
            raise FMError(f"label {key!r} is declared with the other name {label.name!r}")
        if label.kind not in get_args(LabelKind):
            raise FMError(f"label {key!r}: {label.kind!r}; {suggest(label.kind, _KINDS)}")
        if (label.kind == "mask") != (label.member is not None):
            raise FMError(f"label {key!r}: a mask, and only a mask, names its member")
        if label.kind not in ("regression", "text") and not label.classes:
            raise FMError(f"label {key!r}: name its classes")
        if label.images is not None and (label.images < 1 or label.kind in ("mask", "text")):
            raise FMError(f"label {key!r}: images={label.images} of a {label.kind} label")
        for name in {check_member(key), check_member(label.member or key)}:
            if name in taken:
                raise FMError(f"label {key!r}: the name {name!r} is taken; choose another")
            taken.add(name)


_KINDS = get_args(LabelKind)


def _get(value: Any, key: str, kind: type) -> Any:
    item = value.get(key) if isinstance(value, dict) else None
    good = isinstance(item, (int, float)) if kind is float else isinstance(item, kind)
    if not good or isinstance(item, bool):
        raise FMError(f"'{key}' is missing or is no {kind.__name__}; the description is damaged")
    return float(cast(float, item)) if kind is float else item


def _strings(value: Any, key: str) -> tuple[str, ...]:
    items = _get(value, key, list)
    if not all(isinstance(item, str) for item in items):
        raise FMError(f"'{key}' must be a list of strings; the description is damaged")
    return tuple(items)


def _modality(name: str, value: Any) -> ModalityInfo:
    bands = _strings(value, "bands")
    nodata = value.get("nodata")
    if nodata is not None:
        whole = isinstance(nodata, list) and all(n is None or type(n) is int for n in nodata)
        if not whole or len(nodata) != len(bands):
            raise FMError(f"'nodata' of {name} is no number a band; the description is damaged")
    table = tuple(_band(name, item) for item in value.get("table") or ())
    if table and tuple(band.name for band in table) != bands:
        raise FMError(f"'table' of {name} lists other bands; the description is damaged")
    quality = value.get("quality")
    return ModalityInfo(
        name=name,
        sensor=_get(value, "sensor", str),
        bands=bands,
        dtype=check_dtype(_get(value, "dtype", str)),
        codec=check_codec(_get(value, "codec", str)),
        scale=_get(value, "scale", float),
        offset=_get(value, "offset", float),
        gsd_m=_get(value, "gsd_m", float),
        statistics=_get(value, "statistics", dict),
        nodata=None if nodata is None else tuple(nodata),
        table=table,
        quality=quality if isinstance(quality, dict) else None,
    )


def _plain(band: Band) -> Band:
    def number(value: float | None) -> float | None:
        return None if value is None else float(value)

    return dataclasses.replace(
        band,
        wavelength_nm=number(band.wavelength_nm),
        fwhm_nm=number(band.fwhm_nm),
        gsd_m=float(band.gsd_m),
    )


def _band(modality: str, value: Any) -> Band:
    if not isinstance(value, dict):
        raise FMError(f"a band of {modality} is no object; the description is damaged")

    def optional(key: str) -> float | None:
        return None if value.get(key) is None else float(_get(value, key, float))

    name = _get(value, "name", str)
    polarisation = value.get("polarisation")
    return Band(
        name=name,
        wavelength_nm=optional("wavelength_nm"),
        fwhm_nm=optional("fwhm_nm"),
        gsd_m=_get(value, "gsd_m", float),
        unit=_get(value, "unit", str),
        polarisation=polarisation if isinstance(polarisation, str) else None,
        modality=_get(value, "modality", str),
    )


def _label(name: str, value: Any) -> LabelInfo:
    if not isinstance(value, dict):
        raise FMError(f"label {name!r} is no object; the description is damaged")
    ignore, member = value.get("ignore"), value.get("member")
    label = LabelInfo(
        name=name,
        kind=cast(LabelKind, _get(value, "kind", str)),
        classes=_strings(value, "classes"),
        ignore=None if ignore is None else _get(value, "ignore", int),
        member=None if member is None else check_member(member),
        dtype=None if member is None else check_dtype(_get(value, "dtype", str)),
        codec=None if member is None else check_codec(_get(value, "codec", str)),
        images=None if value.get("images") is None else _get(value, "images", int),
    )
    check_labels({name: label}, {})
    return label
