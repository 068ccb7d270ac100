"""Tensors out of a pickle without running it: an unpickler that looks nothing up.

`torch.save` writes a zip with one pickle of structure and one file a storage; `pickle.dump` of a
NumPy array writes a pickle alone. A pickle is a program that may call anything it can name, so
this unpickler looks names up in its own table and in no module: tensors, NumPy arrays, and
dictionaries and lists of them come out; any other name ends the reading. torch is not needed.
"""

import collections
import io
import itertools
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shards.codecs.codec import MAX_BYTES, CorruptError
from shards.format import DTYPES

MAX_PICKLE = 64 * 2**20
"""Most bytes of a pickle that is not an array's own data."""
MAX_ENTRIES = 100_000
MAX_DEPTH = 8
_STORAGES = {
    **{"ByteStorage": "uint8", "CharStorage": "int8", "ShortStorage": "int16"},
    **{"IntStorage": "int32", "LongStorage": "int64", "HalfStorage": "float16"},
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "BoolStorage": "bool"},
    **{"UInt16Storage": "uint16", "BFloat16Storage": "bfloat16"},
}


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a `.pth`, `.pt` or `.pkl` member by dotted name.

    A lone array has the name "". bfloat16 comes out as float32, which holds it exactly.

    Args:
        data: the member's bytes.

    Raises:
        CorruptError: it names something else than tensors and arrays, is damaged, or holds
            things that are no arrays.
    """
    found: dict[str, np.ndarray] = {}
    try:
        content = _load_zip(data) if data[:4] == b"PK\x03\x04" else _load_plain(data)
        _collect("", content, found, MAX_DEPTH, itertools.count())
    except CorruptError:
        raise
    except Exception as error:  # a pickle can be wrong in any way
        reason = f"{type(error).__name__}: {error}"[:160]
        raise CorruptError(f"not a readable pickle ({reason})") from None
    if not found:
        raise CorruptError("it holds no array")
    return found


def _collect(
    name: str, value: Any, found: dict[str, np.ndarray], depth: int, steps: Iterator[int]
) -> None:
    if depth < 0 or next(steps) > MAX_ENTRIES:  # few bytes can name one list a million times
        raise CorruptError(f"nested deeper than {MAX_DEPTH}, or more than {MAX_ENTRIES} entries")
    if isinstance(value, _Empty):
        value = value.array
    if isinstance(value, np.ndarray):
        if value.dtype.newbyteorder("=").name not in (*DTYPES, "bool"):
            raise CorruptError(f"{name or 'the array'} is {value.dtype}, which is not stored")
        found[name] = value
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(f"{name}.{key}" if name else str(key), item, found, depth - 1, steps)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _collect(f"{name}.{place}" if name else str(place), item, found, depth - 1, steps)
    else:
        raise CorruptError(f"{name or 'it'} is {type(value).__name__}, not an array")


class _Empty:
    """A NumPy array that is being filled by its pickled state."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise CorruptError("an array of Python objects")
        kind = dtype.value()
        if kind.hasobject or math.prod(shape) * kind.itemsize != len(raw):
            raise CorruptError("an array whose bytes do not fit its shape")
        flat = np.frombuffer(raw, kind)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """A NumPy dtype that is being filled by its pickled state."""

    def __init__(self, text: Any, *_: Any) -> None:
        self._text, self._order = str(text), "="

    def __setstate__(self, state: Any) -> None:
        self._order = str(state[1])
        if any(part is not None for part in state[2:5]):
            raise CorruptError("an array of records")

    def value(self) -> np.dtype:
        return np.dtype(self._text).newbyteorder(">" if self._order == ">" else "<")


class _Named(NamedTuple):
    """Stands for what a pickle names. Immutable: a pickle can set attributes of what it names."""

    name: str
    call: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self.call is None:
            raise CorruptError(f"it calls {self.name}")
        return self.call(*arguments)


def _reconstruct(*_: Any) -> _Empty:
    return _Empty()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise CorruptError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    if not isinstance(storage, np.ndarray):
        raise CorruptError("a tensor without a storage")
    sides = [*size, *stride, offset]
    if any(type(side) is not int or side < 0 for side in sides) or len(size) != len(stride):
        raise CorruptError("a tensor of an impossible shape")
    count = math.prod(size)
    if count * storage.itemsize > MAX_BYTES:
        raise CorruptError(f"a tensor of {count} numbers, more than is read")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if count and last >= storage.size:
        raise CorruptError("a tensor that reaches outside its storage")
    steps = [step * storage.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(storage[offset:] if count else storage[:0], size, steps)
    return np.ascontiguousarray(view)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Empty:
    made = _Empty()
    made.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return made


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "ndarray"): _Named("ndarray"),
    **{("torch", name): _Named(name) for name in _STORAGES},
    **{name: _Named(name[1], call) for name, call in _CALLS.items()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, storage: Callable[[Any], np.ndarray]) -> None:
        super().__init__(io.BytesIO(data))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise CorruptError(f"it names {module}.{name}, which may be code; it is refused")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        return self._storage(pid)


def _load_plain(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise CorruptError(f"a pickle of {len(data)} bytes, more than is read")
    return _Unpickler(data, _no_storage).load()


def _no_storage(pid: Any) -> NoReturn:
    raise CorruptError("an old torch file (before 1.6); save it again with a newer torch")


def _load_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        (main,) = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        folder = main.partition("/")[0]
        if len(names) > MAX_ENTRIES or archive.getinfo(main).file_size > MAX_PICKLE:
            raise CorruptError("a torch file with too many parts")
        order = f"{folder}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise CorruptError("a torch file in big-endian order")
        known: dict[str, np.ndarray] = {}

        def storage(pid: Any) -> np.ndarray:
            kind, marker, key, _, count = pid
            if kind != "storage" or getattr(marker, "name", None) not in _STORAGES:
                raise CorruptError("a reference that is no storage")
            entry = archive.getinfo(f"{folder}/data/{key}")
            dtype = _STORAGES[marker.name]
            width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
            if (
                entry.file_size != count * width
                or entry.file_size > MAX_BYTES
                or entry.compress_type
            ):
                raise CorruptError("a storage of another size than it says")
            if key not in known:
                raw = archive.read(entry)
                if dtype == "bfloat16":
                    wide = np.frombuffer(raw, "<u2").astype("<u4") << 16
                    known[key] = wide.view("<f4")
                else:
                    known[key] = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
            return known[key]

        return _Unpickler(archive.read(main), storage).load()
