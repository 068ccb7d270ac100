"""Tars with pickled members into tars with `.npy` members; the pickles are never run.

`KEY.s2.pth` becomes `KEY.s2.npy`, a dictionary of tensors one member a tensor
(`KEY.s2.NAME.npy`); every other member is copied as it is.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fm.console import progress
from fm.errors import FMError
from shards.codecs.codec import CorruptError
from shards.foreign.declare import is_pickle
from shards.foreign.fragment import MAX_MEMBER
from shards.foreign.keys import split_name
from shards.foreign.survey import find_tars
from shards.foreign.tar_scan import scan
from shards.foreign.torch_zip import arrays_of
from shards.sources.sensor_file import listed
from shards.storage.local import open_storage
from shards.tar import TarWriter


def convert(places: Sequence[str], out: str | os.PathLike[str]) -> list[Path]:
    """Write a copy of each tar in which pickles are `.npy` members.

    Args:
        places: tars or folders with tars.
        out: folder for the copies, with the names of the originals; copies that are there are
            left as they are, so that an interrupted run goes on.

    Returns:
        the copies.

    Raises:
        FMError: pickles that hold anything else than tensors and arrays, with the reason for each
            of the first 20; a tar with such a pickle is not written.
    """
    tars, out = find_tars(places), Path(out)
    storage = open_storage(tars.root)
    made, problems = [], list[str]()
    if os.path.abspath(tars.root) == os.path.abspath(out):
        raise FMError(f"{out}: the tars themselves lie here; name another folder")
    with progress("converting tars", len(tars.names)) as bar:
        for name in tars.names:
            target = out / name
            if not target.exists():
                problems += _convert(storage.local(name), name, target)
            made.append(target)
            bar.advance()
    storage.close()
    if problems:
        raise FMError(listed(problems))
    return made


def _convert(path: Path, name: str, target: Path) -> list[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    aside.unlink(missing_ok=True)
    problems: list[str] = []
    writer = TarWriter(aside)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for entry in scan(lambda o, n: os.pread(file.fileno(), n, o), size, name):
                if entry.size > MAX_MEMBER:
                    raise FMError(f"{name}: {entry.name} has {entry.size} bytes, too many")
                data = os.pread(file.fileno(), entry.size, entry.offset)
                try:
                    writer.add(_members(entry.name, data))
                except (CorruptError, FMError) as error:
                    problems.append(f"{name}: {entry.name}: {error}")
        writer.finish()
        if not problems:
            os.replace(aside, target)
    finally:
        writer.close()
        aside.unlink(missing_ok=True)
    return problems


def _members(name: str, data: bytes) -> list[tuple[str, bytes]]:
    base, ending = split_name(name)
    if not base or not is_pickle(ending):
        return [(name, data)]
    stem = ending.rpartition(".")[0]
    result = []
    for part, array in arrays_of(data).items():
        parts = [base, *(text for text in (stem, part.replace("/", "_")) if text), "npy"]
        result.append((".".join(parts), _npy(array)))
    return result


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
    return stream.getvalue()
