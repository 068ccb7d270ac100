"""Arrays to bytes and back: `.npy`, or Blosc through numcodecs, whose decoder frees the GIL.

A Blosc member is the raw C-order pixels; its shape and dtype stand in the index and in
`KEY.json`. No pickles. Every size is known and bounded before memory is allocated or a decoder
runs, so a damaged or hostile header costs an error, not memory.
"""

import functools
import io
import json
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import xxhash
from numcodecs import blosc

from fm.errors import FMError
from shards.format import DTYPES

MAX_BYTES = 2**31 - 17
"""Largest decoded member; the limit of the Blosc container."""
_BLOSC_HEADER = 16
_NPY_HEADER = 4096
_LEVEL = 5
_COMPRESSORS = {"blosc-lz4": b"lz4", "blosc-zstd": b"zstd"}


class CorruptError(Exception):
    """Bytes that are not what the index promised; the text says how."""


def checksum(data: Any) -> int:
    """Return the xxh3-64 of a bytes-like object."""
    return xxhash.xxh3_64_intdigest(data)


def array_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Return the decoded size in bytes of an array, refusing what we never store.

    Raises:
        CorruptError: an unknown dtype, an impossible shape, or more than `MAX_BYTES`.
    """
    if dtype not in DTYPES:
        raise CorruptError(f"dtype {dtype!r} is not allowed")
    if not 1 <= len(shape) <= 5 or any(not 0 < size < 2**31 for size in shape):
        raise CorruptError(f"shape {tuple(shape)} is not possible")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > MAX_BYTES:
        raise CorruptError(f"{size} decoded bytes, more than the limit of {MAX_BYTES}")
    return size


def encode(array: np.ndarray, codec: str) -> bytes:
    """Encode an array; the same array gives the same bytes on every run.

    Args:
        array: of a stored dtype, little-endian or native.
        codec: a name of `shards.format.CODECS`.
    """
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if codec == "npy":
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
        return stream.getvalue()

    def compress() -> bytes:
        return bytes(blosc.compress(array, _COMPRESSORS[codec], _LEVEL, blosc.BITSHUFFLE))

    # On the main thread Blosc uses its own threads and then stores blocks in the order in which
    # they finish, so that the bytes differ from run to run. Elsewhere it runs alone.
    if threading.current_thread() is threading.main_thread():
        with ThreadPoolExecutor(1) as alone:
            return alone.submit(compress).result()
    return compress()


def npy_header(data: Any) -> tuple[tuple[int, ...], str, int]:
    """Parse the head of a `.npy` member: `(shape, dtype name, offset of the pixels)`.

    Raises:
        CorruptError: not a version 1 or 2 header, Fortran order, or a dtype that is not stored.
    """
    stream = io.BytesIO(bytes(memoryview(data)[:_NPY_HEADER]))
    try:
        version = np.lib.format.read_magic(stream)
        readers: dict[tuple[int, int], Callable[..., Any]] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = readers[version](stream, max_header_size=_NPY_HEADER)
    except (ValueError, KeyError, EOFError, TypeError, SyntaxError) as error:
        raise CorruptError(f"not a readable npy header ({type(error).__name__})") from None
    if fortran or dtype.byteorder == ">" or dtype.name not in DTYPES:
        raise CorruptError(f"npy of {dtype} ({'Fortran' if fortran else 'C'} order) is not read")
    return tuple(shape), dtype.name, stream.tell()


@functools.lru_cache(256)
def _usual_header(shape: tuple[int, ...], dtype: str) -> bytes:
    stream = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


def decode_into(data: Any, ending: str, out: np.ndarray) -> None:
    """Decode a member straight into a buffer.

    Args:
        data: the member's bytes (any buffer).
        ending: `"npy"` or `"blosc"`.
        out: C-contiguous array of the expected shape and dtype; overwritten.

    Raises:
        CorruptError: the bytes do not hold exactly such an array.
    """
    view = memoryview(data)
    if ending == "npy":
        usual = _usual_header(out.shape, out.dtype.str)
        if view[: len(usual)] == usual:  # parsing costs more than copying a small patch
            shape, dtype, start = out.shape, out.dtype.name, len(usual)
        else:
            shape, dtype, start = npy_header(view)
        if shape != out.shape or dtype != out.dtype.name:
            raise CorruptError(f"npy holds {dtype} {shape}, the index says {out.dtype} {out.shape}")
        if len(view) - start != out.nbytes:
            raise CorruptError(f"npy holds {len(view) - start} bytes of pixels, not {out.nbytes}")
        out[...] = np.frombuffer(view[start:], dtype=out.dtype).reshape(shape)
        return
    if ending != "blosc":
        raise CorruptError(f"unknown member ending {ending!r}")
    if len(view) < _BLOSC_HEADER:
        raise CorruptError(f"{len(view)} bytes are too few for Blosc")
    decoded, _, stored = (int.from_bytes(view[at : at + 4], "little") for at in (4, 8, 12))
    if decoded != out.nbytes or stored != len(view):
        raise CorruptError(
            f"Blosc header says {stored} to {decoded} bytes, expected {len(view)} to {out.nbytes}"
        )
    try:
        blosc.decompress(view, out)
    except (RuntimeError, ValueError) as error:
        raise CorruptError(f"Blosc: {error}") from None


def decode(data: Any, ending: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Decode a member into a new array of a shape and dtype that are bounded first."""
    array_bytes(shape, dtype)
    out = np.empty(shape, dtype)
    decode_into(data, ending, out)
    return out


def webdataset_decode(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Decode one sample of a plain WebDataset pipeline over our tars.

        webdataset.WebDataset(urls, shardshuffle=False).map(shards.webdataset_decode)

    Args:
        sample: what webdataset yields: `__key__`, `json` and one `MEMBER.blosc` or `MEMBER.npy`
            each, as bytes.

    Returns:
        the same dictionary with an array under `MEMBER` and a dictionary under `json`.

    Raises:
        FMError: a member is damaged or fails its checksum.
    """
    key = sample.get("__key__", "?")
    try:
        about = json.loads(sample["json"])
        members = dict(about["members"])
        result: dict[str, Any] = {}
        for name, value in sample.items():
            member, _, ending = name.rpartition(".")
            if name == "json":
                result["json"] = about
            elif ending in ("npy", "blosc") and member in members:
                entry = members[member]
                if checksum(value) != int(entry["xxh3"], 16):
                    raise CorruptError("checksum mismatch")
                result[member] = decode(value, ending, tuple(entry["shape"]), str(entry["dtype"]))
            else:
                result[name] = value
    except (CorruptError, KeyError, TypeError, ValueError) as error:
        raise FMError(
            f"sample {key}: not a readable eofm sample ({type(error).__name__}: {error}); "
            "check the shards with `fm shards verify`"
        ) from None
    return result
