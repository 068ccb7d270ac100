"""Arrays to bytes and back: `.npy`, or Blosc through numcodecs, whose decoder frees the GIL.

A Blosc member is the raw C-order pixels; its shape and dtype stand in the index and in
`KEY.json`, and its own header says how it was packed, so a reader needs the codec's name alone.
No pickles. Every size is known and bounded before memory is allocated or a decoder runs, so a
damaged or hostile header costs an error, not memory.

The settings below are the best of `python -m bench codecs`; see `docs/codecs.md`.
"""

import functools
import io
import json
import math
import struct
import threading
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import xxhash
from numcodecs import blosc

from fm.errors import FMError, UsageError, suggest
from shards.foreign.names import is_foreign
from shards.format import CODECS, DTYPES

MAX_BYTES = 2**31 - 17
"""Largest decoded member; the limit of the Blosc container."""
_NPY_HEADER = 4096
_ENDINGS = ("npy", "blosc", "mkv")
_ELSEWHERE = {"mkv": "shards.codecs.video"}
"""Endings whose `decode_into(data, out)` is imported when such a member is first met."""


class CorruptError(Exception):
    """Bytes that are not what the index promised; the text says how."""


@dataclass(frozen=True)
class Blosc:
    """How an array is packed. Only the encoder needs it.

    Attributes:
        compressor: of Blosc; `lz4hc` packs slowly and unpacks as `lz4`.
        shuffle: `none`, `byte` (the first bytes of all elements, then the second ones, ...) or
            `bit`.
        level: 1 to 9.
        block: bytes that are packed together; 0 lets Blosc choose.
    """

    compressor: str
    shuffle: str
    level: int
    block: int = 0


_SHUFFLES = {"none": blosc.NOSHUFFLE, "byte": blosc.SHUFFLE, "bit": blosc.BITSHUFFLE}
_LZ4 = {size: Blosc("lz4", "bit" if size == 2 else "byte", 9) for size in (1, 2, 4, 8)}
_LZ4HC = dict.fromkeys((1, 2, 4, 8), Blosc("lz4hc", "byte", 7))
_ZSTD = dict.fromkeys((1, 2, 4, 8), Blosc("zstd", "byte", 6))
_BLOSC = {"blosc-lz4": _LZ4, "blosc-lz4hc": _LZ4HC, "blosc-zstd": _ZSTD}
"""Codec, then bytes of an element: the settings."""

AUTO = "auto"
DEFAULTS = dict.fromkeys(DTYPES, "blosc-lz4hc")
"""What `auto` means for each dtype."""


def choose(codec: str, dtype: str) -> str:
    """Return the codec that is written and recorded: `auto` becomes the dtype's default.

    Raises:
        UsageError: an unknown codec.
    """
    if codec == AUTO:
        return DEFAULTS[dtype]
    if codec not in CODECS:
        raise UsageError(f"unknown codec {codec!r}; {suggest(str(codec), [AUTO, *CODECS])}")
    return codec


