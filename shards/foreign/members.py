"""Foreign members into arrays: what they say they hold, and decoding straight into a buffer.

`describe` reads headers only. `decode_foreign` has the contract of `shards.codec.decode_into`:
the caller's array has the shape and dtype of the index, and bytes that hold anything else are a
`CorruptError`. Axes of length 1 may be added or left out ([1, C, H, W] is read as [C, H, W]): the
bytes are the same. Booleans come out as uint8, big-endian numbers in native order.
"""

import io
import json
import math
import warnings
from typing import Any

import numpy as np

from shards.codec import CorruptError, array_bytes
from shards.foreign.names import ForeignCodec, parse
from shards.foreign.zarr_zip import ZipStore
from shards.format import DTYPES

_NPY_HEADER = 4096
_TENSORS_HEADER = 2**20
_TENSOR_TYPES = {
    **{"U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "I32": "int32"},
    **{"I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "BOOL": "bool"},
}
_TIFF_BLOCK = 256 * 2**20
"""Most bytes of one tile or strip."""


def describe(data: Any, codec: str) -> tuple[tuple[int, ...], str]:
    """Return `(shape, dtype name)` that a member says it holds, after turning its axes.

    Args:
        data: the member's bytes (any buffer).
        codec: a foreign codec name (`shards.foreign.names`).

    Raises:
        CorruptError: it is not such a member, or larger than we store.
    """
    parsed = parse(codec)
    shape, dtype = _DESCRIBE[parsed.family](memoryview(data), parsed)
    if parsed.turn is not None:
        if len(shape) != len(parsed.turn):
            raise CorruptError(f"{codec} holds {len(shape)} axes, {len(parsed.turn)} are declared")
        shape = tuple(shape[axis] for axis in parsed.turn)
    name = "uint8" if dtype.kind == "b" else dtype.newbyteorder("=").name
    if name not in DTYPES:
        reason = "; it needs a pickle, which is refused" if dtype.hasobject else ""
        raise CorruptError(f"dtype {dtype} is not read{reason}")
    # A size limit on the whole, whatever the number of axes: declarations check those.
    array_bytes(shape[-5:] or (1,), name)
    array_bytes((math.prod(shape),), name)
    return shape, name


def decode_foreign(data: Any, codec: str, out: np.ndarray) -> None:
    """Decode a foreign member straight into a buffer.

    Args:
        data: the member's bytes (any buffer).
        codec: a foreign codec name (`shards.foreign.names`).
        out: C-contiguous array of the expected shape and dtype; overwritten.

    Raises:
        CorruptError: the bytes do not hold exactly such an array.
    """
    view = memoryview(data)
    parsed = parse(codec)
    shape, dtype = describe(view, codec)
    if _long(shape) != _long(out.shape) or dtype != out.dtype.name:
        raise CorruptError(f"{codec} holds {dtype} {shape}, the index says {out.dtype} {out.shape}")
    target = out.reshape(shape)
    if parsed.turn is not None:
        back = np.argsort(parsed.turn)
        target = target.transpose(back)
    _DECODE[parsed.family](view, parsed, target)


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _npy_head(
    view: memoryview, parsed: ForeignCodec
) -> tuple[tuple[int, ...], np.dtype, bool, int]:
    stream = io.BytesIO(bytes(view[:_NPY_HEADER]))
    try:
        version = np.lib.format.read_magic(stream)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = readers[version](stream, max_header_size=_NPY_HEADER)
    except Exception as error:  # the parser evaluates a literal: any text may come, any way to fail
        raise CorruptError(f"not a readable npy header ({type(error).__name__})") from None
    return tuple(int(side) for side in shape), np.dtype(dtype), bool(fortran), stream.tell()


def _npy_describe(view: memoryview, parsed: ForeignCodec) -> tuple[tuple[int, ...], np.dtype]:
    shape, dtype, _, start = _npy_head(view, parsed)
    if dtype.hasobject:
        raise CorruptError("npy of Python objects: reading it means unpickling, which is refused")
    if math.prod(shape) * dtype.itemsize != len(view) - start:
        raise CorruptError(
            f"npy of {shape} {dtype} should have {math.prod(shape) * dtype.itemsize} bytes of "
            f"pixels, it has {len(view) - start}"
        )
    return shape, dtype


def _npy_decode(view: memoryview, parsed: ForeignCodec, target: np.ndarray) -> None:
    shape, dtype, fortran, start = _npy_head(view, parsed)
    flat = np.frombuffer(view[start:], dtype=dtype)
    target[...] = flat.reshape(shape, order="F" if fortran else "C")


def _tensor(view: memoryview, parsed: ForeignCodec) -> tuple[tuple[int, ...], np.dtype, int, int]:
    length = int.from_bytes(view[:8], "little")
    if len(view) < 8 or length > min(_TENSORS_HEADER, len(view) - 8):
        raise CorruptError(f"safetensors header of {length} bytes in a member of {len(view)}")
    try:
        header = json.loads(bytes(view[8 : 8 + length]))
        about = header[parsed.part]
        shape, kind = about["shape"], _TENSOR_TYPES[about["dtype"]]
        begin, end = about["data_offsets"]
        whole = all(type(value) is int for value in (*shape, begin, end))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CorruptError(f"safetensors header without a readable {parsed.part!r}") from None
    dtype = np.dtype(kind).newbyteorder("<")
    start = 8 + length
    if (
        not whole
        or any(not 0 < side < 2**31 for side in shape)
        or not 0 <= begin <= end <= len(view) - start
        or end - begin != math.prod(shape) * dtype.itemsize
    ):
        raise CorruptError(f"safetensors {parsed.part!r}: its range and shape do not fit")
    return tuple(shape), dtype, start + begin, start + end


def _tensor_describe(view: memoryview, parsed: ForeignCodec) -> tuple[tuple[int, ...], np.dtype]:
    return _tensor(view, parsed)[:2]


def _tensor_decode(view: memoryview, parsed: ForeignCodec, target: np.ndarray) -> None:
    shape, dtype, begin, end = _tensor(view, parsed)
    target[...] = np.frombuffer(view[begin:end], dtype=dtype).reshape(shape)


def _zarr_describe(view: memoryview, parsed: ForeignCodec) -> tuple[tuple[int, ...], np.dtype]:
    info = ZipStore(view).info(str(parsed.part))
    if info.dtype.kind not in "biuf":
        raise CorruptError(f"{parsed.part}: dtype {info.dtype} is not read")
    return info.shape, info.dtype


def _zarr_decode(view: memoryview, parsed: ForeignCodec, target: np.ndarray) -> None:
    store = ZipStore(view)
    info = store.info(str(parsed.part))
    if target.flags.c_contiguous and info.dtype == target.dtype:
        store.decode_into(info, target)
        return
    plain = np.empty(info.shape, info.dtype)
    store.decode_into(info, plain)
    target[...] = plain


def _tiff(view: memoryview) -> Any:
    """Open a TIFF in memory; only GDAL's TIFF driver may look at the bytes."""
    import rasterio

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    if bytes(view[:4]) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise CorruptError("not a TIFF")
    memory = rasterio.MemoryFile(bytes(view))
    try:
        source = memory.open(driver="GTiff")
    except rasterio.errors.RasterioError as error:
        memory.close()
        raise CorruptError(f"TIFF: {' '.join(str(error).split())[:120]}") from None
    return memory, source


def _tiff_check(source: Any) -> tuple[tuple[int, ...], np.dtype]:
    if len(set(source.dtypes)) != 1:
        raise CorruptError(f"TIFF with bands of several types {sorted(set(source.dtypes))}")
    try:
        dtype = np.dtype(source.dtypes[0])
    except TypeError:
        raise CorruptError(f"TIFF of {source.dtypes[0]} is not read") from None
    sides = [side for shape in source.block_shapes for side in (math.prod(shape),)]
    if max(sides) * dtype.itemsize > _TIFF_BLOCK:
        raise CorruptError(f"TIFF with blocks of {max(sides)} pixels, more than is read")
    return (source.count, source.height, source.width), dtype


def _tiff_describe(view: memoryview, parsed: ForeignCodec) -> tuple[tuple[int, ...], np.dtype]:
    memory, source = _tiff(view)
    with memory, source:
        return _tiff_check(source)


def _tiff_decode(view: memoryview, parsed: ForeignCodec, target: np.ndarray) -> None:
    import rasterio

    memory, source = _tiff(view)
    with memory, source:
        shape, dtype = _tiff_check(source)
        if target.flags.c_contiguous and dtype == target.dtype:
            into = target.reshape(shape)
        else:
            into = np.empty(shape, dtype)
        try:
            source.read(out=into)
        except rasterio.errors.RasterioError as error:
            raise CorruptError(f"TIFF: {' '.join(str(error).split())[:120]}") from None
        if not np.may_share_memory(into, target):
            target[...] = into


_DESCRIBE = {
    "foreign-npy": _npy_describe,
    "tif": _tiff_describe,
    "zarr.zip": _zarr_describe,
    "safetensors": _tensor_describe,
}
_DECODE = {
    "foreign-npy": _npy_decode,
    "tif": _tiff_decode,
    "zarr.zip": _zarr_decode,
    "safetensors": _tensor_decode,
}
