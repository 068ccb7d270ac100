"""Foreign members into arrays: what they say they hold, and decoding straight into a buffer.

`describe` reads headers only. `decode_foreign` has the contract of the `decode_into` of
`shards.codecs.codec`: the caller's array has the shape and dtype of the index, and bytes that hold
anything else are a `CorruptError`. Axes of length 1 may be added or left out ([1, C, H, W] is read
as [C, H, W]): the bytes are the same. Booleans come out as uint8, big-endian numbers in native
order.
"""

import contextlib
import functools
import io
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from shards.codecs.codec import CorruptError, array_bytes
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


Opened = tuple[tuple[int, ...], np.dtype, Callable[[np.ndarray], None]]
"""Shape and dtype as stored, and a function that decodes into an array of that shape."""


def describe(data: Any, codec: str) -> tuple[tuple[int, ...], str]:
    """Return `(shape, dtype name)` that a member says it holds, after turning its axes.

    Args:
        data: the member's bytes (any buffer).
        codec: a foreign codec name (`shards.foreign.names`).

    Raises:
        CorruptError: it is not such a member, or larger than we store.
    """
    parsed = parse(codec)
    with contextlib.ExitStack() as stack:
        shape, dtype, _ = _OPEN[parsed.family](memoryview(data), parsed, stack)
    return _turned(shape, parsed), _stored(shape, dtype)


def decode_foreign(data: Any, codec: str, out: np.ndarray) -> None:
    """Decode a foreign member straight into a buffer.

    Args:
        data: the member's bytes (any buffer).
        codec: a foreign codec name (`shards.foreign.names`).
        out: C-contiguous array of the expected shape and dtype; overwritten.

    Raises:
        CorruptError: the bytes do not hold exactly such an array.
    """
    _decode(parse(codec), data, out)


def _decode(parsed: ForeignCodec, data: Any, out: np.ndarray) -> None:
    with contextlib.ExitStack() as stack:
        shape, dtype, read = _OPEN[parsed.family](memoryview(data), parsed, stack)
        turned, name = _turned(shape, parsed), _stored(shape, dtype)
        if _long(turned) != _long(out.shape) or name != out.dtype.name:
            raise CorruptError(f"it holds {name} {turned}, the index says {out.dtype} {out.shape}")
        target = out.reshape(turned)
        if parsed.turn is None:
            read(target)
        else:
            read(target.transpose(np.argsort(parsed.turn)))


def decoder(codec: str) -> Callable[[Any, np.ndarray], None]:
    """Return `decode_foreign` for one codec, as a decoder of `shards.codecs.codec` is called."""
    return functools.partial(_decode, parse(codec))


def _turned(shape: tuple[int, ...], parsed: ForeignCodec) -> tuple[int, ...]:
    if parsed.turn is None:
        return shape
    if len(shape) != len(parsed.turn):
        raise CorruptError(f"it has {len(shape)} axes, {len(parsed.turn)} are declared")
    return tuple(shape[axis] for axis in parsed.turn)


