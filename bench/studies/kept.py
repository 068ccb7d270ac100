"""Parts of a study that are done stay done: kept by what they depend on, and used again."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.machine import ROOT
from fm.files import read_json, write_json


@dataclass(frozen=True)
class Part:
    """What one part of a study gave.

    Attributes:
        value: plain data.
        seconds: that it took.
        cpu: seconds of the processor, which other work on the machine hardly changes.
        again: it was made by an earlier call.
    """

    value: Any
    seconds: float
    cpu: float
    again: bool = False


def part(folder: Path, about: Mapping[str, Any], make: Callable[[], Any]) -> Part:
    """Make a part, or read what an earlier call made of the same.

    Args:
        folder: of the parts of one study.
        about: all that the part depends on, plain data; the code is added (`code_hash`).
        make: returns plain data.
    """
    told = json.dumps({"code": code_hash(), **about}, sort_keys=True)
    path = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"
    if path.is_file():
        found = read_json(path, "part of a study")
        return Part(found["value"], found["seconds"], found["cpu"], again=True)
    begun, worked = time.perf_counter(), time.process_time()
    value = make()
    seconds = round(time.perf_counter() - begun, 1)
    cpu = round(time.process_time() - worked, 1)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"about": dict(about), "value": value, "seconds": seconds, "cpu": cpu})
    return Part(value, seconds, cpu)


def once(path: Path, about: Mapping[str, Any], make: Callable[[], Any]) -> Path:
    """Make a file or folder, unless it is there and was made of the same.

    What it was made of lies beside it, in `NAME.made.json`. Where that is missing or says
    something else, what is there is removed and made anew.

    Args:
        path: what `make` writes.
        about: all that it depends on, plain data; the code is added (`code_hash`).
        make: writes it.
    """
    told = json.loads(json.dumps({"code": code_hash(), **about}))
    beside = path.with_name(f"{path.name}.made.json")
    if path.exists() and beside.is_file() and read_json(beside, "note of a study") == told:
        return path
    beside.unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make()
    write_json(beside, told)
    return path


@cache
def code_hash() -> str:
    """SHA-256 over the code that results come from, as it was at first: another judges again.

    The studies' own code counts, as their constants are settings too; their pages do not, which
    lay out what was found. `pretrain` does not: what it trained is known by its weights' hash.
    """
    digest = hashlib.sha256()
    for room in ("fm", "probes", "shards", "bench/studies"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if room == "bench/studies" and path.stem.endswith("page"):
                continue
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
