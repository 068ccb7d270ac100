"""A small, bounded reader of zipped Zarr stores (`.zarr.zip` members).

Zarr v2 (`.zarray`) and v3 (`zarr.json`, regular chunk grid), chunks stored or deflated in the zip,
compressed with one of `COMPRESSORS`. Filters, sharding, object arrays and every other codec are
refused by name, so no pickle and no code can come in. All sizes are known and bounded before
memory is allocated or a decoder runs; a chunk stored whole is decompressed straight into place.
"""

import itertools
import json
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import blosc, lz4, zstd

from shards.codecs.codec import MAX_BYTES, CorruptError

COMPRESSORS = ("blosc", "zstd", "lz4", "zlib", "gzip")
MAX_DIRECTORY = 8 * 2**20
"""Most bytes of a zip's central directory (about 100,000 entries)."""
MAX_METADATA = 2**20
MAX_CHUNKS = 65_536
MAX_SMALL = 2**20
"""Most bytes of an array read as metadata (a coordinate, a time)."""
_CHUNK_SLACK = 64 * 2**20
_BLOSC_HEADER = 16
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class ArrayInfo:
    """What the metadata of one array say."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    order: str
    compressor: str | None
    fill: Any
    prefix: str
    separator: str

    def key(self, place: tuple[int, ...]) -> str:
        """Name of a chunk in the zip."""
        last = self.separator.join(str(number) for number in place)
        if self.prefix.endswith("c"):  # Zarr v3 keys: c/0/0, and c alone for a scalar
            return f"{self.prefix}{self.separator}{last}" if place else self.prefix
        return f"{self.prefix}{last or '0'}"


class ZipStore:
    """The entries of a zip in memory.

    Args:
        data: the bytes of the zip.

    Raises:
        CorruptError: not a zip, or one whose directory is damaged or too large.
    """

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data).cast("B")
        self._entries = _directory(self._data)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str, limit: int) -> Any:
        """Return an entry's bytes (a view when it is stored), at most `limit` of them.

        Raises:
            CorruptError: no such entry, damaged, larger than `limit`, or compressed otherwise than
                by deflation.
        """
        if name not in self._entries:
            raise CorruptError(f"the zip holds no {name!r}")
        method, packed, size, at = self._entries[name]
        if size > limit or packed > limit + 1024:
            raise CorruptError(f"zip entry {name!r} of {size} bytes is larger than possible")
        head = self._data[at : at + 30]
        if len(head) < 30 or bytes(head[:4]) != b"PK\x03\x04":
            raise CorruptError(f"zip entry {name!r} is not where the directory says")
        start = at + 30 + sum(struct.unpack("<HH", head[26:30]))
        body = self._data[start : start + packed]
        if len(body) < packed:
            raise CorruptError(f"zip entry {name!r} is cut off")
        if method == 0 and packed == size:
            return body
        if method != 8:
            raise CorruptError(f"zip entry {name!r} has compression method {method}, not read")
        return _inflate(body, size, -15, f"zip entry {name!r}")

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON object of the zip."""
        try:
            value = json.loads(bytes(self.read(name, MAX_METADATA)))
        except (ValueError, RecursionError):
            raise CorruptError(f"{name!r} is not JSON") from None
        if not isinstance(value, dict):
            raise CorruptError(f"{name!r} is no JSON object")
        return value

    def info(self, name: str) -> ArrayInfo:
        """Read the metadata of an array.

        Raises:
            CorruptError: there is no such array, or it is of a kind that is not read.
        """
        if f"{name}/.zarray" in self:
            return _v2(name, self.json(f"{name}/.zarray"))
        if f"{name}/zarr.json" in self:
            return _v3(name, self.json(f"{name}/zarr.json"))
        raise CorruptError(f"the Zarr store holds no array {name!r}")

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of an array; empty where there are none."""
        if f"{name}/.zattrs" in self:
            return self.json(f"{name}/.zattrs")
        if f"{name}/zarr.json" in self:
            value = self.json(f"{name}/zarr.json").get("attributes", {})
            return value if isinstance(value, dict) else {}
        return {}

    def decode_into(self, info: ArrayInfo, out: np.ndarray) -> None:
        """Decode an array into a C-contiguous one of the same shape and dtype.

        Raises:
            CorruptError: a chunk is damaged or has another size than it should.
        """
        size = math.prod(info.chunks) * info.dtype.itemsize
        if size > max(_CHUNK_SLACK, 8 * out.nbytes):
            raise CorruptError(f"{info.name}: chunks of {size} bytes in an array of {out.nbytes}")
        counts = [-(-side // chunk) for side, chunk in zip(info.shape, info.chunks, strict=True)]
        if math.prod(counts) > MAX_CHUNKS:
            raise CorruptError(f"{info.name}: {math.prod(counts)} chunks, more than {MAX_CHUNKS}")
        plain = info.order == "C" and info.dtype == out.dtype
        scratch = None
        for place in itertools.product(*(range(count) for count in counts)):
            key = info.key(place)
            region = tuple(
                slice(at * chunk, min((at + 1) * chunk, side))
                for at, chunk, side in zip(place, info.chunks, info.shape, strict=True)
            )
            if key not in self:
                if info.fill is None:
                    raise CorruptError(f"{info.name}: chunk {key!r} is missing, no fill value")
                out[region] = info.fill
                continue
            data, part = self.read(key, size + size // 8 + 4096), out[region]
            if plain and part.shape == info.chunks and part.flags.c_contiguous:
                _decompress(data, info, part if part.ndim else out)
                continue
            if scratch is None:
                made: Any = np.empty(info.chunks, info.dtype, order=info.order)  # type: ignore[call-overload]
                scratch = made
            _decompress(data, info, scratch)
            out[region] = scratch[tuple(slice(part.stop - part.start) for part in region)]

    def small(self, name: str) -> np.ndarray:
        """Return a small array (numbers, dates or fixed-width text), bounded first.

        Raises:
            CorruptError: as for the other methods, or more than `MAX_SMALL` bytes.
        """
        info = self.info(name)
        if math.prod(info.shape) * info.dtype.itemsize > MAX_SMALL:
            raise CorruptError(f"{name}: larger than metadata can be")
        out = np.empty(info.shape, info.dtype)
        self.decode_into(info, out)
        return out


def _directory(data: memoryview) -> dict[str, tuple[int, int, int, int]]:
    """Parse the central directory: name to (method, packed size, size, offset)."""
    tail = bytes(data[-22:])
    if not tail.startswith(b"PK\x05\x06"):  # a comment follows the record
        tail = bytes(data[-(22 + 65_535) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise CorruptError("not a zip (it has no end record)")
    count, size, start = struct.unpack("<HII", tail[at + 10 : at + 20])
    place = len(data) - len(tail) + at
    if 0xFFFFFFFF in (size, start) or count == 0xFFFF:
        raise CorruptError("a zip64 archive; such large members are not read")
    if size > MAX_DIRECTORY or start + size > place:
        raise CorruptError("the zip's directory is damaged or too large")
    directory = bytes(data[start : start + size])
    entries: dict[str, tuple[int, int, int, int]] = {}
    at = 0
    for _ in range(count):
        record = directory[at : at + 46]
        if len(record) < 46 or record[:4] != b"PK\x01\x02":
            raise CorruptError("the zip's directory is damaged")
        flags, method = struct.unpack("<HH", record[8:12])
        packed, length, named, extra, comment = struct.unpack("<IIHHH", record[20:34])
        if flags & 1:
            raise CorruptError("the zip is encrypted")
        name = directory[at + 46 : at + 46 + named].decode("utf-8", "replace")
        if name in entries:
            raise CorruptError(f"zip entry {name!r} comes twice")
        entries[name] = (method, packed, length, struct.unpack("<I", record[42:46])[0])
        at += 46 + named + extra + comment
    return entries


def _v2(name: str, value: dict[str, Any]) -> ArrayInfo:
    if value.get("filters"):
        raise CorruptError(f"{name}: Zarr filters are not read")
    compressor = value.get("compressor")
    identity = compressor.get("id") if isinstance(compressor, dict) else compressor
    return _checked(
        name,
        value.get("shape"),
        value.get("chunks"),
        value.get("dtype"),
        value.get("order", "C"),
        identity,
        value.get("fill_value"),
        f"{name}/",
        value.get("dimension_separator", "."),
    )


def _v3(name: str, value: dict[str, Any]) -> ArrayInfo:
    grid, encoding, codecs = (
        value.get(key) for key in ("chunk_grid", "chunk_key_encoding", "codecs")
    )
    try:
        steps = [(item["name"], item.get("configuration") or {}) for item in codecs or ()]
        kinds = [step[0] for step in steps]
        if grid["name"] != "regular" or kinds[:1] != ["bytes"] or len(kinds) > 2:  # type: ignore[index]
            raise CorruptError(f"{name}: Zarr v3 codecs {kinds} are not read")
        little = steps[0][1].get("endian", "little") == "little"
        chunks = grid["configuration"]["chunk_shape"]  # type: ignore[index]
        plain = encoding["name"] == "v2"  # type: ignore[index]
        separator = (encoding.get("configuration") or {}).get(  # type: ignore[union-attr]
            "separator", "." if plain else "/"
        )
        dtype = np.dtype(str(value["data_type"])).newbyteorder("<" if little else ">").str
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CorruptError(f"{name}: Zarr v3 metadata that are not understood") from None
    prefix = f"{name}/" if plain else f"{name}/c"
    identity = kinds[1] if len(kinds) == 2 else None
    fill = value.get("fill_value")
    return _checked(name, value.get("shape"), chunks, dtype, "C", identity, fill, prefix, separator)


def _checked(
    name: str,
    shape: Any,
    chunks: Any,
    dtype: Any,
    order: Any,
    compressor: Any,
    fill: Any,
    prefix: str,
    separator: Any,
) -> ArrayInfo:
    for sides in (shape, chunks):
        whole = isinstance(sides, list) and all(type(side) is int for side in sides)
        if not whole or len(sides) > 8 or any(not 0 < side < 2**31 for side in sides):
            raise CorruptError(f"{name}: shape or chunks {str(sides)[:60]} are not possible")
    if len(shape) != len(chunks):
        raise CorruptError(f"{name}: chunks {chunks} do not fit shape {shape}")
    try:
        parsed = np.dtype(dtype) if isinstance(dtype, str) else None
    except (TypeError, ValueError, SyntaxError):
        parsed = None
    if parsed is None or parsed.kind not in "biufUSM" or parsed.fields is not None:
        raise CorruptError(f"{name}: dtype {str(dtype)[:60]!r} is not read (objects need pickles)")
    if not 0 < parsed.itemsize <= 4096 or math.prod(shape) * parsed.itemsize > MAX_BYTES:
        raise CorruptError(f"{name}: {shape} of {parsed} is larger than {MAX_BYTES} bytes")
    if compressor is not None and compressor not in COMPRESSORS:
        raise CorruptError(
            f"{name}: compressor {str(compressor)[:60]!r} is not read; it reads "
            f"{', '.join(COMPRESSORS)}"
        )
    if order not in ("C", "F") or separator not in (".", "/"):
        raise CorruptError(f"{name}: order {str(order)[:20]!r}, separator {str(separator)[:20]!r}")
    try:
        value = None if fill is None else np.asarray(fill).astype(parsed)
    except (TypeError, ValueError, OverflowError):
        raise CorruptError(f"{name}: fill value {str(fill)[:40]!r} is no {parsed}") from None
    if value is not None and value.ndim:
        raise CorruptError(f"{name}: fill value {str(fill)[:40]!r} is no {parsed}")
    return ArrayInfo(
        name, tuple(shape), tuple(chunks), parsed, order, compressor, value, prefix, separator
    )


def _decompress(data: Any, info: ArrayInfo, out: np.ndarray) -> None:
    """Decode one chunk into an array that holds exactly its bytes."""
    where, size = f"{info.name}: a chunk", out.nbytes
    flat = out.reshape(-1, order="A").view(np.uint8) if out.ndim else out.reshape(1).view(np.uint8)
    kind, view = info.compressor, memoryview(data)
    try:
        if kind is None or kind in ("zlib", "gzip"):
            plain = view if kind is None else _inflate(view, size, 47, where)
            if len(plain) != size:
                raise CorruptError(f"{where} has {len(plain)} bytes, expected {size}")
            flat[...] = np.frombuffer(plain, np.uint8)
            return
        stated = _stated(view, kind)
        if stated != size:
            raise CorruptError(f"{where} says {stated} bytes, expected {size}")
        {"blosc": blosc, "zstd": zstd, "lz4": lz4}[kind].decompress(view, flat)
    except (RuntimeError, ValueError) as error:
        raise CorruptError(f"{where}: {kind}: {error}") from None


def _stated(view: memoryview, kind: str) -> int | None:
    """How many bytes a compressed chunk says it holds; None when it does not say."""
    if kind == "lz4":
        return int.from_bytes(view[:4], "little") if len(view) >= 4 else None
    if kind == "blosc":
        if len(view) < _BLOSC_HEADER or int.from_bytes(view[12:16], "little") != len(view):
            return None
        return int.from_bytes(view[4:8], "little")
    if len(view) < 6 or view[:4] != _ZSTD_MAGIC:  # RFC 8878, 3.1.1.1: frame header
        return None
    flag = view[4]
    code, single = flag >> 6, bool(flag & 0x20)
    if code == 0 and not single:
        return None
    at = 5 + (not single) + (0, 1, 2, 4)[flag & 3]
    value = int.from_bytes(view[at : at + (1, 2, 4, 8)[code]], "little")
    return value + 256 if code == 1 else value


def _inflate(data: Any, size: int, window: int, where: str) -> bytes:
    """Inflate at most `size` bytes."""
    machine = zlib.decompressobj(window)
    try:
        result = machine.decompress(data, size + 1)
    except zlib.error as error:
        raise CorruptError(f"{where}: {error}") from None
    if len(result) != size or not machine.eof:
        raise CorruptError(f"{where} does not hold {size} bytes")
    return result
