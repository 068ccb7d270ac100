"""Reading weight files of others without running what is in them."""

import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.foreign import onnx_files
from fm.foreign.networks import choose
from fm.foreign.pickles import ALLOWED, check_pickles

MAX_BYTES = 8 * 2**30
"""Bytes a file, and the tensors read from it, may have: a ViT-g in float32 with its optimizer
state is 14 GB, without it 5 GB. Raise it by `max_bytes=` for a file you trust."""
MAX_TENSORS = 20_000

WRAPPERS = ("model", "state_dict", "model_state_dict", "teacher", "student", "model_ema")
"""Entries of a file under which the weights are."""

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "teacher.", "student.", "pre.")
"""Prefixes of wrapping modules, taken off when every key has them (`pre`: AugNet's)."""

State = dict[str, Tensor]

_DAMAGED = (
    *(RuntimeError, EOFError, ValueError, LookupError, OSError, TypeError, AttributeError),
    *(AssertionError, ArithmeticError, struct.error),
)
"""What torch says to files that are none of its own."""


@dataclass(frozen=True)
class Reading:
    """Weights as found.

    Attributes:
        state: key to tensor, wrapping prefixes taken off.
        where: the file, for errors.
        sha256: of the file; empty for a state given in memory.
        part: entry of the file that held the weights; empty when the file is the weights.
        prefix: what was taken off every key of `state`.
        beside: other entries of the file, such as `optimizer`; not used.
        aliases: keys that repeated another key's tensor and were left out after comparing them.
        left: keys of other networks, projectors and queues, as in the file, with reason and shape.
        notes: what was chosen where there was a choice.
        settings: of Lightning's `hyper_parameters` the numbers and texts; empty where the file has
            none.
        epsilons: of an ONNX file, the name of each batch norm's weight to its epsilon.
    """

    state: State
    where: str
    sha256: str = ""
    part: str = ""
    prefix: str = ""
    beside: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    left: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    epsilons: dict[str, float] = field(default_factory=dict)


def read(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    part: str | None = None,
    network: str | None = None,
    whole: bool = False,
    max_bytes: int = MAX_BYTES,
    max_tensors: int = MAX_TENSORS,
) -> Reading:
    """Read a weight file, or take a state dict.

    Args:
        source: a safetensors or torch file, an ONNX file, whose graph is not run, or the dict
            itself. Of the ending only `.onnx` and `.safetensors` count, and neither is needed.
        part: which entry holds the weights, where there are several (`teacher`, which is taken
            when it lies beside `student`), or which network of a file with several
            (`encoder_k`, `backbone_1`; see `fm.foreign.networks`).
        network: which network, where the file holds several and `part` names none.
        whole: keep all networks of the file.
        max_bytes: limit of the file's size and of the tensors together.
        max_tensors: limit of their number.

    Returns:
        the weights, unwrapped, prefixes taken off, aliases compared and left out.

    Raises:
        FMError: no such file; too large; damaged; a pickle that names a class which is not
            allowed (nothing of it is run); no tensors; aliases that differ.
        UsageError: no such part, or it must be named.
    """
    epsilons: dict[str, float] = {}
    if isinstance(source, Mapping):
        where, digest, content = "the given state", "", dict(source)
    else:
        path = Path(source)
        where = str(path)
        if not path.is_file():
            raise FMError(f"{where}: no such file; give a safetensors or torch weight file")
        if path.stat().st_size > max_bytes:
            raise FMError(
                f"{where}: {path.stat().st_size:,} bytes, above the limit of {max_bytes:,}; "
                f"raise max_bytes if you trust the file"
            )
        digest = sha256_file(path)
        content, epsilons = _open(path, max_bytes)
    state, chosen, beside, entry = _unwrap(content, part, where)
    _limit(state, max_bytes, max_tensors, where)
    prefix = ""
    while found := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), ""):
        prefix += found
        state = {key.removeprefix(found): value for key, value in state.items()}
    notes = [f"weights of the file's {chosen}; also there: {entry}"] if entry else []
    left: dict[str, tuple[str, tuple[int, ...]]] = {}
    named = None if part is None or part == chosen else part
    one = None if whole else choose(state, named or network, where)
    if one is not None:
        left = {prefix + k: (why, tuple(state[k].shape)) for k, why in one.left.items()}
        state, prefix = one.state, prefix + one.prefix
        notes.append(one.note)
    elif named is not None:
        entries = [str(k) for k, v in content.items() if isinstance(v, Mapping)]
        raise UsageError(f"{where}: no part {named!r} with tensors; parts: {sorted(entries)}")
    state, aliases = _without_aliases(state, where)
    told = content.get("hyper_parameters")
    settings = _plain(told) if isinstance(told, Mapping) else {}
    return Reading(
        state,
        where,
        digest,
        chosen,
        prefix,
        beside,
        aliases,
        left,
        tuple(notes),
        settings,
        epsilons,
    )