def settings(codec: str, dtype: str) -> dict[str, Any]:
    """Return what the encoder is told for a codec and a dtype, for the provenance (JSON)."""
    codec = choose(codec, dtype)
    if codec not in _BLOSC:
        return {"codec": codec}
    packed = _BLOSC[codec][np.dtype(dtype).itemsize]
    return {
        "codec": codec,
        "compressor": packed.compressor,
        "shuffle": packed.shuffle,
        "level": packed.level,
        "block": packed.block or "auto",
    }


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
        codec: `npy` or a Blosc codec of `shards.format.CODECS`, or `auto`. (A video is written by
            `shards.codecs.video`, which says what it lost.)

    Raises:
        UsageError: a codec that is not written here.
    """
    codec = choose(codec, array.dtype.name)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if codec == "npy":
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
        return stream.getvalue()
    if codec not in _BLOSC:
        raise UsageError(f"codec {codec!r} does not write arrays; {suggest(codec, _BLOSC)}")
    return pack(array, _BLOSC[codec][array.dtype.itemsize])


def pack(array: np.ndarray, how: Blosc) -> bytes:
    """Pack a C-contiguous array into one Blosc buffer, the same bytes on every run."""
    words = (how.compressor.encode(), how.level, _SHUFFLES[how.shuffle], how.block)
    if threading.current_thread() is not threading.main_thread():
        return bytes(blosc.compress(array, *words))
    # On the main thread Blosc uses its own threads and then stores blocks in the order in which
    # they finish, so that the bytes differ from run to run. Elsewhere it runs alone anyway.
    before, blosc.use_threads = blosc.use_threads, False
    try:
        return bytes(blosc.compress(array, *words))
    finally:
        blosc.use_threads = before


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
    except (
        *(ValueError, KeyError, EOFError, TypeError, SyntaxError, tokenize.TokenError),
        *(MemoryError, OverflowError, RecursionError),  # of the expression in it
    ) as error:
        raise CorruptError(f"not a readable npy header ({type(error).__name__})") from None
    if fortran or dtype.byteorder == ">" or dtype.name not in DTYPES:
        raise CorruptError(f"npy of {dtype} ({'Fortran' if fortran else 'C'} order) is not read")
    return tuple(shape), dtype.name, stream.tell()


@functools.lru_cache(256)
def _usual_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    stream = io.BytesIO()
    about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


def decode_into(data: Any, ending: str, out: np.ndarray) -> None:
    """Decode a member straight into a buffer.

    Args:
        data: the member's bytes (`bytes`, or a buffer of single bytes).
        ending: `"npy"`, `"blosc"` or `"mkv"`.
        out: C-contiguous array of the expected shape and dtype; overwritten.

    Raises:
        CorruptError: the bytes do not hold exactly such an array.
    """
    decoder = _DECODERS.get(ending)
    if decoder is None:
        if is_foreign(ending):
            decoder = import_module("shards.foreign.members").decoder(ending)
        elif ending in _ELSEWHERE:
            decoder = import_module(_ELSEWHERE[ending]).decode_into
        else:
            raise CorruptError(f"unknown member ending {ending!r}")
        _DECODERS[ending] = decoder
    decoder(data, out)


# A small patch is decoded in microseconds, so nothing is looked up or parsed here that the usual
# case does not need (the name of a dtype alone takes longer than Blosc's own checks).
_blosc_header = struct.Struct("<4x3I").unpack_from


def _blosc_into(data: Any, out: np.ndarray) -> None:
    try:
        decoded, _, stored = _blosc_header(data)
    except struct.error:
        raise CorruptError(f"{len(data)} bytes are too few for Blosc") from None
    if decoded != out.nbytes or stored != len(data):
        raise CorruptError(
            f"Blosc header says {stored} to {decoded} bytes, expected {len(data)} to {out.nbytes}"
        )
    try:
        blosc.decompress(data, out)
    except (RuntimeError, ValueError) as error:
        raise CorruptError(f"Blosc: {error}") from None


def _npy_into(data: Any, out: np.ndarray) -> None:
    view = memoryview(data)
    usual = _usual_header(out.shape, out.dtype)
    if view[: len(usual)].tobytes() == usual:  # parsing costs more than copying a small patch
        start = len(usual)
    else:
        shape, dtype, start = npy_header(view)
        if shape != out.shape or dtype != out.dtype.name:
            raise CorruptError(f"npy holds {dtype} {shape}, the index says {out.dtype} {out.shape}")
    if len(view) - start != out.nbytes:
        raise CorruptError(f"npy holds {len(view) - start} bytes of pixels, not {out.nbytes}")
    np.copyto(out, np.ndarray(out.shape, out.dtype, view, start))


_DECODERS: dict[str, Callable[[Any, np.ndarray], None]] = {"npy": _npy_into, "blosc": _blosc_into}


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
        sample: what webdataset yields: `__key__`, `json` and one `MEMBER.blosc`, `MEMBER.npy` or
            `MEMBER.mkv` each, as bytes.

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
            elif ending in _ENDINGS and member in members:
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