def _stored(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Return the dtype that comes out, having bounded the size."""
    if dtype.hasobject:
        raise CorruptError("Python objects: reading them means unpickling, which is refused")
    name = "uint8" if dtype.kind == "b" else dtype.newbyteorder("=").name
    if name not in DTYPES:
        raise CorruptError(f"dtype {dtype} is not read")
    array_bytes(tuple(side for side in shape if side != 1) or (1,), name)
    return name


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _npy(view: memoryview, parsed: ForeignCodec, stack: contextlib.ExitStack) -> Opened:
    stream = io.BytesIO(bytes(view[:_NPY_HEADER]))
    try:
        version = np.lib.format.read_magic(stream)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = readers[version](stream, max_header_size=_NPY_HEADER)
    except Exception as error:  # the header is a Python literal: it can fail in any way
        raise CorruptError(f"not a readable npy header ({type(error).__name__})") from None
    start, size = stream.tell(), math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != len(view) - start:
        raise CorruptError(
            f"npy of {shape} {dtype} needs {size} bytes of pixels, it has {len(view) - start}"
        )

    def read(target: np.ndarray) -> None:
        flat = np.frombuffer(view[start:], dtype=dtype)
        target[...] = flat.reshape(shape, order="F" if fortran else "C")

    return tuple(int(side) for side in shape), dtype, read


def _tensor(view: memoryview, parsed: ForeignCodec, stack: contextlib.ExitStack) -> Opened:
    length = int.from_bytes(view[:8], "little")
    if len(view) < 8 or length > min(_TENSORS_HEADER, len(view) - 8):
        raise CorruptError(f"safetensors header of {length} bytes in a member of {len(view)}")
    try:
        header = json.loads(bytes(view[8 : 8 + length]))
        about = header[parsed.part]
        shape, kind = tuple(about["shape"]), _TENSOR_TYPES[about["dtype"]]
        begin, end = about["data_offsets"]
        whole = all(type(value) is int for value in (*shape, begin, end))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CorruptError(f"safetensors header without a readable {parsed.part!r}") from None
    dtype, body = np.dtype(kind).newbyteorder("<"), view[8 + length :]
    if (
        not whole
        or any(not 0 < side < 2**31 for side in shape)
        or not 0 <= begin <= end <= len(body)
        or end - begin != math.prod(shape) * dtype.itemsize
    ):
        raise CorruptError(f"safetensors {parsed.part!r}: its range and shape do not fit")

    def read(target: np.ndarray) -> None:
        target[...] = np.frombuffer(body[begin:end], dtype=dtype).reshape(shape)

    return shape, dtype, read


def _zarr(view: memoryview, parsed: ForeignCodec, stack: contextlib.ExitStack) -> Opened:
    store = ZipStore(view)
    info = store.info(str(parsed.part))
    if info.dtype.kind not in "biuf":
        raise CorruptError(f"{parsed.part}: dtype {info.dtype} is not read")

    def read(target: np.ndarray) -> None:
        if target.flags.c_contiguous and info.dtype == target.dtype:
            store.decode_into(info, target)
            return
        plain = np.empty(info.shape, info.dtype)
        store.decode_into(info, plain)
        target[...] = plain

    return info.shape, info.dtype, read


@functools.cache
def _rasterio() -> Any:
    import rasterio

    # patches in tars are often without a place; that is no news to the reader
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


def _tiff(view: memoryview, parsed: ForeignCodec, stack: contextlib.ExitStack) -> Opened:
    rasterio = _rasterio()
    if bytes(view[:4]) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise CorruptError("not a TIFF")
    memory = stack.enter_context(rasterio.MemoryFile(bytes(view)))
    try:  # no other driver of GDAL may look at the bytes
        source = stack.enter_context(memory.open(driver="GTiff"))
        dtype = np.dtype(source.dtypes[0])
    except (rasterio.errors.RasterioError, TypeError) as error:
        raise CorruptError(f"TIFF: {' '.join(str(error).split())[:120]}") from None
    if len(set(source.dtypes)) != 1:
        raise CorruptError(f"TIFF with bands of several types {sorted(set(source.dtypes))}")
    block = max(math.prod(shape) for shape in source.block_shapes) * dtype.itemsize
    if block > _TIFF_BLOCK:
        raise CorruptError(f"TIFF with blocks of {block} bytes, more than is read")

    def read(target: np.ndarray) -> None:
        direct = target.flags.c_contiguous and dtype == target.dtype
        into = target if direct else np.empty(target.shape, dtype)
        try:
            source.read(out=into)
        except rasterio.errors.RasterioError as error:
            raise CorruptError(f"TIFF: {' '.join(str(error).split())[:120]}") from None
        if not direct:
            target[...] = into

    return (source.count, source.height, source.width), dtype, read


def tiff_tags(view: memoryview) -> list[tuple[float, float, float | None, str | None]]:
    """Return GDAL's scale, offset, no-data number and unit of every band of a TIFF.

    Raises:
        CorruptError: GDAL cannot open it.
    """
    rasterio = _rasterio()
    try:
        with rasterio.MemoryFile(bytes(view)) as memory, memory.open(driver="GTiff") as source:
            parts = (source.scales, source.offsets, source.nodatavals, source.units)
            return list(zip(*parts, strict=True))
    except rasterio.errors.RasterioError as error:
        raise CorruptError(f"TIFF: {' '.join(str(error).split())[:120]}") from None


_OPEN: dict[str, Callable[[memoryview, ForeignCodec, contextlib.ExitStack], Opened]] = {
    "foreign-npy": _npy,
    "safetensors": _tensor,
    "tif": _tiff,
    "zarr.zip": _zarr,
}