FORMATS = {
    ".pb": "a TensorFlow graph",
    ".h5": "an HDF5 file of Keras",
    ".npz": "arrays of numpy",
    ".whl": "a wheel: unpack it, or fm models pull NAME --from it",
}
"""Files that are no torch or safetensors file, by suffix, and what they are."""
ONNX = b"\x08"
"""How an ONNX file without its ending is known: protobuf's tag of the version, which comes first.
No pickle begins so; a safetensors file may, whose first byte is of a length."""


def _open(path: Path, max_bytes: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what a file holds, and an ONNX file's epsilons of batch norms."""
    suffix = path.suffix.lower()
    if suffix in FORMATS:
        raise FMError(f"{path}: {FORMATS[suffix]}; safetensors, torch and ONNX files are read here")
    with open(path, "rb") as stream:
        start = stream.read(16)
    tensors_first = suffix == ".safetensors" or start[8:9] == b"{"
    if suffix == ".onnx" or (start.startswith(ONNX) and not tensors_first):
        tensors, epsilons = onnx_files.weights(path, max_bytes)
        return {"state_dict": tensors}, epsilons
    if tensors_first:
        try:
            with safe_open(str(path), framework="pt", device="cpu") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}, {}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise FMError(f"{path}: not a safetensors file ({error})") from None
    if start.startswith(b"PK\x03\x04") or zipfile.is_zipfile(path):
        _check_archive(path, max_bytes)
    check_pickles(path)
    try:
        with torch.serialization.safe_globals(ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(
            r"(?:type|class|instance) <?'?([\w.]+)", str(error)
        )
        what = f"names {named.group(1)}" if named else "holds more than tensors and plain values"
        raise FMError(
            f"{path}: refused, nothing of it was run: the pickle {what}; only tensors, plain "
            f"values, numpy's numbers and argparse.Namespace are read. Save its state dict as "
            f"safetensors"
        ) from None
    except _DAMAGED as error:
        line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FMError(f"{path}: not a weight file that can be read ({line})") from None
    if not isinstance(content, Mapping):
        raise FMError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors")
    _check_stored(content, path)
    return dict(content), {}


def _check_stored(content: Mapping[Any, Any], path: Path) -> None:
    """Refuse tensors of more bytes than the file has: nothing filled them."""
    rooms: dict[int, int] = {}
    for value in content.values():
        for tensor in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                rooms[storage.data_ptr()] = storage.nbytes()
    total, size = sum(rooms.values()), path.stat().st_size
    if total > size:
        raise FMError(f"{path}: tensors of {total:,} bytes in a file of {size:,}; damaged")


def _check_archive(path: Path, max_bytes: int) -> None:
    """Refuse archives that unpack to more than they say or hold: torch stores as it is.

    Entries that lie on each other would be read once each, so that a small file fills the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            items = archive.infolist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise FMError(f"{path}: a damaged archive ({error})") from None
    total = sum(item.file_size for item in items)
    if total > max_bytes:
        raise FMError(f"{path}: unpacks to {total:,} bytes, above the limit of {max_bytes:,}")
    if packed := next((i for i in items if i.compress_type != zipfile.ZIP_STORED), None):
        raise FMError(f"{path}: {packed.filename} is compressed; torch writes no such files")
    size = path.stat().st_size
    if total > size:
        raise FMError(f"{path}: says it unpacks to {total:,} bytes and has {size:,}; refused")
    if odd := next((i for i in items if i.filename != i.orig_filename), None):
        raise FMError(f"{path}: {odd.filename} has a second name, which others may go by; refused")
    if not _one_directory(path):
        raise FMError(f"{path}: a damaged archive (its list of entries is not at its end)")
    names = {item.filename.lower() for item in items}  # torch finds one of them in any case
    if len(names) < len(items) or min((i.header_offset for i in items), default=0):
        raise FMError(f"{path}: a damaged archive (entries of one name, or bytes before the first)")


def _one_directory(path: Path) -> bool:
    """Say whether an archive ends as torch writes it, so that all readers find one list of entries.

    Python looks for the list before the end of the file, torch at the place that the end tells.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        stream.seek(max(0, size - 98))
        tail = stream.read()
    end, locator, wide = tail[-22:], tail[-42:-22], tail[-98:-42]
    if not (end.startswith(b"PK\5\6") and end.endswith(b"\0\0")):
        return False  # no end, or a comment behind it
    length, start = struct.unpack("<II", end[12:20])
    place = size - 22
    if locator.startswith(b"PK\6\7"):
        place = size - 98
        if not wide.startswith(b"PK\6\6") or struct.unpack("<Q", locator[8:16])[0] != place:
            return False
        length, start = struct.unpack("<QQ", wide[40:56])
    return bool(start + length == place)


def _unwrap(
    content: dict[Any, Any], part: str | None, where: str
) -> tuple[State, str, tuple[str, ...], str]:
    """Return the weights, the entry they were in, the other entries, and one that was passed over.

    A `part` that is no entry is looked for among the networks later.
    """
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    inner = {
        str(k): v
        for k, v in content.items()
        if isinstance(v, Mapping) and any(isinstance(t, Tensor) for t in v.values())
    }
    passed = ""
    if part is not None and part in inner:
        chosen = part
    elif tensors and not any(name in inner for name in WRAPPERS):
        return tensors, "", tuple(sorted(str(k) for k in content if str(k) not in tensors)), ""
    else:
        known = [name for name in WRAPPERS if name in inner]
        if known == ["teacher", "student"]:
            # DINO's own evaluation and SSL4EO-S12's take the teacher
            known, passed = known[:1], "student"
        if len(known) > 1:
            raise FMError(f"{where}: weights in {', '.join(known)}; say which by part=")
        if not known:
            # one file, several modules: CROMA's five
            if not inner:
                raise FMError(f"{where}: no tensors in it (entries: {_some(content)})")
            state = {f"{n}.{k}": v for n, s in inner.items() for k, v in _flat(s).items()}
            return state, "", tuple(sorted(str(k) for k in content if str(k) not in inner)), ""
        chosen = known[0]
    return (
        _flat(inner[chosen]),
        chosen,
        tuple(sorted(str(k) for k in content if str(k) != chosen)),
        passed,
    )


def _flat(state: Mapping[Any, Any]) -> State:
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _plain(told: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what can be compared and written, which lists that hold each other cannot."""
    return {
        key: value
        for key, value in told.items()
        if isinstance(key, str) and (value is None or isinstance(value, (int, float, str)))
    }


def _limit(state: State, max_bytes: int, max_tensors: int, where: str) -> None:
    if not state:
        raise FMError(f"{where}: no tensors in it")
    if len(state) > max_tensors:
        raise FMError(f"{where}: {len(state):,} tensors, above the limit of {max_tensors:,}")
    total = 0
    seen: set[int] = set()
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise FMError(f"{where}: {key} is not a plain dense tensor")
        room = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > room:
            raise FMError(
                f"{where}: {key} says {list(value.shape)} but stores {room:,} bytes; damaged"
            )
        if value.untyped_storage().data_ptr() not in seen:
            seen.add(value.untyped_storage().data_ptr())
            total += room
    if total > max_bytes:
        raise FMError(f"{where}: {total:,} bytes of tensors, above the limit of {max_bytes:,}")


LIGHTNING = "encoder.vit."
_CANONICAL = LIGHTNING + "spec_vit."


def _without_aliases(state: State, where: str) -> tuple[State, dict[str, str]]:
    """Leave out the repeated names of SpectralEarth's Lightning files, after comparing them.

    lightly's wrapper registers the modules of `encoder.vit.spec_vit` again under other names
    (specification 3.7); a file where they differ was written by something else.
    """
    if not any(key.startswith(_CANONICAL) for key in state):
        return state, {}
    kept: State = {}
    aliases: dict[str, str] = {}
    for key, value in state.items():
        target = _alias_of(key)
        if target is None or target not in state:
            kept[key] = value
            continue
        other = state[target]
        if value.shape != other.shape or not torch.equal(value, other):
            raise FMError(
                f"{where}: {key} should repeat {target} and differs; say which is meant by "
                f"saving only one of them"
            )
        aliases[key] = target
    return kept, aliases


def _alias_of(key: str) -> str | None:
    if not key.startswith(LIGHTNING) or key.startswith(_CANONICAL):
        return None
    name = key.removeprefix(LIGHTNING)
    if name.startswith("vit_core."):
        return _CANONICAL + name
    if name.startswith("patch_embed.spectral_adapter."):
        return _CANONICAL + name.removeprefix("patch_embed.")
    if name.startswith("patch_embed."):
        part = name.removeprefix("patch_embed.").removeprefix("original_patch_embed.")
        return f"{_CANONICAL}vit_core.patch_embed.{part}"
    return f"{_CANONICAL}vit_core.{name}"


def _some(content: Mapping[Any, Any]) -> str:
    names = [str(key) for key in content]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"
