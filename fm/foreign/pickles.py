"""What a pickle may name and how much it may make, looked at before any of it is run.

torch's `weights_only` runs no foreign code, but among what it allows are constructors that make as
much as they are told to: `bytearray(10**11)`, in a file of 60 bytes, takes 100 GB; so do
`torch.FloatTensor` and codecs that are applied to their own output. So the operations are read
first (`pickletools`, which runs nothing), and only names that weight files need are let through.
"""

import argparse
import codecs
import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from fm.foreign.stack import RefusedError, Stack

MAX_PICKLE = 64 << 20
"""Bytes of a pickle: of a ViT-g with its optimizer state it is 1 MB."""
MAX_OPERATIONS = 2_000_000
"""An operation of one byte makes an object of up to 250; a ViT-g with its optimizer has 200,000."""

_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
NAMES = frozenset(
    {
        *(f"torch._utils {name}" for name in _TENSORS),
        "torch._tensor _rebuild_from_type_v2",
        "torch.nn.parameter Parameter",
        "torch Tensor",
        "torch Size",
        "torch device",
        "collections OrderedDict",
        "collections Counter",
        "collections defaultdict",
        "builtins set",
        "__builtin__ set",
        "builtins complex",
        "__builtin__ complex",
        "builtins dict",
        "__builtin__ dict",
        "_codecs encode",
        "argparse Namespace",
        "numpy dtype",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
    }
)
_KINDS = re.compile(r"torch(\.cuda)? \w+Storage|torch (bfloat16|u?int\d+|float\w+|complex\d+|bool)")
_NAMERS = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4")
_LEGACY = 5
"""Pickles that torch's older files begin with."""
_NUMBER = frozenset(("PROTO", "BININT", "BININT1", "BININT2", "LONG1", "STOP"))
"""Operations of the first two, which torch writes into its error where they are others."""


class NumpyKind:
    """Stands for `numpy.dtype` in a pickle: of plain numbers alone."""

    def __init__(self, text: str, align: bool = False, copy: bool = False) -> None:
        del align, copy
        if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?[fiubc]\d{1,2}", text):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of no plain number")
        self.kind = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order and nothing else of what numpy stores."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.kind = self.kind.newbyteorder(state[1])


def numpy_number(kind: NumpyKind, data: bytes = b"") -> Any:
    """Stands for numpy's `scalar` in a pickle: a plain number.

    Raises:
        UnpicklingError: the bytes are not one number of that kind.
    """
    if not isinstance(kind, NumpyKind) or len(data) != kind.kind.itemsize:
        raise pickle.UnpicklingError("GLOBAL numpy.core.multiarray.scalar of no plain number")
    return np.frombuffer(data, kind.kind)[0].item()


ALLOWED: list[Callable | tuple[Callable, str]] = [
    argparse.Namespace,
    (NumpyKind, "numpy.dtype"),
    (numpy_number, "numpy.core.multiarray.scalar"),
    (numpy_number, "numpy._core.multiarray.scalar"),
]
"""What a pickle may name besides torch's own: the settings of MAE's descendants, and numbers that
Lightning kept as numpy's. For `torch.serialization.safe_globals`, while one file is read."""


def check_pickles(path: Path) -> None:
    """Refuse a torch file whose pickles name or make what no weight file needs.

    Args:
        path: of a zip archive or an older file, told apart as torch does, by its first bytes.

    Raises:
        FMError: a name that is not allowed, too long a pickle, too many operations, or a pickle
            that cannot be looked through to its end.
    """
    with open(path, "rb") as stream:
        if stream.read(4) == b"PK\x03\x04":
            for data, records in _archived(path):
                _check(data, path, 1, records)
            return
        stream.seek(0)
        _check(stream.read(MAX_PICKLE), path, _LEGACY, None)


def _archived(path: Path) -> Iterator[tuple[bytes, frozenset[str]]]:
    """Yield every pickle of an archive, and the keys of the storages beside it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for item in archive.infolist():
            folder, _, name = item.filename.rpartition("/")
            # torch looks the name up in any case
            if name.lower() == "data.pkl":
                if item.file_size > MAX_PICKLE:
                    raise FMError(f"{path}: its pickle has {item.file_size:,} bytes; refused")
                beside = f"{folder}/data/"
                records = (n.removeprefix(beside) for n in names if n.startswith(beside))
                yield archive.read(item), frozenset(records)


def _check(data: bytes, path: Path, count: int, records: frozenset[str] | None) -> None:
    stream, operations, encodes = io.BytesIO(data), 0, False
    words: list[str] = []
    for number in range(count):
        stack, plain = Stack(len(data), records), True
        try:
            for operation, argument, _ in pickletools.genops(stream):
                operations += 1
                if operations > MAX_OPERATIONS:
                    raise FMError(
                        f"{path}: refused: above {MAX_OPERATIONS:,} operations in its pickle, "
                        f"which no weight file needs"
                    )
                if operation.name in _NAMERS:
                    raise _refused(path, _last(words))
                if operation.name == "GLOBAL":
                    name = str(argument)
                    if name not in NAMES and not _KINDS.fullmatch(name):
                        raise _refused(path, name.replace(" ", "."))
                    encodes |= name == "_codecs encode"
                elif isinstance(argument, str) and len(argument) <= 100:
                    words.append(argument)
                stack.step(operation.name, argument)
                plain &= operation.name in _NUMBER
            if stack.unread:
                raise RefusedError(f"holds the operation {stack.unread}")
            if count == _LEGACY and number < 2 and not plain:
                raise ValueError("it begins with none of torch's numbers")
        except RefusedError as error:
            raise FMError(
                f"{path}: refused, nothing of it was run: the pickle {error}, which no weight file "
                f"needs"
            ) from None
        except (LookupError, ValueError, EOFError, UnicodeDecodeError) as error:
            if isinstance(error, FMError):
                raise
            line = str(error).splitlines()[0][:200] if str(error) else "it ends too early"
            where = f"pickle {number + 1} of {count}, " if number else ""
            raise FMError(f"{path}: not a weight file that can be read ({where}{line})") from None
    if encodes and (word := next((w for w in words if _grows(w)), None)):
        raise _refused(path, f"the codec {word}, which can be applied to its own output")


def _grows(word: str) -> bool:
    """Say whether a word is a codec from bytes to bytes."""
    try:
        return not codecs.lookup(word)._is_text_encoding
    except (LookupError, ValueError):
        return False


def _last(words: list[str]) -> str:
    return ".".join(words[-2:]) or "a class"


def _refused(path: Path, what: str) -> FMError:
    return FMError(
        f"{path}: refused, nothing of it was run: the pickle names {what}; only tensors, plain "
        f"values, numpy's numbers and argparse.Namespace are read. Save its state dict as "
        f"safetensors"
    )
